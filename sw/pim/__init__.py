"""Software of the PIM logic die: command lists, schedules and system models."""
