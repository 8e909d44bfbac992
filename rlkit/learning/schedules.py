"""Schedules: functions of an absolute count, so that a resumed run continues where it was."""

from __future__ import annotations

import tensorflow as tf


def linear(count: tf.Tensor, start: float, end: float, duration: float) -> tf.Tensor:
    """From `start` at count 0 in a straight line to `end` at `duration`, then constant.

    Args:
        count: steps or episodes so far, integer scalar.
        start: value at count 0.
        end: value from `duration` on.
        duration: in the unit of `count`.

    Returns:
        float32 scalar.
    """
    fraction = tf.minimum(tf.cast(count, tf.float32) / duration, 1.0)
    return start + fraction * (end - start)


def exponential(count: tf.Tensor, start: float, end: float, duration: float) -> tf.Tensor:
    """start (end / start)^(count / duration), then constant at `end`: the same factor at every count.

    A decay by the factor d each episode down to a floor is the duration log(end / start) / log(d): for
    1 to 0.01 with d = 0.995, that is 919 episodes.

    Args:
        count: steps or episodes so far, integer scalar.
        start: value at count 0, above 0.
        end: value from `duration` on, above 0.
        duration: in the unit of `count`.

    Returns:
        float32 scalar.
    """
    fraction = tf.minimum(tf.cast(count, tf.float32) / duration, 1.0)
    return start * tf.pow(end / start, fraction)


SCHEDULES = {"linear": linear, "exponential": exponential}
