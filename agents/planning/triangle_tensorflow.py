"""Backward induction on a number triangle as one TensorFlow program, where the numbers are tensors already.

Letters: N rows; S = N (N + 1) / 2 cells, the bottom row first, as in triangle.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla  # the one way to write a slice in place inside a program

from rlkit.agents.planning.triangle import offset

WIDTHS = 8
"""Compiled widths: a row is computed as wide as the widest of its eighth of the triangle."""


class Induced(NamedTuple):
    """What the program returns."""

    value: tf.Tensor
    """Of the top: the expected sum of the numbers on the way down; scalar, of the numbers' dtype."""
    policy: tf.Tensor
    """[S] int8, bottom row first: 0 down, 1 right; 0 in the bottom row and where both are as good."""


def solve_triangle(numbers: tf.Tensor, rows: int, slip: float = 0.0) -> Induced:
    """The recurrence of triangle.solve_triangle, compiled by XLA for N rows.

    What lies beyond the end of a row, the beginning of the next one, is computed too and never read: column j needs
    columns j and j + 1 of the row below alone. So each row is one slice of a fixed width.

    Args:
        numbers: [S] float64 or float32, bottom row first.
        rows: N.
        slip: probability that the other action happens.
    """
    better = 0 if slip == 0.5 else 1 if slip < 0.5 else -1
    return Induced(*_program(rows, numbers.dtype, better)(numbers, tf.cast(slip, numbers.dtype)))


@cache
def _program(rows: int, dtype: tf.DType, better: int) -> Any:  # noqa: ANN401 - a tf.function has no type
    """For N rows; `better` is 1 where the way to the larger value is the better action, -1 to the smaller, 0 none."""
    cells = rows * (rows + 1) // 2
    step = max(1, -(-rows // WIDTHS))

    def right(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        if better == 0:
            return tf.zeros_like(a, tf.int8)
        return tf.cast(b > a if better > 0 else b < a, tf.int8)

    @tf.function(
        input_signature=[tf.TensorSpec([cells], dtype), tf.TensorSpec([], dtype)], jit_compile=True, autograph=False
    )
    def induct(numbers: tf.Tensor, slip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        q, spread = tf.minimum(slip, 1 - slip), tf.abs(1 - 2 * slip)

        def band(numbers: tf.Tensor, policy: tf.Tensor, v: tf.Tensor, last: int, first: int, begin: int) -> Any:  # noqa: ANN401
            """Rows `last` up to `first`, where the arrays begin at cell `begin`."""
            width = last + 1

            def body(at: tf.Tensor, cells: tf.Tensor, v: tf.Tensor, policy: tf.Tensor) -> tuple[tf.Tensor, ...]:
                a, b = v[:-1], v[1:]
                value = tf.slice(numbers, [at], [width]) + (q * (a + b) + spread * tf.maximum(a, b))
                policy = xla.dynamic_update_slice(policy, right(a, b), [at])
                return at + cells, cells - 1, tf.pad(value, [[0, 1]]), policy  # XLA pads in vector code, not so concat

            start = (tf.constant(offset(rows, last) - begin), tf.constant(width), v[: width + 1], policy)
            _, _, v, policy = tf.while_loop(lambda _at, cells, *_: cells > first, body, start)
            return v, policy

        policy = tf.zeros([cells], tf.int8)
        v = numbers[:rows]
        for last in range(rows - 2, -1, -step):
            first = max(0, last - step + 1)
            if (first + 1) * (first + 2) // 2 > last:
                v, policy = band(numbers, policy, v, last, first, 0)
            else:  # rows so short that their slices would reach beyond the end: on a copy with room for that
                begin, room = offset(rows, last), tf.zeros([last + 1], dtype)
                top = tf.concat([numbers[begin:], room], axis=0)
                v, above = band(top, tf.zeros_like(top, tf.int8), v, last, first, begin)
                policy = xla.dynamic_update_slice(policy, above[: cells - begin], [begin])  # what follows comes again
        return v[0], policy

    return induct
