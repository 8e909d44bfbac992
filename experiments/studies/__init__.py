"""Studies: one file a question, each prints its answer as a table."""
