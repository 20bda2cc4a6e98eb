"""What people read of campaigns and hardenings: figures as JSON, pages of HTML."""
