"""Backward induction on a number triangle, as fast as its numbers can be read.

Letters: N rows; row i has i + 1 cells, of which (i, j) leads down to (i + 1, j) and right to (i + 1, j + 1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import Solution

BAND = 256
"""Rows that are gone through between two meetings of the threads."""


def offset(rows: int, row: int) -> int:
    """Where a row begins in a triangle of N rows that is stored bottom row first."""
    return (rows * (rows + 1) - (row + 1) * (row + 2)) // 2


class TriangleSolution(Solution):
    """The best policy of a number triangle, and its values, of which most are computed when they are asked for.

    One row of values in 256 is kept: writing them all takes longer than all else. States are numbered top row first.

    Args:
        numbers: [N (N + 1) / 2], bottom row first.
        slip: probability that the other action happens.
        steps: the policy, [N (N + 1) / 2] int8, bottom row first.
        kept: values of some rows.
    """

    def __init__(self, numbers: np.ndarray, slip: float, steps: np.ndarray, kept: dict[int, np.ndarray]) -> None:
        rows = max(kept) + 1
        size = max(float(np.abs(values).max()) for values in kept.values())
        known = {
            "numbers": numbers,
            "rows": rows,
            "slip": slip,
            "steps": steps,
            "kept": kept,
            "solver": "backward-induction",
            "why": "no state comes back",
            "bound": 3 * rows * float(np.finfo(numbers.dtype).eps) / 2 * size,  # three roundings a row
            "margin": 0.0,
            "converged": True,
            "iterations": 1,
            "seconds": 0.0,
            "after": None,
            "model": None,
        }
        vars(self).update(known)  # the fields of a solution cannot be set one by one

    numbers: np.ndarray
    rows: int
    slip: float
    steps: np.ndarray
    kept: dict[int, np.ndarray]
    model: Callable[[], FiniteMDP] | None

    @property
    def value_at_start(self) -> float:
        """Of the top: the expected sum of the numbers on the way down."""
        return float(self.kept[0][0])

    @property
    def size(self) -> dict[str, Any]:
        cells, outcomes = len(self.numbers), 2 if self.slip in (0.0, 1.0) else 4
        inner = cells - self.rows
        return {"states": cells, "actions": 2, "outcomes": inner * outcomes, "gamma": 1.0, "horizon": None}

    def row(self, row: int) -> np.ndarray:
        """The values of a row, [row + 1], as the recurrence has them: each holds the number of its own cell."""
        below = min(i for i in self.kept if i >= row)
        v = self.kept[below].copy()
        unused = np.empty(below + 1, np.int8)
        for i in range(below - 1, row - 1, -1):
            at = offset(self.rows, i)
            _step(self.numbers[at : at + i + 1], v, unused, *_shares(self.slip))
        return v[: row + 1]

    @cached_property
    def cells(self) -> np.ndarray:
        """All values as the recurrence has them, [N (N + 1) / 2] in the numbers' type, top row first."""
        found = np.empty_like(self.numbers)
        v = self.kept[self.rows - 1].copy()
        unused = np.empty(self.rows, np.int8)
        for i in range(self.rows - 1, -1, -1):
            if i < self.rows - 1:
                at = offset(self.rows, i)
                _step(self.numbers[at : at + i + 1], v, unused, *_shares(self.slip))
            found[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2] = v[: i + 1]
        return found

    @cached_property
    def values(self) -> np.ndarray:
        """As the env has them, [S]: without the number of the cell itself, but at the top."""
        found: np.ndarray = self.cells - _top_first(self.numbers, self.rows)
        found[0] = self.kept[0][0]
        return found

    @cached_property
    def policy(self) -> np.ndarray:
        """[S] int8: 0 down, 1 right; 0 in the bottom row and where both are as good."""
        return _top_first(self.steps, self.rows)

    @cached_property
    def mdp(self) -> FiniteMDP:
        """The model, made when it is asked for.

        Raises:
            ValueError: nobody said how.
        """
        if self.model is None:
            raise ValueError("this triangle was solved from its numbers alone: it has no model")
        return self.model()


def _top_first(flat: np.ndarray, rows: int) -> np.ndarray:
    found = np.empty_like(flat)
    for i in range(rows):
        at = offset(rows, i)
        found[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2] = flat[at : at + i + 1]
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
    return TriangleSolution(numbers, slip, policy, {top: kept[b, : top + 1] for b, top in enumerate(tops)})


def _shares(slip: float) -> tuple[float, float, float]:
    """q, p - q, and the sign with which b - a > 0 says right."""
    sign = 0.0 if slip == 0.5 else 1.0 if slip < 0.5 else -1.0
    return min(slip, 1 - slip), abs(1 - 2 * slip), sign


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "nnan"})
def _step(numbers: np.ndarray, v: np.ndarray, policy: np.ndarray, q: float, spread: float, sign: float) -> None:
    """n cells of a row [n]: v [n + 1] of the row below becomes v [n] of this one. Loops from 0 become vector code."""
    kind = numbers.dtype.type
    q_, spread_, sign_ = kind(q), kind(spread), kind(sign)
    for j in range(len(numbers)):
        a, b = v[j], v[j + 1]
        policy[j] = sign_ * b > sign_ * a
        v[j] = numbers[j] + q_ * (a + b) + spread_ * max(a, b)


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "nnan"})
def _five_steps(
    rows: tuple[np.ndarray, ...], v: np.ndarray, policies: tuple[np.ndarray, ...], q: float, spread: float
) -> None:
    """Five rows at once, the lowest of n + 4 cells first, where the larger of two values is the one to go to.

    Values are read and written a fifth as often. Column j of the highest row needs column j + 4 of the lowest one.
    Each row's last value is carried to the next column, which becomes a shift of vectors.
    """
    kind = v.dtype.type
    q_, spread_ = kind(q), kind(spread)
    first = v[:5].copy()
    for k in range(4):  # of the lower rows, the columns that come before
        for j in range(4 - k):
            a, b = first[j], first[j + 1]
            policies[k][j] = b > a
            first[j] = rows[k][j] + q_ * (a + b) + spread_ * max(a, b)
    c4, c3, c2, c1, c0 = first
    r0, r1, r2, r3, r4 = rows
    p0, p1, p2, p3, p4 = policies
    for j in range(len(r4)):
        below = v[j + 5]
        value = r0[j + 4] + q_ * (c0 + below) + spread_ * max(c0, below)
        p0[j + 4] = below > c0
        c0, below = below, value
        value = r1[j + 3] + q_ * (c1 + below) + spread_ * max(c1, below)
        p1[j + 3] = below > c1
        c1, below = below, value
        value = r2[j + 2] + q_ * (c2 + below) + spread_ * max(c2, below)
        p2[j + 2] = below > c2
        c2, below = below, value
        value = r3[j + 1] + q_ * (c3 + below) + spread_ * max(c3, below)
        p3[j + 1] = below > c3
        c3, below = below, value
        p4[j] = below > c4
        v[j] = r4[j] + q_ * (c4 + below) + spread_ * max(c4, below)
        c4 = below


@njit(cache=True, nogil=True, inline="always")
def _five_rows(flat: np.ndarray, rows: int, row: int, first: int, cells: int) -> tuple[np.ndarray, ...]:
    """From column `first`: that many cells of a row, one fewer of the row above it, and so on."""
    a = (rows * (rows + 1) - (row + 1) * (row + 2)) // 2 + first
    b, c, d, e = a + row + 1, a + 2 * row + 1, a + 3 * row, a + 4 * row - 2
    return (
        flat[a : a + cells], flat[b : b + cells - 1], flat[c : c + cells - 2], flat[d : d + cells - 3],
        flat[e : e + cells - 4],
    )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz", "nnan"})
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
            row = below - 1
            while row >= above:
                cells = (row + 1 if part == parts - 1 else min(row + 1, last + row - above)) - first
                if sign == 1.0 and row - 4 >= above and cells > 5:
                    _five_steps(
                        _five_rows(numbers, rows, row, first, cells), v, _five_rows(policy, rows, row, first, cells),
                        q, spread,
                    )  # fmt: skip
                    row -= 5
                else:
                    at = (rows * (rows + 1) - (row + 1) * (row + 2)) // 2 + first
                    _step(numbers[at : at + cells], v, policy[at : at + cells], q, spread, sign)
                    row -= 1
            kept[band + 1, first:last] = v[: last - first]
