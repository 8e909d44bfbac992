"""Layers that networks share.

Letters: B batch, A actions, H hidden units, D features, K atoms or quantiles of a return, N fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("rlkit")
class OneHot(keras.layers.Layer):
    """Whole numbers [B], counted from `start`, to rows of zeros with a one: [B, depth] float32."""

    def __init__(self, depth: int, start: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.depth, self.start = depth, start

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.one_hot(keras.ops.cast(inputs, "int32") - self.start, self.depth)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "depth": self.depth, "start": self.start}


@keras.saving.register_keras_serializable("rlkit")
class Dueling(keras.layers.Layer):
    """Q(a) = V + A(a) - mean A, from the value [B, 1] and the advantages [B, A]; of returns [B, 1, K] and [B, A, K].

    Wang et al. 2016, "Dueling network architectures for deep reinforcement learning", equation 9.
    """

    def call(self, value: keras.KerasTensor, advantages: keras.KerasTensor) -> keras.KerasTensor:
        return value + advantages - keras.ops.mean(advantages, axis=1, keepdims=True)


@keras.saving.register_keras_serializable("rlkit")
class Expectation(keras.layers.Layer):
    """Means [B, A] of returns whose K atoms lie evenly between two numbers, from their logits [B, A, K]."""

    def __init__(self, low: float, high: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        atoms = np.linspace(self.low, self.high, logits.shape[-1], dtype=np.float32)
        return keras.ops.sum(keras.ops.softmax(logits) * atoms, axis=-1)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "low": self.low, "high": self.high}


def midpoints(count: int) -> np.ndarray:
    """(k + 1/2) / count for k from 0: the fractions that stand for equal parts of [0, 1], [count] float32."""
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)


MIDPOINTS = 32
"""Fractions whose quantiles' mean is an action's value by the head iqn (K in Dabney et al. 2018b, section 4)."""

COSINES = 64
"""Cosines that a fraction is embedded by (n there)."""

EMBEDDING = "fraction_embedding"
"""Name of the layer that embeds fractions."""


def cosines(fractions: Any) -> Any:  # noqa: ANN401 - arrays or tensors
    """cos(pi i tau) for i from 0, [..., COSINES] of [...]."""
    return keras.ops.cos(np.arange(COSINES, dtype=np.float32) * np.float32(np.pi) * fractions[..., None])


@keras.saving.register_keras_serializable("rlkit")
class FractionEmbedding(keras.layers.Layer):
    """Features [B, D] times what fractions tau [B, N] are embedded as: a row for each, [B N, D].

    phi_j(tau) = ReLU(sum_i cos(pi i tau) w_ij + b_j): Dabney et al. 2018b, "Implicit quantile networks for
    distributional reinforcement learning", equation 4. Without fractions, for `midpoints` of `MIDPOINTS`.
    """

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:  # noqa: ANN401 - of any Keras layer
        super().__init__(autocast=False, **kwargs)  # of few bits, a fraction would be another one
        self.seed = seed

    def build(self, features_shape: tuple[int, ...], fractions_shape: tuple[int, ...] | None = None) -> None:
        del fractions_shape
        initializer = keras.initializers.LecunUniform(seed=self.seed)
        self.kernel = self.add_weight(shape=(COSINES, features_shape[-1]), initializer=initializer, name="kernel")
        self.bias = self.add_weight(shape=(features_shape[-1],), initializer="zeros", name="bias")

    def call(self, features: keras.KerasTensor, fractions: keras.KerasTensor | None = None) -> keras.KerasTensor:
        waves = cosines(midpoints(MIDPOINTS)[None] if fractions is None else fractions)  # [1 or B, N, COSINES]
        kernel, bias, waves, features = (
            keras.ops.cast(part, self.compute_dtype) for part in (self.kernel, self.bias, waves, features)
        )
        rows = features[:, None] * keras.ops.relu(keras.ops.matmul(waves, kernel) + bias)  # [B, N, D]
        return keras.ops.reshape(rows, (-1, self.kernel.shape[1]))

    def compute_output_shape(
        self, features_shape: tuple[int, ...], fractions_shape: tuple[int, ...] | None = None
    ) -> tuple[int | None, ...]:
        del fractions_shape
        return None, features_shape[-1]

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("rlkit")
class MidpointMean(keras.layers.Layer):
    """Means [B, A] of the quantiles of `MIDPOINTS` fractions, a row for each, [B MIDPOINTS, A]."""

    def call(self, quantiles: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.mean(keras.ops.reshape(quantiles, (-1, MIDPOINTS, quantiles.shape[-1])), axis=1)

    def compute_output_shape(self, quantiles_shape: tuple[int, ...]) -> tuple[int | None, ...]:
        return None, quantiles_shape[-1]


NARROW = 4
"""Most units of a layer whose gradient takes less time as sums over the batch than as products of matrices."""


@tf.custom_gradient
def narrow_product(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """x w for [B, H] and [H, A] with few columns A; its gradient is a sum for each of them."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        columns = [upstream[:, a : a + 1] for a in range(w.shape[1])]  # [B, 1] each
        to_x = tf.add_n([column * w[None, :, a] for a, column in enumerate(columns)])
        return to_x, tf.stack([tf.reduce_sum(x * column, axis=0) for column in columns], axis=1)

    return tf.matmul(x, w), gradient


@keras.saving.register_keras_serializable("rlkit")
class NarrowDense(keras.layers.Dense):
    """A linear dense layer of few units, with a faster gradient: matrix products are slow with so few columns."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return narrow_product(inputs, tf.convert_to_tensor(self.kernel)) + self.bias


@keras.saving.register_keras_serializable("rlkit")
class PatchConv2D(keras.layers.Conv2D):
    """A convolution without padding, stride 1, as one product of the patches' rows with the filters.

    For pictures of a few cells, inside XLA, whose convolutions on a CPU are slow: an update of `minatar_cnn` by 32
    transitions takes a quarter of the time that it takes with Keras' own layer there.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        (high, wide), (rows, columns) = self.kernel_size, inputs.shape[1:3]
        down, across = rows - high + 1, columns - wide + 1
        shifted = [inputs[:, i : i + down, j : j + across] for i in range(high) for j in range(wide)]
        patches = keras.ops.concatenate(shifted, axis=-1)  # [B, down, across, high wide C]
        kernel = keras.ops.reshape(self.kernel, (-1, self.filters))
        product = keras.ops.matmul(keras.ops.reshape(patches, (-1, patches.shape[-1])), kernel) + self.bias
        return self.activation(keras.ops.reshape(product, (-1, down, across, self.filters)))
