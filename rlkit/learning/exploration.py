"""Behaviour policies: from action values to actions."""

from __future__ import annotations

import tensorflow as tf

from rlkit.random_bits import below, fraction


def greedy(q_values: tf.Tensor) -> tf.Tensor:
    """The action of the largest value, the lowest such action on ties: [N, A] to [N] int32."""
    return tf.argmax(q_values, axis=-1, output_type=tf.int32)


def epsilon_greedy(q_values: tf.Tensor, epsilon: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Each env by a draw of its own: a uniform action with probability epsilon, else the greedy one.

    Sutton and Barto 2018, section 2.2.

    Args:
        q_values: action values, [N, A] float32.
        epsilon: probability of a uniform action, scalar in [0, 1].
        bits: random, [2, N] uint32.

    Returns:
        Actions, [N] int32.
    """
    return tf.where(fraction(bits[0]) < epsilon, below(bits[1], q_values.shape[-1]), greedy(q_values))
