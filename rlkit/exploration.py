"""Behaviour policies: from action values to actions."""

from __future__ import annotations

import tensorflow as tf

from rlkit.seeding import Purpose, key


def draws(seed: int, purpose: Purpose, step: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """Uniform float32 numbers in [0, 1) as a function of (seed, purpose, step), step an int64 scalar."""
    return tf.random.stateless_uniform(
        shape, tf.stack([tf.constant(key(seed, purpose), tf.int64), step]), alg="philox"
    )


def greedy(q_values: tf.Tensor) -> tf.Tensor:
    """The action of the largest value, the lowest such action on ties: [N, A] to [N] int32."""
    return tf.argmax(q_values, axis=-1, output_type=tf.int32)


def epsilon_greedy(q_values: tf.Tensor, epsilon: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Each env by a draw of its own: a uniform action with probability epsilon, else the greedy one.

    Sutton and Barto 2018, section 2.2.

    Args:
        q_values: action values, [N, A] float32.
        epsilon: probability of a uniform action, scalar in [0, 1].
        seed: the run's seed.
        step: absolute step, int64 scalar: the draw is a function of (seed, step).

    Returns:
        Actions, [N] int32.
    """
    envs, actions = q_values.shape
    u = draws(seed, Purpose.EXPLORATION, step, [2, envs])
    uniform = tf.minimum(tf.cast(u[1] * actions, tf.int32), actions - 1)  # [N]
    return tf.where(u[0] < epsilon, uniform, greedy(q_values))
