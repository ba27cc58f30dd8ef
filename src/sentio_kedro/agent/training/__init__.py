"""Training of members and agents: schedule, checkpoints, validation."""
