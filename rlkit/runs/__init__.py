"""Run directories: their files, checkpoints and digests, observers, curves and profiles."""
