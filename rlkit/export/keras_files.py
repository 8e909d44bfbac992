"""Keras' own file: the model alone, from inputs to values; who loads it needs no rlkit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rlkit.export.portable import Arrays, Portable, Runtime, Settings

FILE = "model.keras"


def write(portable: Portable, folder: Path, settings: Settings) -> None:
    """Write model.keras."""
    del settings
    portable.model.save(folder / FILE)


@contextmanager
def opened(folder: Path, portable: Portable) -> Iterator[Runtime]:
    """As Keras loads it."""
    yield loaded(folder / FILE, portable)


def loaded(path: Path, portable: Portable) -> Runtime:
    """A file of Keras' with the outputs that a policy or a classifier adds to its model's."""
    function = replace(portable, model=keras.saving.load_model(path, compile=False, safe_mode=True)).function()

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        given = [tf.constant(inputs[name], spec.dtype) for name, spec in portable.inputs.items()]
        return {name: value.numpy() for name, value in function(*given).items()}

    return run
