"""A convolutional network on real digits, and what one convolution and one pooling compute, by hand.

python -m rlkit.experiments.studies.cnn
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np

from rlkit.api import fitting

EDGES = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
"""Sobel's kernel: how much brighter it gets from left to right."""


def convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Sums of products where the kernel lies within the image; [h, w] and [k, k] to [h - k + 1, w - k + 1]."""
    views = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)
    sums: np.ndarray = np.einsum("hwij,ij->hw", views, kernel)
    return sums


def pooled(image: np.ndarray) -> np.ndarray:
    """The largest of each 2 x 2 cells."""
    height, width = (n // 2 for n in image.shape)
    largest: np.ndarray = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).max(axis=(1, 3))
    return largest


def main(epochs: int = 8) -> dict[str, float]:
    """Compare and train; print, and return the differences from Keras' layers and the accuracy."""
    image = np.zeros((8, 8))
    image[:, 3:] = 1.0
    by_hand = convolved(image, EDGES)
    layer = keras.layers.Conv2D(1, 3, use_bias=False)
    layer.build((None, 8, 8, 1))
    layer.set_weights([EDGES[..., None, None]])
    by_keras = np.asarray(layer(image[None, ..., None]))[0, ..., 0]
    halves = np.asarray(keras.layers.MaxPooling2D()(by_keras[None, ..., None]))[0, ..., 0]
    print(f"an edge between columns 3 and 4, convolved: {by_hand[0].tolist()}")
    found = {
        "convolution": float(np.abs(by_hand - by_keras).max()),
        "pooling": float(np.abs(pooled(by_hand) - halves).max()),
    }
    print(f"Keras differs by {found['convolution']:.1e}, its pooling by {found['pooling']:.1e}")
    with tempfile.TemporaryDirectory() as folder:
        run = fitting.fit(
            "cnn", "digits", run_dir=Path(folder), epochs=epochs, filters=(16, 32), kernel_size=3, hidden=(64,),
            threads=1,
        )  # fmt: skip
        result = run.evaluate("last")
        print(f"{run.model().count_params():,} weights, {run.directory.info['seconds']:.1f} s", end=": ")
    print(f"accuracy {result['accuracy']:.4f} on {result['examples']} digits held out")
    return {**found, "accuracy": result["accuracy"]}


if __name__ == "__main__":
    main()
