"""Training: losses, objectives, schedules and callbacks."""
