"""Learning: what an agent is, targets, schedules, exploration, noise and optimizers."""
