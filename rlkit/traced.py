"""Traced functions: counts as their arguments, and calls of them without what TensorFlow adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import tensorflow as tf

COUNT = tf.TensorSpec([], tf.int64)
"""One count, such as of steps."""

COUNTS = tf.TensorSpec([2], tf.int64)
"""What `counts` makes."""


def counts(step: int, episode: int) -> tf.Tensor:
    """A clock's counts as one tensor. From an array: TensorFlow keeps every Python number it converts."""
    return tf.constant(np.array([step, episode]))


def call_flat(function: Any) -> Callable[..., Any]:  # noqa: ANN401 - a traced tf.function
    """A traced function as a call that takes its tensors as they are.

    A ConcreteFunction's own call binds and checks its arguments against the signature on each call, which
    takes longer than a small network; where TensorFlow still has the way around it, take that.
    """
    flat = getattr(function, "_call_flat", None)
    if flat is None:
        return cast("Callable[..., Any]", function)
    captured = function.captured_inputs
    return lambda *tensors: flat(list(tensors), captured)
