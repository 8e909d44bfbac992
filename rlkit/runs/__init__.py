"""Run directories: files, checkpoints, metrics, curves, profiles."""
