"""Linear regression by gradient descent: derivatives by hand in NumPy, by TensorFlow's tape, and by a model.

    python -m rlkit.experiments.studies.linear_regression

The prices of five years, years and prices scaled to between 0 and 1, y = a x + b, 10,000 steps of 5e-4 on the sum of
squares; then two rows of three numbers, 100 steps of 0.01 on their mean.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rlkit.api import fitting
from rlkit.experiments.studies.custom_parts import Linear, MeanSquaredError

YEARS = np.array([2013, 2014, 2015, 2016, 2017], np.float32)
PRICES = np.array([12000, 14000, 15000, 16500, 17500], np.float32)
STEPS, RATE = 10_000, 5e-4


def scaled(values: np.ndarray) -> np.ndarray:
    """To between 0 and 1."""
    result: np.ndarray = (values - values.min()) / (values.max() - values.min())
    return result


def by_hand(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """a and b, by the derivatives 2 sum (a x + b - y) x and 2 sum (a x + b - y)."""
    a = b = 0.0
    for _ in range(STEPS):
        errors = a * x + b - y
        a, b = a - RATE * 2 * float(errors @ x), b - RATE * 2 * float(errors.sum())
    return a, b


def by_tape(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The same by TensorFlow's tape and Keras' optimizer, the loop in one compiled function."""
    a, b = keras.Variable(0.0, name="a"), keras.Variable(0.0, name="b")
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build([a, b])

    @tf.function
    def descend() -> None:
        for _ in tf.range(STEPS):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(a * x + b - y))
            optimizer.apply(tape.gradient(loss, [a.value, b.value]), [a, b])

    descend()
    return float(a), float(b)


def by_command() -> tuple[float, float]:
    """The same as `rlkit fit linear --data house-prices` does it."""
    with tempfile.TemporaryDirectory() as folder:
        run = fitting.fit("linear", "house-prices", run_dir=Path(folder), threads=1)
        kernel, bias = run.model("last").get_layer("logits").get_weights()
    return float(kernel[0, 0]), float(bias[0])


def two_rows() -> tuple[list[float], float]:
    """Kernel and bias of a linear model of (1, 2, 3) -> 10 and (4, 5, 6) -> 20, whose weights begin at zero."""
    x, y = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), tf.constant([[10.0], [20.0]])
    model = keras.Sequential([keras.Input((3,)), Linear(1, "zeros")])
    optimizer, mean_square = keras.optimizers.SGD(0.01), MeanSquaredError()
    for _ in range(100):
        with tf.GradientTape() as tape:
            loss = mean_square(y, model(x))
        optimizer.apply(tape.gradient(loss, [v.value for v in model.weights]), model.trainable_variables)
    kernel, bias = model.get_weights()
    return kernel.ravel().tolist(), float(bias[0])


def main() -> dict[str, tuple[float, float]]:
    """Compute and print; a and b of each way."""
    x, y = scaled(YEARS), scaled(PRICES)
    least = np.polyfit(x, y, 1)
    found = {
        "NumPy, by hand": by_hand(x, y),
        "TensorFlow's tape": by_tape(x, y),
        "rlkit fit linear": by_command(),
        "least squares": (float(least[0]), float(least[1])),
    }
    for name, (a, b) in found.items():
        print(f"{name:<18} a = {a:.5f}  b = {b:.6f}")
    kernel, bias = two_rows()
    print("two rows: kernel " + ", ".join(f"{value:.4f}" for value in kernel) + f"; bias {bias:.4f}")
    return found


if __name__ == "__main__":
    main()
