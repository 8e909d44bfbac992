"""Inputs and first layers of networks, and the seeds of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import keras
import numpy as np
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.networks.layers import OneHot
from rlkit.spaces import observation_dtype

FILTERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Filters, side and stride of each convolution of `nature_cnn`."""

SMALLEST = 36
"""Pixels of the shortest side of a picture that is still one pixel after the convolutions of `nature_cnn`."""


def seed_sequence(seed: int, count: int) -> Iterator[int]:
    """Seeds of a network's initializers, as many as it may need."""
    return iter(np.random.SeedSequence(seed).generate_state(count).tolist())


def convolution(  # noqa: PLR0913 - as many as a layer has
    x: keras.KerasTensor,
    filters: int,
    side: int,
    stride: int,
    seed: int,
    precision: str,
    name: str,
    layer: type[keras.layers.Conv2D] = keras.layers.Conv2D,
) -> keras.KerasTensor:
    """Filters of side x side pixels, without padding, with ReLU."""
    kernel = keras.initializers.GlorotUniform(seed=seed)
    made = layer(filters, side, stride, activation="relu", kernel_initializer=kernel, dtype=precision, name=name)
    return made(x)


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
