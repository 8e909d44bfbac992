"""Backward induction on a number triangle, as fast as its numbers can be read.

Letters: N rows; row i has i + 1 cells, of which (i, j) leads down to (i + 1, j) and right to (i + 1, j + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numba import njit, prange

BAND = 256
"""Rows that are gone through between two meetings of the threads."""


def offset(rows: int, row: int) -> int:
    """Where a row begins in a triangle of N rows that is stored bottom row first."""
    return (rows * (rows + 1) - (row + 1) * (row + 2)) // 2


@dataclass(frozen=True)
class TriangleSolution:
    """The best policy of a number triangle, and its values.

    Of the values, one row in 256 is kept: writing all of them takes longer than all else. The others are computed
    again when they are asked for.
    """

    numbers: np.ndarray
    """[N (N + 1) / 2], bottom row first."""
    rows: int
    slip: float
    policy: np.ndarray
    """[N (N + 1) / 2] int8, bottom row first: 0 down, 1 right; 0 in the bottom row and where both are as good."""
    kept: dict[int, np.ndarray]

    @property
    def value(self) -> float:
        """Of the top: the expected sum of the numbers on the way down."""
        return float(self.kept[0][0])

    def row(self, row: int) -> np.ndarray:
        """The values of a row, [row + 1]: each holds the number of its own cell."""
        below = min(i for i in self.kept if i >= row)
        v = self.kept[below].copy()
        unused = np.empty(below + 1, np.int8)
        for i in range(below - 1, row - 1, -1):
            at = offset(self.rows, i)
            _step(self.numbers[at : at + i + 1], v, unused, *_shares(self.slip), 0, i + 1)
        return v[: row + 1]

    @cached_property
    def values(self) -> np.ndarray:
        """All values, [N (N + 1) / 2] in the numbers' type, bottom row first."""
        found = np.empty_like(self.numbers)
        v = self.kept[self.rows - 1].copy()
        found[: self.rows] = v
        unused = np.empty(self.rows, np.int8)
        for i in range(self.rows - 2, -1, -1):
            at = offset(self.rows, i)
            _step(self.numbers[at : at + i + 1], v, unused, *_shares(self.slip), 0, i + 1)
            found[at : at + i + 1] = v[: i + 1]
        return found


def solve_triangle(numbers: np.ndarray, slip: float = 0.0, policy: np.ndarray | None = None) -> TriangleSolution:
    """V(i, j) = r(i, j) + max over both actions of (1 - slip) V(that cell) + slip V(the other one), bottom row first.

    With p >= q the larger and smaller of slip and 1 - slip, and a, b the values below, that is r + q (a + b) +
    (p - q) max(a, b): no branch, and one pass over the numbers.

    Args:
        numbers: [N (N + 1) / 2] float64 or float32, bottom row first.
        slip: probability that the other action happens.
        policy: [N (N + 1) / 2] int8, where the policy goes; new if not given, which costs the system's handing out of
            fresh memory.
    """
    rows = round((np.sqrt(8 * len(numbers) + 1) - 1) / 2)
    assert rows * (rows + 1) == 2 * len(numbers)
    policy = np.empty(len(numbers), np.int8) if policy is None else policy
    bands = -(-(rows - 1) // BAND)
    kept = np.zeros((bands + 1, rows + 1), numbers.dtype)
    kept[0, :rows] = numbers[:rows]
    policy[:rows] = 0
    _induct(numbers, rows, *_shares(slip), policy, kept, numba.get_num_threads() if rows > 2_000 else 1)
    tops = [max(0, rows - 1 - BAND * band) for band in range(bands + 1)]
    return TriangleSolution(numbers, rows, slip, policy, {top: kept[b, : top + 1] for b, top in enumerate(tops)})


def _shares(slip: float) -> tuple[float, float, float]:
    """q, p - q, and the sign with which b - a > 0 says right."""
    sign = 0.0 if slip == 0.5 else 1.0 if slip < 0.5 else -1.0
    return min(slip, 1 - slip), abs(1 - 2 * slip), sign


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _step(
    numbers: np.ndarray, v: np.ndarray, policy: np.ndarray, q: float, spread: float, sign: float, first: int, last: int
) -> None:
    """One row up: v[first : last + 1] of the row below becomes v[first : last] of this one."""
    kind = numbers.dtype.type
    q_, spread_, sign_ = kind(q), kind(spread), kind(sign)
    for j in range(first, last):
        a, b = v[j], v[j + 1]
        policy[j] = sign_ * b > sign_ * a
        v[j] = numbers[j] + (q_ * (a + b) + spread_ * (max(a, b)))


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def _induct(
    numbers: np.ndarray, rows: int, q: float, spread: float, sign: float, policy: np.ndarray, kept: np.ndarray,
    parts: int,
) -> None:  # fmt: skip
    """Bands of rows, each in as many parts as threads; a part also computes what it needs of the one on its right."""
    for band in range(len(kept) - 1):
        below = rows - 1 - band * BAND
        above = max(0, below - BAND)
        for part in prange(parts):
            first, last = (above + 1) * part // parts, (above + 1) * (part + 1) // parts
            width = below + 1 if part == parts - 1 else min(below + 1, last + below - above)
            v = kept[band, first:width].copy()
            for i in range(below - 1, above - 1, -1):
                at = (rows * (rows + 1) - (i + 1) * (i + 2)) // 2 + first
                end = i + 1 if part == parts - 1 else min(i + 1, last + i - above)
                _step(numbers[at:], v, policy[at:], q, spread, sign, 0, end - first)
            kept[band + 1, first:last] = v[: last - first]
