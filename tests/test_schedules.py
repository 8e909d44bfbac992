"""Schedules at, between and beyond their ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import tensorflow as tf

from rlkit.learning.schedules import exponential, linear

Schedule = Callable[[tf.Tensor, float, float, float], tf.Tensor]
CLOSE = 1e-6
"""Of a few float32 roundings, relative."""


def at(schedule: Schedule, count: int, start: float, end: float, duration: float) -> float:
    value = schedule(tf.constant(count, tf.int64), start, end, duration)
    assert value.dtype == tf.float32
    assert value.shape == ()
    return float(value)


@pytest.mark.parametrize(
    ("schedule", "count", "start", "end", "duration", "expected"),
    [
        # From 1 to 0.2 in 1000: 0.0008 a step.
        (linear, 0, 1.0, 0.2, 1000, 1.0),
        (linear, 1, 1.0, 0.2, 1000, 0.9992),
        (linear, 250, 1.0, 0.2, 1000, 0.8),
        (linear, 500, 1.0, 0.2, 1000, 0.6),
        (linear, 1000, 1.0, 0.2, 1000, 0.2),
        (linear, 1001, 1.0, 0.2, 1000, 0.2),
        (linear, 10**12, 1.0, 0.2, 1000, 0.2),
        (linear, 3, 0.5, 2.0, 4, 1.625),  # upwards: 0.5 + 3/4 x 1.5
        (linear, 7, 0.3, 0.3, 10, 0.3),
        (linear, 1, 1.0, 0.0, 2.5, 0.6),  # a duration that is no whole number: 1 - 1/2.5
        (linear, 3, 1.0, 0.0, 2.5, 0.0),
        # From 1 to 0.01 in 1000: a factor 10 every 500.
        (exponential, 0, 1.0, 0.01, 1000, 1.0),
        (exponential, 250, 1.0, 0.01, 1000, 10**-0.5),
        (exponential, 500, 1.0, 0.01, 1000, 0.1),
        (exponential, 1000, 1.0, 0.01, 1000, 0.01),
        (exponential, 1001, 1.0, 0.01, 1000, 0.01),
        (exponential, 10**12, 1.0, 0.01, 1000, 0.01),
        (exponential, 1, 0.5, 8.0, 4, 1.0),  # upwards: a factor 2 each
        (exponential, 7, 0.3, 0.3, 10, 0.3),
    ],
)
def test_values(schedule: Schedule, count: int, start: float, end: float, duration: float, expected: float) -> None:
    assert at(schedule, count, start, end, duration) == pytest.approx(expected, rel=CLOSE, abs=1e-9)


def test_exponential_is_a_constant_factor_an_episode() -> None:
    # max(0.01, 0.995^n) reaches its floor at log(0.01) / log(0.995) = 918.7 episodes.
    duration = math.log(0.01) / math.log(0.995)
    assert duration == pytest.approx(918.7, abs=0.05)
    for n in (0, 1, 2, 10, 100, 500, 918, 919, 2000):
        expected = max(0.01, 0.995**n)
        # float32's pow of an exponent near 1 is off by some units of 2^-24 x log(100).
        assert at(exponential, n, 1.0, 0.01, duration) == pytest.approx(expected, rel=3e-6)
        # Rounded up to 919 episodes the exponent is off by at most 0.26 / 919, times log(100) = 0.0013.
        assert at(exponential, n, 1.0, 0.01, 919) == pytest.approx(expected, rel=0.0014)


@pytest.mark.parametrize("schedule", [linear, exponential])
def test_one_program_serves_every_count(schedule: Schedule) -> None:
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)], jit_compile=True)
    def compiled(count: tf.Tensor) -> tf.Tensor:
        traces.append(count)
        return schedule(count, 1.0, 0.05, 100.0)

    for count in (0, 33, 100, 2**40):
        value = float(compiled(tf.constant(count, tf.int64)))
        assert value == pytest.approx(at(schedule, count, 1.0, 0.05, 100.0), rel=CLOSE)
    assert len(traces) == 1
