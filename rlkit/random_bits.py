"""Uniform and normal numbers from random bits."""

from __future__ import annotations

import tensorflow as tf

from rlkit.seeding import Purpose, key


def draws(seed: int | tf.Tensor, purpose: Purpose, step: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """Random bits, uniform over uint32, as a function of (seed, purpose, step), all of them int64 scalars.

    Bits and not fractions: those TensorFlow makes otherwise with XLA than without, from the same bits.
    """
    both = tf.stack([tf.convert_to_tensor(key(seed, purpose), tf.int64), step])
    return tf.random.stateless_uniform(shape, both, None, None, tf.uint32, alg="philox")


def fraction(bits: tf.Tensor) -> tf.Tensor:
    """Random bits as float32 in [0, 1), a multiple of 2^-24."""
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def below(bits: tf.Tensor, n: int) -> tf.Tensor:
    """Random bits as int32 in [0, n), each equally likely to within n 2^-32."""
    product = tf.cast(bits, tf.uint64) * tf.constant(n, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int32)


def normal(bits: tf.Tensor) -> tf.Tensor:
    """Random bits as standard normal float32: quantiles of the distribution, at odd multiples of 2^-24."""
    half = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32)  # below 2^23
    return 2.0**0.5 * tf.math.erfinv((2.0 * half + 1.0) * 2.0**-23 - 1.0)  # of numbers in (-1, 1), all of them exact
