"""The deep Q-network and its variants."""
