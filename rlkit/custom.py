"""A layer, a loss and a metric written out, as examples of how Keras takes one's own; the models use them.

Letters: B batch, D inputs, A classes.
"""

from __future__ import annotations

import keras
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
        right = keras.ops.cast(correct(y_true, y_pred), self.dtype)  # [B]
        weights = keras.ops.ones_like(right) if sample_weight is None else keras.ops.cast(sample_weight, self.dtype)
        self.total.assign_add(keras.ops.sum(weights * right))
        self.count.assign_add(keras.ops.sum(weights))

    def result(self) -> tf.Tensor:
        return keras.ops.divide_no_nan(self.total, self.count)


def correct(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Whether each largest output is the class's: classes [...] and outputs [..., A] to [...] bool."""
    return keras.ops.argmax(y_pred, axis=-1) == keras.ops.cast(y_true, "int32")
