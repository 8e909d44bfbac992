"""The parallelised Q-network."""
