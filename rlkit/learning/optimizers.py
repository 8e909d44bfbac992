"""Gradient descent as pure functions, for programs that carry weights as tensors.

Keras' optimizers keep variables, and with TensorFlow they have no stateless form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

DECAYS = 0.9, 0.999
"""What Adam keeps of its moving means in an update: of the gradients', of their squares'."""


class AdamState(NamedTuple):
    """What Adam remembers."""

    iterations: tf.Tensor
    """Updates so far, int64 scalar."""
    first: tuple[tf.Tensor, ...]
    """Moving means of the gradients, each of its weight's shape."""
    second: tuple[tf.Tensor, ...]
    """Moving means of their squares."""

    @classmethod
    def variables(cls, weights: Sequence[tf.Variable]) -> AdamState:
        """Variables of zeros for some weights."""
        zeros = [[tf.Variable(tf.zeros_like(w), trainable=False) for w in weights] for _ in range(2)]
        return cls(tf.Variable(0, dtype=tf.int64, trainable=False), *map(tuple, zeros))


def adam(
    state: AdamState,
    weights: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
    learning_rate: tf.Tensor | float,
    epsilon: float = 1e-8,
    *,
    rectified: bool = False,
) -> tuple[tuple[tf.Tensor, ...], AdamState]:
    """w - a m / (sqrt(v) + epsilon), with a = learning_rate sqrt(1 - d2^t) / (1 - d1^t) at update t.

    Kingma and Ba 2015, "Adam: a method for stochastic optimization", end of section 2. Rectified: times a factor below
    1 while v is the mean of few squares, and in the first updates a plain step learning_rate m / (1 - d1^t). Liu et
    al. 2020, "On the variance of the adaptive learning rate and beyond", algorithm 2.

    Returns:
        The new weights and state.
    """
    d1, d2 = DECAYS
    iterations = state.iterations + 1
    t = tf.cast(iterations, tf.float32)
    step = learning_rate * tf.sqrt(1.0 - tf.pow(d2, t)) / (1.0 - tf.pow(d1, t))
    first = tuple(m + (1.0 - d1) * (g - m) for m, g in zip(state.first, gradients, strict=True))
    second = tuple(v + (1.0 - d2) * (g * g - v) for v, g in zip(state.second, gradients, strict=True))
    moved = [step * m / (tf.sqrt(v) + epsilon) for m, v in zip(first, second, strict=True)]
    if rectified:
        longest = 2.0 / (1.0 - d2) - 1.0
        length = longest - 2.0 * t * tf.pow(d2, t) / (1.0 - tf.pow(d2, t))
        known, length = length > 5.0, tf.maximum(length, 5.0)
        spread = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        plain = learning_rate / (1.0 - tf.pow(d1, t))
        moved = [tf.where(known, tf.sqrt(spread) * a, plain * m) for a, m in zip(moved, first, strict=True)]
    new = tuple(w - a for w, a in zip(weights, moved, strict=True))
    return new, AdamState(iterations, first, second)


LARGE = 100_000
"""Numbers from which on an optimizer's step takes the time that memory takes, not the time that calls take."""


def large(weights: Sequence[tf.Tensor]) -> bool:
    """Whether a step for these weights waits for memory."""
    return sum(int(w.shape.num_elements()) for w in weights) >= LARGE


def adam_in_place(
    state: AdamState,
    weights: Sequence[tf.Variable],
    gradients: Sequence[tf.Tensor],
    learning_rate: tf.Tensor | float,
    epsilon: float = 1e-8,
) -> None:
    """As `adam`, on the variables themselves, for large networks in programs that XLA does not compile.

    Each number is read and written once, by as many threads as an operation has: with 1.7 million weights on two cores
    a step takes 0.6 of the time of one that XLA fuses and whose results are then assigned.
    """
    d1, d2 = DECAYS
    t = tf.cast(state.iterations.assign_add(1), tf.float32)
    powers = {"beta1_power": tf.pow(d1, t), "beta2_power": tf.pow(d2, t)}
    fixed = {"lr": learning_rate, "beta1": d1, "beta2": d2, "epsilon": epsilon}
    for w, m, v, g in zip(weights, state.first, state.second, gradients, strict=True):
        tf.raw_ops.ResourceApplyAdam(var=w.handle, m=m.handle, v=v.handle, grad=g, **powers, **fixed)


def clipped(gradients: Sequence[tf.Tensor], largest: float) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Gradients scaled down so that their norm as one vector is at most `largest`, and the norm before; 0: never.

    Pascanu, Mikolov and Bengio 2013, algorithm 1.
    """
    if large(gradients):  # not to be copied
        norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(g) for g in gradients]))
    else:
        flat = tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)  # one sum is faster than many
        norm = tf.sqrt(tf.reduce_sum(flat * flat))
    if largest <= 0:
        return list(gradients), norm
    share = largest / tf.maximum(norm, largest)
    return [share * g for g in gradients], norm
