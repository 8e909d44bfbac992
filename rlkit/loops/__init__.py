"""Training loops, one file a way of learning."""
