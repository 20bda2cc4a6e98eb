"""What a person looks at: diagrams, timelines, plots, wave views."""
