"""Tabular learners."""
