"""Keras networks and layers that agents share.

Importing the package registers the layers with Keras, so that it finds them in a .keras file that was saved with them.
"""

from rlkit.networks import layers

__all__ = ["layers"]
