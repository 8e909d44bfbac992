"""The number triangle with known probabilities: every path, recursion, and the backward recurrences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]

HAND = ((1,), (1, 2), (1, 2, 1))
"""Small enough to work out by hand; with slip 1/4 its value is 4.5."""

SMALL = ((3,), (7, 4), (2, 4, 6), (8, 5, 9, 3))
"""Project Euler, problem 18, the example: 3 + 7 + 4 + 9 = 23."""

EULER = (
    (75,),
    (95, 64),
    (17, 47, 82),
    (18, 35, 87, 10),
    (20, 4, 82, 47, 65),
    (19, 1, 23, 75, 3, 34),
    (88, 2, 77, 73, 7, 63, 67),
    (99, 65, 4, 28, 6, 16, 70, 92),
    (41, 41, 26, 56, 83, 40, 80, 70, 33),
    (41, 48, 72, 33, 47, 32, 37, 16, 94, 29),
    (53, 71, 44, 65, 25, 43, 91, 52, 97, 51, 14),
    (70, 11, 33, 28, 77, 73, 17, 78, 39, 68, 17, 57),
    (91, 71, 52, 38, 17, 14, 91, 43, 58, 50, 27, 29, 48),
    (63, 66, 4, 68, 89, 53, 67, 30, 73, 16, 69, 87, 40, 31),
    (4, 62, 98, 27, 23, 9, 70, 98, 73, 93, 38, 53, 60, 4, 23),
)
"""Project Euler, problem 18; the largest sum is 1074."""

SLIP = 0.25
"""The notes' probability that the other step happens."""


def brute_force(rows: Rows) -> float:
    """The largest sum over every path, 2^(N-1) of them."""
    paths = itertools.product((0, 1), repeat=len(rows) - 1)
    return max(
        sum(row[j] for row, j in zip(rows, itertools.accumulate(path, initial=0), strict=True)) for path in paths
    )


def recursion(rows: Rows, i: int = 0, j: int = 0) -> tuple[float, int]:
    """V(i, j) by calling itself for both cells below, and how many calls that took: 2^N - 1."""
    if i == len(rows) - 1:
        return rows[i][j], 1
    (left, calls), (right, more) = recursion(rows, i + 1, j), recursion(rows, i + 1, j + 1)
    return rows[i][j] + max(left, right), 1 + calls + more


def recurrence(rows: Rows) -> list[list[float]]:
    """V of each cell, row by row from the bottom up: each is worked out once."""
    values = [list(rows[-1])]
    for row in reversed(rows[:-1]):
        below = values[0]
        values.insert(0, [number + max(below[j : j + 2]) for j, number in enumerate(row)])
    return values


def known(rows: Rows, slip: float) -> tuple[list[list[float]], list[list[tuple[float, float]]]]:
    """V of each cell and Q (down, right) of each above the bottom row, by the recurrence with probabilities."""
    values = [list(map(float, rows[-1]))]
    action_values: list[list[tuple[float, float]]] = []
    for row in reversed(rows[:-1]):
        below = values[0]
        q = [
            ((1 - slip) * below[j] + slip * below[j + 1], slip * below[j] + (1 - slip) * below[j + 1])
            for j in range(len(row))
        ]
        action_values.insert(0, q)
        values.insert(0, [number + max(pair) for number, pair in zip(row, q, strict=True)])
    return values, action_values


def best_path(values: list[list[float]]) -> list[int]:
    """The column in each row of a path with the largest sum; of tied steps down."""
    path = [0]
    for below in values[1:]:
        j = path[-1]
        path.append(j + (below[j + 1] > below[j]))
    return path
