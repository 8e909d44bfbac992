"""Q-networks: from observations to the values of actions, as Keras models built on construction.

Letters: B batch, A actions, H hidden units, D features, K atoms or quantiles of a return, N fractions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import gymnasium
import keras
import numpy as np
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.networks.layers import (
    EMBEDDING,
    NARROW,
    Dueling,
    Expectation,
    FractionEmbedding,
    MidpointMean,
    NarrowDense,
    PatchConv2D,
)
from rlkit.networks.torsos import FILTERS, SMALLEST, convolution, lstm_step, observation_input, seed_sequence


class Head(NamedTuple):
    """How a network describes the return of an action."""

    kind: Literal["expected", "c51", "qr", "iqn"] = "expected"
    """By its mean; by the probabilities of K atoms (Bellemare et al. 2017); by K quantiles (Dabney et al. 2018a); or by
    the quantiles of any fractions (Dabney et al. 2018b)."""
    size: int = 1
    """K, of c51 and qr."""
    low: float = 0.0
    """The lowest atom, of c51."""
    high: float = 0.0
    """The highest atom, of c51."""


EXPECTED = Head()


def q_network(  # noqa: PLR0913 - what an agent's fields say of its network
    observation_space: gymnasium.Space[Any],
    actions: int,
    *,
    hidden: Sequence[int] = (64, 64),
    dueling: bool = False,
    head: Head = EXPECTED,
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
        head: how returns are described; their means are the values, and `distribution` tells the rest.
        layer_norm: normalise each hidden layer before its ReLU (Ba, Kiros and Hinton 2016).
        lstm_units: units of a long short-term memory; 0: none.
        precision: Keras' dtype policy of the hidden layers; weights, memory and values are float32 whatever it is.
        seed: the weights are a function of it.

    Raises:
        UserError: for any other observation space.
    """
    seeds = seed_sequence(seed, 2 * len(hidden) + 5)
    inputs, x = observation_input(observation_space)
    if len(x.shape) != 2:
        x = keras.layers.Reshape((math.prod(x.shape[1:]),), name="flat")(x)  # [B, D]
    behind = partial(q_head, dueling=dueling, layer_norm=layer_norm, head=head, precision=precision)
    if not lstm_units:
        return keras.Model(inputs, behind(x, actions, hidden, seeds), name="q_network")
    memory, remembered, x = lstm_step(x, lstm_units, next(seeds), next(seeds))
    return keras.Model([inputs, memory], [behind(x, actions, hidden, seeds), remembered], name="q_network")


def nature_cnn(
    observation_space: gymnasium.Space[Any],
    actions: int,
    *,
    hidden: Sequence[int] = (512,),
    dueling: bool = False,
    head: Head = EXPECTED,
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
        head: how returns are described; their means are the values, and `distribution` tells the rest.
        precision: Keras' dtype policy of the convolutions and hidden layers; weights and values are float32.
        seed: the weights are a function of it.

    Raises:
        UserError: for any other observation space.
    """
    shape = observation_space.shape or ()
    first = _frames_first(shape)
    if not _is_picture(observation_space):
        raise UserError(
            f"the observation space {observation_space} is no picture for the network nature-cnn: a Box of shape "
            f"[H, W], [H, W, C] or [F, H, W] is, with H and W at least {SMALLEST}"
        )
    seeds = seed_sequence(seed, len(FILTERS) + 2 * len(hidden) + 3)
    inputs, x = observation_input(observation_space)
    if len(shape) == 2:
        x = keras.layers.Reshape((*shape, 1), name="one_channel")(x)
    elif first:
        x = keras.layers.Permute((2, 3, 1), name="channels_last")(x)  # [B, H, W, F]
    for i, (filters, side, stride) in enumerate(FILTERS):
        x = convolution(x, filters, side, stride, next(seeds), precision, f"convolution_{i}")
    x = keras.layers.Flatten(dtype=precision, name="flat")(x)  # [B, D]
    values = q_head(x, actions, hidden, seeds, dueling=dueling, head=head, precision=precision)
    return keras.Model(inputs, values, name="nature_cnn")


def _frames_first(shape: tuple[int, ...]) -> bool:
    """Whether a picture's channels are its first axis."""
    return len(shape) == 3 and shape[0] < shape[2]


def _is_picture(space: spaces.Space[Any]) -> bool:
    """Whether `nature_cnn` takes a space's observations."""
    shape = space.shape or ()
    sides = shape[1:] if _frames_first(shape) else shape[:2]
    return isinstance(space, spaces.Box) and len(shape) in (2, 3) and min(sides) >= SMALLEST


def fitting_network(space: spaces.Space[Any]) -> Literal["nature-cnn", "mlp"]:
    """The network that the DQN takes by itself: convolutions for pictures of bytes, else dense layers."""
    return "nature-cnn" if _is_picture(space) and space.dtype == np.uint8 else "mlp"


def q_head(  # noqa: PLR0913 - as many as a network has
    x: keras.KerasTensor,
    actions: int,
    hidden: Sequence[int],
    seeds: Iterator[int],
    *,
    dueling: bool,
    layer_norm: bool = False,
    head: Head = EXPECTED,
    precision: str = "float32",
) -> keras.KerasTensor:
    """The value of each action, [B, A] float32, by hidden layers on features [B, D]; as `q_network` describes them.

    It comes from a layer called "q_values". With c51 and qr its input are logits or quantiles, [B, A, K]. With iqn the
    features are embedded before the last hidden layer, and its input are the quantiles of the midpoints, [B N, A].
    """

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

    def last(x: keras.KerasTensor, rows: int, name: str) -> keras.KerasTensor:
        x = dense(rows * head.size, name)(x)  # [B, A K]
        return keras.layers.Reshape((rows, head.size), name=f"{name}_of_actions")(x) if several else x

    several = head.kind in ("c51", "qr")
    outcome = "q_values" if head.kind == "expected" else "returns"
    for i, units in enumerate(hidden[:-1]):
        x = hidden_layer(x, units, f"hidden_{i}")  # [B, H]
    if head.kind == "iqn":
        x = FractionEmbedding(next(seeds), dtype=precision, name=EMBEDDING)(x)  # [B N, H], and so all that follows
    if not dueling:
        if hidden:
            x = hidden_layer(x, hidden[-1], f"hidden_{len(hidden) - 1}")  # [B, H]
        x = last(x, actions, outcome)  # [B, A] or [B, A, K]
    else:
        value, advantages = x, x
        if hidden:
            value = hidden_layer(x, hidden[-1], "value_hidden")  # [B, H]
            advantages = hidden_layer(x, hidden[-1], "advantage_hidden")  # [B, H]
        value = last(value, 1, "value")  # [B, 1] or [B, 1, K]
        advantages = last(advantages, actions, "advantages")
        x = Dueling(name=outcome)(value, advantages)  # [B, A] or [B, A, K]
    if head.kind == "c51":
        return Expectation(head.low, head.high, name="q_values")(x)  # [B, A]
    if head.kind == "qr":
        return keras.layers.GlobalAveragePooling1D("channels_first", name="q_values")(x)  # [B, A]
    return MidpointMean(name="q_values")(x) if head.kind == "iqn" else x  # [B, A]


def distribution(network: keras.Model) -> keras.Model:
    """The network, with the same weights in the same order, up to what its values are the means of.

    Of c51 and qr: from observations to logits or quantiles, [B, A, K]. Of iqn: from observations and fractions, [B, N],
    to their quantiles, [B N, A].
    """
    returns = network.get_layer("q_values").input
    if not any(layer.name == EMBEDDING for layer in network.layers):
        return keras.Model(network.input, returns)
    embedding = network.get_layer(EMBEDDING)
    features, behind = embedding.input, keras.Model(embedding.output, returns)
    fractions = keras.Input((None,), name="fractions")
    return keras.Model([network.input, fractions], behind(embedding(features, fractions)))


def minatar_cnn(
    observation_space: gymnasium.Space[Any],
    actions: int,
    *,
    hidden: Sequence[int] = (128,),
    dueling: bool = False,
    head: Head = EXPECTED,
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
        head: how returns are described; their means are the values, and `distribution` tells the rest.
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
    seeds = seed_sequence(seed, 2 * len(hidden) + 4)
    inputs, x = observation_input(observation_space)
    x = convolution(x, 16, 3, 1, next(seeds), precision, "convolution", PatchConv2D)
    x = keras.layers.Flatten(dtype=precision, name="flat")(x)  # [B, D]
    values = q_head(x, actions, hidden, seeds, dueling=dueling, head=head, precision=precision)
    return keras.Model(inputs, values, name="minatar_cnn")
