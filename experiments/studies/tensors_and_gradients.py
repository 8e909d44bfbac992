"""Derivatives by recording what is computed: of a square, and of a sum of squares by a matrix and a number.

python -m rlkit.experiments.studies.tensors_and_gradients
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Found(NamedTuple):
    """What the study computes."""

    square: float
    """Of x^2 at x = 3."""
    loss: float
    """sum (X w + b - y)^2."""
    by_w: list[float]
    by_b: float
    second: float
    """The second derivative of x^3 at x = 2, by a tape within a tape."""


def main() -> Found:
    """Compute and print."""
    x = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        y = tf.square(x)
    square = tape.gradient(y, x)

    inputs, targets = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([[1.0], [2.0]])
    w, b = tf.Variable([[1.0], [2.0]]), tf.Variable(1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(inputs @ w + b - targets))
    by_w, by_b = tape.gradient(loss, [w, b])

    z = tf.Variable(2.0)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            cube = z**3
        slope = inner.gradient(cube, z)
    second = outer.gradient(slope, z)

    found = Found(float(square), float(loss), by_w.numpy().ravel().tolist(), float(by_b), float(second))
    print(f"d x^2 / dx at 3: {found.square:g}")
    print(f"sum (X w + b - y)^2 = {found.loss:g}; by w {found.by_w}, by b {found.by_b:g}")
    print(f"d^2 x^3 / dx^2 at 2: {found.second:g}")
    return found


if __name__ == "__main__":
    main()
