"""Pictures and videos of environments, solutions and learning curves."""
