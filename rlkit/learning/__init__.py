"""The mathematics of learning: agents' contracts, targets, schedules, exploration, optimizers."""
