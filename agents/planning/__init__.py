"""Planners of finite Markov decision processes."""
