"""Networks that agents and supervised models share, as Keras models built on construction.

Letters: B batch, A actions, H hidden units, D observation's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium
import keras
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlkit.errors import UserError


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
    """Q(a) = V + A(a) - mean A, from the value [B, 1] and the advantages [B, A].

    Wang et al. 2016, "Dueling network architectures for deep reinforcement learning", equation 9.
    """

    def call(self, value: keras.KerasTensor, advantages: keras.KerasTensor) -> keras.KerasTensor:
        return value + advantages - keras.ops.mean(advantages, axis=-1, keepdims=True)


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


def q_network(  # noqa: PLR0913 - what an agent's fields say of its network
    observation_space: gymnasium.Space[Any],
    actions: int,
    *,
    hidden: Sequence[int] = (64, 64),
    dueling: bool = False,
    layer_norm: bool = False,
    lstm_units: int = 0,
    precision: str = "float32",
    seed: int = 0,
) -> keras.Model:
    """A network from a batch of observations to the value of each action, [B, A] float32.

    Observations are flattened; Discrete ones become one-hot, uint8 ones are scaled to [0, 1]. The hidden layers are
    dense with ReLU; `dueling` splits the last one in two streams. With `lstm_units` H a long short-term memory
    (Hochreiter and Schmidhuber 1997) stands before them, and the network is one step of a recurrent one: from the
    observations and what was remembered before them, [B, 2 H], to the values and what is remembered after them.

    Args:
        observation_space: Box or Discrete.
        actions: number of actions A.
        hidden: units of each hidden layer H.
        dueling: separate streams for value and advantage.
        layer_norm: normalise each hidden layer before its ReLU (Ba, Kiros and Hinton 2016).
        lstm_units: units of a long short-term memory; 0: none.
        precision: Keras' dtype policy of the hidden layers; weights, memory and values are float32 whatever it is.
        seed: the weights are a function of it.

    Raises:
        UserError: for any other observation space.
    """
    seeds = _seeds(seed, 2 * len(hidden) + 4)
    inputs, x = observation_input(observation_space)
    if len(x.shape) != 2:
        x = keras.layers.Reshape((math.prod(x.shape[1:]),), name="flat")(x)  # [B, D]
    head = partial(q_head, dueling=dueling, layer_norm=layer_norm, precision=precision)
    if not lstm_units:
        return keras.Model(inputs, head(x, actions, hidden, seeds), name="q_network")
    memory, remembered, x = lstm_step(x, lstm_units, next(seeds), next(seeds))
    return keras.Model([inputs, memory], [head(x, actions, hidden, seeds), remembered], name="q_network")


FILTERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Filters, side and stride of each convolution of `nature_cnn`."""

SMALLEST = 36
"""Pixels of the shortest side of a picture that is still one pixel after the convolutions of `nature_cnn`."""


def nature_cnn(
    observation_space: gymnasium.Space[Any],
    actions: int,
    *,
    hidden: Sequence[int] = (512,),
    dueling: bool = False,
    precision: str = "float32",
    seed: int = 0,
) -> keras.Model:
    """A network from a batch of pictures to the value of each action, [B, A] float32.

    Three convolutions without padding, each with ReLU: 32 filters of 8 x 8 pixels with stride 4, 64 of 4 x 4 with
    stride 2, 64 of 3 x 3 with stride 1. Behind them are the hidden layers of `q_network`. Mnih et al. 2015,
    "Human-level control through deep reinforcement learning", methods.

    A picture is [H, W] of grey, [H, W, C], or a stack of F frames [F, H, W], as Gymnasium's FrameStackObservation makes
    it. The channels, frames or colours, are the shorter of the first and the last axis, and the last where these are
    alike. uint8 pixels are scaled to [0, 1].

    >>> nature_cnn(spaces.Box(0, 255, (4, 84, 84), np.uint8), actions=6).count_params()
    1687206

    Args:
        observation_space: Box of 2 or 3 axes, H and W at least 36.
        actions: number of actions A.
        hidden: units of each dense layer behind the convolutions; 512 in the paper.
        dueling: separate streams for value and advantage.
        precision: Keras' dtype policy of the convolutions and hidden layers; weights and values are float32.
        seed: the weights are a function of it.

    Raises:
        UserError: for any other observation space.
    """
    shape = observation_space.shape or ()
    first = len(shape) == 3 and shape[0] < shape[2]
    sides = shape[1:] if first else shape[:2]
    if not isinstance(observation_space, spaces.Box) or len(shape) not in (2, 3) or min(sides) < SMALLEST:
        raise UserError(
            f"the observation space {observation_space} is no picture for the network nature-cnn: a Box of shape "
            f"[H, W], [H, W, C] or [F, H, W] is, with H and W at least {SMALLEST}"
        )
    seeds = _seeds(seed, len(FILTERS) + 2 * len(hidden) + 2)
    inputs, x = observation_input(observation_space)
    if len(shape) == 2:
        x = keras.layers.Reshape((*shape, 1), name="one_channel")(x)
    elif first:
        x = keras.layers.Permute((2, 3, 1), name="channels_last")(x)  # [B, H, W, F]
    for i, (filters, side, stride) in enumerate(FILTERS):
        x = convolution(x, filters, side, stride, next(seeds), precision, f"convolution_{i}")
    x = keras.layers.Flatten(dtype=precision, name="flat")(x)  # [B, D]
    values = q_head(x, actions, hidden, seeds, dueling=dueling, precision=precision)
    return keras.Model(inputs, values, name="nature_cnn")


def _seeds(seed: int, count: int) -> Iterator[int]:
    return iter(np.random.SeedSequence(seed).generate_state(count).tolist())


def convolution(
    x: keras.KerasTensor, filters: int, side: int, stride: int, seed: int, precision: str, name: str
) -> keras.KerasTensor:
    """Filters of side x side pixels, without padding, with ReLU."""
    kernel = keras.initializers.GlorotUniform(seed=seed)
    layer = keras.layers.Conv2D(
        filters, side, stride, activation="relu", kernel_initializer=kernel, dtype=precision, name=name
    )
    return layer(x)


def q_head(
    x: keras.KerasTensor,
    actions: int,
    hidden: Sequence[int],
    seeds: Iterator[int],
    *,
    dueling: bool,
    layer_norm: bool = False,
    precision: str = "float32",
) -> keras.KerasTensor:
    """The value of each action, [B, A] float32, by hidden layers on features [B, D]; as `q_network` describes them."""

    def dense(units: int, name: str, dtype: str = "float32", activation: str | None = None) -> keras.layers.Dense:
        initializer = keras.initializers.GlorotUniform(seed=next(seeds))
        layer = keras.layers.Dense if activation or units > NARROW else NarrowDense
        return layer(units, activation, kernel_initializer=initializer, dtype=dtype, name=name)

    def hidden_layer(x: keras.KerasTensor, units: int, name: str) -> keras.KerasTensor:
        if not layer_norm:
            return dense(units, name, precision, "relu")(x)
        x = dense(units, name, precision)(x)
        x = keras.layers.LayerNormalization(epsilon=1e-6, dtype=precision, name=f"{name}_norm")(x)
        return keras.layers.ReLU(dtype=precision, name=f"{name}_relu")(x)

    for i, units in enumerate(hidden[:-1] if dueling and hidden else hidden):
        x = hidden_layer(x, units, f"hidden_{i}")  # [B, H]
    if not dueling:
        return dense(actions, "q_values")(x)  # [B, A]
    value, advantages = x, x
    if hidden:
        value = hidden_layer(x, hidden[-1], "value_hidden")  # [B, H]
        advantages = hidden_layer(x, hidden[-1], "advantage_hidden")  # [B, H]
    value = dense(1, "value")(value)  # [B, 1]
    advantages = dense(actions, "advantages")(advantages)  # [B, A]
    return Dueling(name="q_values")(value, advantages)  # [B, A]


def lstm_step(
    x: keras.KerasTensor, units: int, kernel_seed: int, recurrent_seed: int
) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
    """One step of a long short-term memory of H units on features [B, D].

    Returns:
        An input for what was remembered, hidden state and cell side by side, [B, 2 H]; what is now; its output, [B, H].
    """
    memory = keras.Input((2 * units,), name="memory")
    cell = keras.layers.LSTMCell(
        units,
        # By the inputs alone: a few numbers would be scarcely heard if the units of four gates counted too.
        kernel_initializer=keras.initializers.LecunUniform(seed=kernel_seed),
        recurrent_initializer=keras.initializers.Orthogonal(seed=recurrent_seed),
        seed=0,  # of dropout, of which there is none
        name="lstm",
    )
    output, state = cell(x, keras.ops.split(memory, 2, axis=-1))  # [B, H], 2 of [B, H]
    return memory, keras.ops.concatenate(state, axis=-1), output


def observation_input(space: gymnasium.Space[Any]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """A Keras input for a batch from the space, and what is made of it: float32, one-hot rows, or a Box's numbers.

    Whole numbers of one byte are scaled to [0, 1], truth values are 0 and 1.
    """
    if isinstance(space, spaces.Discrete):
        inputs = keras.Input((), dtype="int32", name="observation")
        return inputs, OneHot(int(space.n), int(space.start), name="one_hot")(inputs)
    if isinstance(space, spaces.Box):
        inputs = keras.Input(space.shape, dtype=observation_dtype(space).name, name="observation")
        if inputs.dtype == "float32":
            return inputs, inputs
        return inputs, keras.layers.Rescaling(1 if space.dtype == np.bool_ else 1 / 255, name="rescale")(inputs)
    raise UserError(
        f"the observation space {space} is not supported: Box and Discrete are; "
        "gymnasium.wrappers.FlattenObservation makes a Box of most others"
    )


def observation_dtype(space: gymnasium.Space[Any]) -> np.dtype:
    """How observations of the space are stored and fed: uint8 and bool as uint8, Discrete as int32, else float32."""
    if isinstance(space, spaces.Discrete):
        return np.dtype(np.int32)
    return np.dtype(np.uint8 if space.dtype in (np.uint8, np.bool_) else np.float32)


def minatar_cnn(
    observation_space: gymnasium.Space[Any],
    actions: int,
    *,
    hidden: Sequence[int] = (128,),
    dueling: bool = False,
    precision: str = "float32",
    seed: int = 0,
) -> keras.Model:
    """A network from a batch of small grids to the value of each action, [B, A] float32.

    One convolution without padding, with ReLU: 16 filters of 3 x 3 cells with stride 1. Behind it are the hidden layers
    of `q_network`. Young and Tian 2019, "MinAtar: an Atari-inspired testbed for thorough and reproducible reinforcement
    learning experiments".

    >>> minatar_cnn(spaces.Box(0, 1, (10, 10, 4), np.bool_), actions=3).count_params()
    132179

    Args:
        observation_space: Box [H, W, C], H and W at least 3.
        actions: number of actions A.
        hidden: units of each dense layer behind the convolution; 128 in the paper.
        dueling: separate streams for value and advantage.
        precision: Keras' dtype policy of the convolutions and hidden layers; weights and values are float32.
        seed: the weights are a function of it.

    Raises:
        UserError: for any other observation space.
    """
    shape = observation_space.shape or ()
    if not isinstance(observation_space, spaces.Box) or len(shape) != 3 or min(shape[:2]) < 3:
        raise UserError(
            f"the observation space {observation_space} is no grid for the network minatar-cnn: a Box of shape "
            "[H, W, C] is, with H and W at least 3"
        )
    seeds = _seeds(seed, 2 * len(hidden) + 3)
    inputs, x = observation_input(observation_space)
    x = convolution(x, 16, 3, 1, next(seeds), precision, "convolution")
    x = keras.layers.Flatten(dtype=precision, name="flat")(x)  # [B, D]
    values = q_head(x, actions, hidden, seeds, dueling=dueling, precision=precision)
    return keras.Model(inputs, values, name="minatar_cnn")
