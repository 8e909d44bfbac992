"""A layer, a loss and a metric of one's own beside Keras': the same numbers, also in training.

python -m rlkit.experiments.studies.custom_parts
"""

from __future__ import annotations

import keras
import numpy as np

from rlkit.custom import Linear, MeanSquaredError, SparseCategoricalAccuracy


def fitted(layer: keras.Layer, loss: keras.losses.Loss, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """The weights of a layer, from zero, after 50 updates by Keras' fit."""
    model = keras.Sequential([keras.Input((x.shape[1],)), layer])
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x, y, batch_size=len(x), epochs=50, verbose=0)
    weights: list[np.ndarray] = model.get_weights()
    return weights


def main() -> dict[str, float]:
    """Compare and print; the largest differences."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.25
    own = fitted(Linear(1, "zeros"), MeanSquaredError(), x, y)
    theirs = fitted(keras.layers.Dense(1, kernel_initializer="zeros"), keras.losses.MeanSquaredError(), x, y)
    classes, logits = rng.integers(0, 5, 64), rng.normal(size=(64, 5)).astype(np.float32)
    metrics = SparseCategoricalAccuracy(), keras.metrics.SparseCategoricalAccuracy()
    for metric in metrics:
        for part in np.split(np.arange(64), 4):
            metric.update_state(classes[part], logits[part])
    found = {
        "weights": max(float(np.abs(a - b).max()) for a, b in zip(own, theirs, strict=True)),
        "accuracy": abs(float(metrics[0].result()) - float(metrics[1].result())),
    }
    print("kernel " + ", ".join(f"{value:.4f}" for value in own[0].ravel()) + f", bias {own[1][0]:.4f}")
    print(f"from Keras' layer and loss: {found['weights']:.1e}; from its metric: {found['accuracy']:.1e}")
    return found


if __name__ == "__main__":
    main()
