"""Backward induction on a number triangle against reading its rewards once, both on two threads.

    python -m rlkit.experiments.benchmarks.triangle [--quick]

Of a triangle of 10,000 rows (50,005,000 states), slip 1/4: an int8 policy, and values of one row in 256 or of all.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from numba import njit, prange

from rlkit.agents.planning.triangle import TriangleSolution, solve_triangle
from rlkit.experiments.benchmarks._measuring import Contestant, alternate, milliseconds, set_up, table

SLIP = 0.25


@njit(parallel=True, fastmath=True)
def _read(numbers: np.ndarray) -> float:
    """The sum of all numbers: every solver has to read them once."""
    total = numbers.dtype.type(0)
    for k in prange(len(numbers)):
        total += numbers[k]
    return float(total)


def contestants(numbers: np.ndarray) -> list[Contestant]:
    """Reading alone, and rlkit's solver with and without fresh memory for the policy, and with every value kept."""
    policy = np.zeros(len(numbers), np.int8)
    runs = {
        "read once": lambda _: _read(numbers),
        "rlkit": lambda _: solve_triangle(numbers, SLIP, policy),
        "rlkit, fresh policy": lambda _: solve_triangle(numbers, SLIP),
        "rlkit, all values": lambda _: solve_triangle(numbers, SLIP, policy).values,
    }
    return [Contestant(name, lambda: None, run) for name, run in runs.items()]


def tensorflow(numbers: np.ndarray, rows: int) -> Contestant:
    """The TensorFlow program, on a tensor that is there already."""
    import tensorflow as tf

    from rlkit.agents.planning import triangle_tensorflow

    tensor = tf.constant(numbers)

    def run(_: object) -> float:
        return float(triangle_tensorflow.solve_triangle(tensor, rows, SLIP).value)

    return Contestant("rlkit, TensorFlow", lambda: None, run)


def value(numbers: np.ndarray, rows: int) -> float:
    """Of the top, by NumPy a row at a time from the recurrence itself."""
    v, at = numbers[:rows].astype(np.float64), rows
    for width in range(rows - 1, 0, -1):
        down, right = v[:-1], v[1:]
        best = np.maximum((1 - SLIP) * down + SLIP * right, (1 - SLIP) * right + SLIP * down)
        v = numbers[at : at + width] + best
        at += width
    return float(v[0])


def main() -> None:
    """Both precisions in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="1,000 rows")
    options = parser.parse_args()
    set_up()
    rows = 1_000 if options.quick else 10_000
    integers = np.random.default_rng(0).integers(0, 100, rows * (rows + 1) // 2)
    for dtype in (np.float64, np.float32):
        numbers: Any = integers.astype(dtype)
        measured = [*contestants(numbers), tensorflow(numbers, rows)]
        for contestant in measured:
            contestant.round()  # what it compiles
            contestant.seconds.clear()
        answer, expected = measured[1].answer, value(numbers, rows)
        assert isinstance(answer, TriangleSolution)
        if abs(answer.value_at_start - expected) > 1e3 * np.finfo(dtype).eps * expected:
            sys.exit(f"the value of the top is {answer.value_at_start}, but NumPy has {expected}")
        alternate(measured, options.rounds)
        first = measured[0]
        cells = [
            [c.name, milliseconds(c.best), milliseconds(c.median), f"{c.best / first.best:.2f}",
             f"{c.median / first.median:.2f}"]
            for c in measured
        ]  # fmt: skip
        heads = ["", "least", "median", "x least", "x median"]
        table(f"{rows:,} rows, {np.dtype(dtype)} (milliseconds)", heads, cells)


if __name__ == "__main__":
    main()
