"""Finite Markov decision processes: models, backups, bounds and solutions."""
