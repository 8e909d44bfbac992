"""A layer, a loss and a metric of one's own beside Keras': the same numbers, also in training.

python -m rlkit.experiments.studies.custom_parts

Letters: B batch, D inputs, A classes.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("rlkit")
class Linear(keras.layers.Layer):
    """x w + b: [B, D] to [B, units]; as keras.layers.Dense without an activation.

    Args:
        units: outputs.
        initializer: of w, such as "zeros"; b begins at zero.
    """

    def __init__(
        self, units: int, initializer: str | keras.initializers.Initializer = "glorot_uniform", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.initializer = units, keras.initializers.get(initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer=self.initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.ops.matmul(inputs, self.kernel) + self.bias

    def get_config(self) -> dict[str, object]:
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "units": self.units, "initializer": initializer}


@keras.saving.register_keras_serializable("rlkit")
class MeanSquaredError(keras.losses.Loss):
    """mean (y - y')^2 over all numbers of an example, then over the batch; as keras.losses.MeanSquaredError."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return keras.ops.mean(keras.ops.square(y_pred - y_true), axis=-1)  # [B]


@keras.saving.register_keras_serializable("rlkit")
class SparseCategoricalAccuracy(keras.metrics.Metric):
    """Share of examples whose largest output is their class's; as keras.metrics.SparseCategoricalAccuracy."""

    def __init__(self, name: str = "accuracy", **kwargs: object) -> None:
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Count a batch: classes [B], outputs [B, A], and a weight for each example, [B], or 1."""
        best = keras.ops.argmax(y_pred, axis=-1)  # [B]
        right = keras.ops.cast(best == keras.ops.cast(y_true, "int32"), self.dtype)
        weights = keras.ops.ones_like(right) if sample_weight is None else keras.ops.cast(sample_weight, self.dtype)
        self.total.assign_add(keras.ops.sum(weights * right))
        self.count.assign_add(keras.ops.sum(weights))

    def result(self) -> tf.Tensor:
        return keras.ops.divide_no_nan(self.total, self.count)


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
