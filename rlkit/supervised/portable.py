"""Supervised models as an export holds them."""

from __future__ import annotations

import keras
import tensorflow as tf

from rlkit.export.portable import Portable
from rlkit.networks.plain import plain
from rlkit.supervised.description import Facts


def of_supervised(network: keras.Model, facts: Facts) -> Portable:
    """A supervised model: pixels of images come as uint8, classes and characters leave as probabilities.

    Numbers leave in the unit that the targets had.
    """
    image, text = facts.kind == "classes" and len(facts.shape) == 3, facts.kind == "text"
    dtype = tf.uint8 if image else tf.int32 if text else tf.as_dtype(facts.dtype)
    shape = (None,) if text else facts.shape
    inputs = keras.Input(shape, dtype=dtype.name, name="inputs")
    x = keras.layers.Rescaling(1 / 255, name="pixels")(inputs) if image else inputs
    outputs = plain(network)(x)
    if facts.kind == "numbers":
        scale = keras.layers.Rescaling(facts.target_deviation, offset=facts.target_mean, name="unit")
        outputs = scale(outputs)
    else:
        outputs = keras.layers.Softmax(name="probabilities")(outputs)
    return Portable(
        keras.Model(inputs, outputs),
        {"inputs": tf.TensorSpec([None, *shape], dtype)},
        "predictions",
        "class" if facts.kind == "classes" else "",
        labels=facts.classes,
        fixed={"inputs": facts.shape},
    )
