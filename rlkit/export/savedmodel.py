"""SavedModel: what TensorFlow Serving and the C API load.

Under Keras 3 a SavedModel of a Keras model, or of anything that tracks one, loads in Python alone: the session loader,
which servers use, does not find its variables (keras-team/keras, issues 19274, 20095 and 20096). So the module that is
written holds TensorFlow's own variables, and the session loader is what checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlkit.export.portable import SERVING, Arrays, Portable, Runtime, Settings
from rlkit.quiet import quiet

FILE = "."

METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
"""Signatures of serialized tf.train.Example, and what a server knows them by."""


def write(portable: Portable, folder: Path, settings: Settings) -> None:
    """Write it with the signatures `serving_default`, all outputs, and `q_values` or `predictions`, these alone.

    Classes add `classify`, numbers `regress`, from serialized tf.train.Example with the feature `inputs`.
    """
    del settings
    signatures = {
        SERVING: portable.function(checks=True),
        portable.values: portable.function(only=portable.values, checks=True),
    }
    examples = _of_examples(portable)
    with quiet():
        tf.saved_model.save(portable.module(), str(folder), {**signatures, **examples})
        if examples:
            _name_methods(folder, examples)


def _of_examples(portable: Portable) -> dict[str, Any]:
    """The signature that takes serialized examples, if the model tells classes or a number."""
    if portable.values != "predictions" or not (portable.choice or portable.model.output_shape[1:] == (1,)):
        return {}
    spec = portable.inputs["inputs"]
    if spec.dtype == tf.float64:  # which an example does not hold
        return {}
    stored = tf.int64 if spec.dtype.is_integer else tf.float32
    features = {"inputs": tf.io.FixedLenFeature(spec.shape[1:], stored)}
    labels = tf.constant(portable.labels)

    def answer(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.cast(tf.io.parse_example(inputs, features)["inputs"], spec.dtype)
        scores = portable.respond(found)["predictions"]
        if not portable.labels:
            return {"outputs": scores[:, 0]}
        return {"scores": scores, "classes": tf.tile(labels[None], [tf.shape(scores)[0], 1])}

    name = "classify" if portable.labels else "regress"
    return {name: tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)}


def _name_methods(folder: Path, signatures: dict[str, Any]) -> None:
    """TensorFlow names every signature's method predict; a server wants the others by their names."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name in signatures:
        updater.replace_method_name(name, METHODS[name], tags="serve")
    updater.save()


@contextmanager
def opened(folder: Path, portable: Portable) -> Iterator[Runtime]:
    """By the session loader, as servers load it."""
    del portable
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        with quiet():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = loaded.signature_def[SERVING]
        fetches = {name: info.name for name, info in signature.outputs.items()}

        def run(inputs: Arrays) -> dict[str, np.ndarray]:
            fed = {signature.inputs[name].name: value for name, value in inputs.items()}
            found: dict[str, np.ndarray] = session.run(fetches, fed)
            return found

        yield run
