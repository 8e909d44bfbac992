"""Keras networks and layers that agents share."""
