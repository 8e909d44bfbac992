"""Supervised learning: data sets, models, training."""
