"""Networks that agents and supervised models share, as Keras models built on construction.

Letters: B batch, A actions, H hidden units, D features, K atoms or quantiles of a return, N fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

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
    """Q(a) = V + A(a) - mean A, from the value [B, 1] and the advantages [B, A]; of returns [B, 1, K] and [B, A, K].

    Wang et al. 2016, "Dueling network architectures for deep reinforcement learning", equation 9.
    """

    def call(self, value: keras.KerasTensor, advantages: keras.KerasTensor) -> keras.KerasTensor:
        return value + advantages - keras.ops.mean(advantages, axis=1, keepdims=True)


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
    seeds = _seeds(seed, 2 * len(hidden) + 5)
    inputs, x = observation_input(observation_space)
    if len(x.shape) != 2:
        x = keras.layers.Reshape((math.prod(x.shape[1:]),), name="flat")(x)  # [B, D]
    behind = partial(q_head, dueling=dueling, layer_norm=layer_norm, head=head, precision=precision)
    if not lstm_units:
        return keras.Model(inputs, behind(x, actions, hidden, seeds), name="q_network")
    memory, remembered, x = lstm_step(x, lstm_units, next(seeds), next(seeds))
    return keras.Model([inputs, memory], [behind(x, actions, hidden, seeds), remembered], name="q_network")


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
    seeds = _seeds(seed, len(FILTERS) + 2 * len(hidden) + 3)
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


def _seeds(seed: int, count: int) -> Iterator[int]:
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
    seeds = _seeds(seed, 2 * len(hidden) + 4)
    inputs, x = observation_input(observation_space)
    x = convolution(x, 16, 3, 1, next(seeds), precision, "convolution", PatchConv2D)
    x = keras.layers.Flatten(dtype=precision, name="flat")(x)  # [B, D]
    values = q_head(x, actions, hidden, seeds, dueling=dueling, head=head, precision=precision)
    return keras.Model(inputs, values, name="minatar_cnn")
