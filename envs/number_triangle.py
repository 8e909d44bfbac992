"""The number triangle: a path from the top to the bottom row, and the numbers on it added up."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.files import MOST_DATA, home, read_bytes
from rlkit.pictures import grids
from rlkit.seeding import Purpose, generator

MOST_ROWS = 65_535
"""With these, a cell's number still fits in int32, as a state of a FiniteMDP has to."""

TEXT_ROWS = 20
"""Most rows that are shown as text."""


class Triangle:
    """Rows of numbers, the i-th with i + 1 of them, i from 0.

    They lie in one flat float64 array with the bottom row first, so that backward induction walks through memory
    forwards: row i begins at ``cells - (i + 1) (i + 2) / 2``.

    >>> triangle = Triangle([[1], [1, 2], [1, 2, 1]])
    >>> triangle.rows, triangle.cells, triangle[1, 1], triangle.row(2).tolist()
    (3, 6, 2.0, [1.0, 2.0, 1.0])

    Args:
        numbers: the rows from the top; or a square array, the triangle on and below its diagonal, 0 or NaN above.

    Raises:
        UserError: a row that is too short or too long, or something that is no finite number.
    """

    def __init__(self, numbers: Any) -> None:  # noqa: ANN401 - anything that NumPy makes arrays of
        given = [np.atleast_1d(_numbers(row, i)) for i, row in enumerate(_square(numbers))]
        for i, row in enumerate(given):
            if row.shape != (i + 1,):
                raise UserError(f"row {i + 1} of the triangle has {_count(row.size)}, expected {i + 1}")
        if not given:
            raise UserError("the triangle has no rows")
        self._flat = np.concatenate(given[::-1])
        self.rows = len(given)

    @classmethod
    def from_bottom_first(cls, flat: np.ndarray) -> Self:
        """From what `bottom_first` gives, [cells]; float64 is not copied.

        Raises:
            UserError: a size that is no triangle's, or something that is no finite number.
        """
        triangle = cls.__new__(cls)
        triangle._flat = np.ascontiguousarray(flat, np.float64)
        triangle.rows = (math.isqrt(8 * triangle.cells + 1) - 1) // 2
        if triangle._flat.ndim != 1 or not triangle.cells or _cells(triangle.rows) != triangle.cells:
            raise UserError(f"the array's shape is {triangle._flat.shape}, expected [1], [3], [6], [10], ...")
        if not np.isfinite([triangle._flat.min(), triangle._flat.max()]).all():
            raise UserError("the triangle's numbers must be finite")
        return triangle

    @classmethod
    def random(cls, rows: int, seed: int) -> Self:
        """Independent integers, 0 to 99 with equal chances.

        Raises:
            UserError: no such number of rows or seed, or too many rows for the memory.
        """
        _check_whole("rows", rows, 1, MOST_ROWS)
        _check_whole("triangle_seed", seed, 0, 2**57)
        try:
            drawn = generator(seed, Purpose.TRIANGLE).integers(0, 100, _cells(rows), np.uint8)
            return cls.from_bottom_first(drawn.astype(np.float64))
        except MemoryError:
            raise UserError(f"rows is {rows}, and {_cells(rows) * 8 / 2**30:.0f} GiB do not fit in memory") from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a text file in UTF-8: a row a line, integers or decimals with white space between them.

        What follows a # is a comment. Blank lines may stand before the first row and after the last.

        Raises:
            UserError: a file that is missing, cannot be read or is malformed; with the line, and what is wrong in it.
        """
        rows: list[np.ndarray] = []
        blank, line = 0, 0
        try:
            for line, raw in enumerate(io.BytesIO(read_bytes(home(path), MOST_DATA)), 1):
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
                words = text.partition("#")[0].split()
                if not words:
                    blank = blank or (0 if "#" in text else line)
                else:
                    if rows and blank:
                        raise UserError(f"line {blank} is blank, expected {_count(len(rows) + 1)}")
                    rows.append(_parse(words, line, len(rows) + 1))
                    blank = 0
        except UnicodeDecodeError:
            raise UserError(f"triangle file {path}: line {line} is no text in UTF-8") from None
        except UserError as error:
            raise UserError(f"triangle file {path}: {error}") from None
        except FileNotFoundError:
            raise UserError(f"triangle file {path} does not exist") from None
        except (OSError, ValueError) as error:  # the latter where the path itself is none
            raise UserError(f"triangle file {path} cannot be read: {getattr(error, 'strerror', error)}") from None
        if not rows:
            raise UserError(f"triangle file {path} is empty, expected rows of 1, 2, 3, ... numbers")
        triangle = cls.__new__(cls)
        triangle._flat, triangle.rows = np.concatenate(rows[::-1]), len(rows)
        return triangle

    @property
    def cells(self) -> int:
        """How many numbers there are."""
        return int(self._flat.size)

    def bottom_first(self) -> np.ndarray:
        """All numbers, [cells] float64, the bottom row first and each row from the left; not copied."""
        return self._flat

    def top_first(self) -> np.ndarray:
        """All numbers, [cells] float64, the top first: in the order of the states."""
        return np.concatenate([self.row(i) for i in range(self.rows)])

    def row(self, i: int) -> np.ndarray:
        """The numbers of a row, [i + 1] float64, the top's being row 0; not copied."""
        if not 0 <= i < self.rows:
            raise IndexError(f"row {i} of a triangle with rows 0 to {self.rows - 1}")
        begin = self.cells - _cells(i + 1)
        return self._flat[begin : begin + i + 1]

    def __getitem__(self, cell: tuple[int, int]) -> float:
        i, j = cell
        if not 0 <= j <= i:
            raise IndexError(f"cell {j} of row {i}, which has cells 0 to {i}")
        return float(self.row(i)[j])

    def __len__(self) -> int:
        return self.rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Triangle) and np.array_equal(self._flat, other._flat)

    __hash__ = None  # type: ignore[assignment] # its numbers may be changed

    def __repr__(self) -> str:
        return f"Triangle({self.rows} rows, top {self[0, 0]:g})"


class NumberTriangleEnv(gymnasium.Env[Any, Any]):
    """A path through a triangle of numbers, from its top to its bottom row.

    ## Description
    A triangle has N rows, the i-th with i + 1 numbers (i and j from 0). From cell (i, j) one goes down, to
    (i + 1, j), or right, to (i + 1, j + 1). The aim is a path with a large sum. With `slip` 0 this is dynamic
    programming's first example (IOI 1994; Project Euler 18); with a slip probability p it is a finite-horizon MDP,
    whose model a planner knows (`mdp`) and a learner does not:

        V(i, j) = r(i, j) + max_a ((1 - p) V(i + 1, j + a) + p V(i + 1, j + 1 - a)),   V(N - 1, j) = r(N - 1, j)

    ## Action space
    `Discrete(2)`: 0 is down, 1 is right. With probability `slip` the other one happens.

    ## Observation space
    `Discrete(N (N + 1) / 2)`: the cell, i (i + 1) / 2 + j.

    ## Starting state
    The top, 0.

    ## Rewards
    The number of the cell that is entered. The first step's reward has the top's number added, so that the return of
    an episode is the sum of all N numbers on the path.

    ## Episode end
    The episode terminates as it enters the bottom row, after N - 1 steps. It is never truncated.

    ## Rendering
    "ansi": the rows as text, the agent's cell in [], those it came through in (); beyond 20 rows, what lies below the
    agent. "rgb_array": a picture; beyond 20 rows, a heat map.

    ## Arguments
    - `triangle`: a text file as `Triangle.read` takes it; in Python also a `Triangle` or its rows. If not given, it
      is a random one.
    - `rows`: of a random triangle.
    - `triangle_seed`: of a random triangle's numbers, integers from 0 to 99.
    - `slip`: probability that the other action happens, in [0, 1].

    Raises:
        UserError: an argument that is out of its range, or a triangle with fewer than 2 rows.

    ## Version history
    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(
        self,
        triangle: str | Path | Triangle | Any | None = None,  # noqa: ANN401 - rows of numbers
        rows: int = 15,
        triangle_seed: int = 0,
        slip: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        _check_probability("slip", slip)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"render_mode is {render_mode!r}, expected None, 'ansi' or 'rgb_array'")
        if triangle is None:
            self.triangle = Triangle.random(rows, triangle_seed)
        elif isinstance(triangle, Triangle):
            self.triangle = triangle
        elif isinstance(triangle, str | Path | int | float):  # the command line reads a file's name 18 as a number
            self.triangle = Triangle.read(str(triangle))
        else:
            self.triangle = Triangle(triangle)
        if self.triangle.rows < 2:
            raise UserError(f"the triangle has {self.triangle.rows} row, expected at least 2: there is nowhere to go")
        self.slip = float(slip)
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(self.triangle.cells)
        self.action_space = spaces.Discrete(2)
        self.path: list[tuple[int, int]] = []
        """Cells of the episode so far, (i, j)."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.path = [(0, 0)]
        return 0, {}

    def step(self, action: int | np.integer[Any]) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if not self.path or len(self.path) == self.triangle.rows:
            raise gymnasium.error.ResetNeeded("the episode has ended or not begun: call reset()")
        if action not in (0, 1):
            raise gymnasium.error.InvalidAction(f"action {action!r}, expected 0 (down) or 1 (right)")
        i, j = self.path[-1]
        slipped = bool(self.np_random.random() < self.slip)
        below = (i + 1, j + (int(action) ^ slipped))
        reward = self.triangle[below] + (self.triangle[0, 0] if i == 0 else 0.0)
        self.path.append(below)
        return state(*below), reward, i + 2 == self.triangle.rows, False, {}

    def mdp(self, gamma: float = 1.0) -> FiniteMDP:
        """The model: a state a cell, the bottom row terminal, and a reward for each outcome.

        Its values V(s) do not hold the own number of a cell, since that is paid as the cell is entered; the top's does.
        """
        cells, rows = self.triangle.cells, self.triangle.rows
        inner = cells - rows
        ways = 1 if self.slip in (0.0, 1.0) else 2  # outcomes of an action
        below = np.arange(inner, dtype=np.int32)
        below += np.repeat(np.arange(1, rows, dtype=np.int32), np.arange(1, rows))
        indices = np.empty((inner, 2, ways), np.int32)  # [S', A, outcome]
        probabilities = np.empty((inner, 2, ways))
        if ways == 2:
            indices[:] = below[:, None, None] + np.arange(2, dtype=np.int32)
            probabilities[:] = np.array([[1 - self.slip, self.slip], [self.slip, 1 - self.slip]])
        else:
            first = int(self.slip)  # where action 0 leads
            indices[:] = below[:, None, None] + np.array([[first], [1 - first]], np.int32)
            probabilities[:] = 1.0
        numbers = self.triangle.top_first()
        rewards = numbers[indices]
        with np.errstate(over="ignore"):  # which is told as a reward that is not finite
            rewards[0] += numbers[0]
        indptr = np.full(2 * cells + 1, indices.size, np.int64 if indices.size >= 2**31 else np.int32)
        indptr[: 2 * inner] = np.arange(0, indices.size, ways)
        terminal = np.zeros(cells, np.bool_)
        terminal[inner:] = True
        arrays = (indptr, indices.reshape(-1), probabilities.reshape(-1))
        return FiniteMDP(arrays, rewards.reshape(-1), gamma=gamma, terminal=terminal)

    def render(self) -> str | np.ndarray | None:
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: give render_mode='ansi' or 'rgb_array'")
            return None
        if self.render_mode == "ansi":
            return as_text(self.triangle, self.path)
        return grids.triangle_picture(
            self.triangle.top_first(),
            highlight=[state(i, j) for i, j in self.path],
            caption=self._caption(),
        )

    def _caption(self) -> str:
        total = sum(self.triangle[cell] for cell in self.path)
        return f"row {len(self.path)} of {self.triangle.rows}, sum {total:.10g}"


def state(i: int, j: int) -> int:
    """The number of a cell, counted from the top."""
    return _cells(i) + j


def as_text(triangle: Triangle, path: list[tuple[int, int]]) -> str:
    """The triangle with the cells of a path in () and its last one in [].

    One with more than 20 rows is shown from the last cell down, as far as 20 rows reach.
    """
    i0, j0 = path[-1] if path and triangle.rows > TEXT_ROWS else (0, 0)
    end = min(triangle.rows, i0 + TEXT_ROWS)
    marks = dict.fromkeys(path[:-1], "()") | dict.fromkeys(path[-1:], "[]")
    shown = [
        [(f"{x:.10g}", marks.get((i, j), "  ")) for j, x in enumerate(triangle.row(i)[j0 : j0 + i - i0 + 1], j0)]
        for i in range(i0, end)
    ]
    width = max(len(text) for row in shown for text, _ in row)
    width += width % 2  # so that a row is shifted by half a cell
    lines = [
        " " * ((width + 2) // 2 * (len(shown) - len(row)))
        + "".join(f"{mark[0]}{text}{mark[1]}".center(width + 2) for text, mark in row)
        for row in shown
    ]
    total = sum(triangle[cell] for cell in path)
    head = f"row {len(path)} of {triangle.rows}, sum {total:.10g}"
    hidden = [f"... {triangle.rows - end} rows more"] if end < triangle.rows else []
    return "\n".join(line.rstrip() for line in [head, *lines, *hidden])


def _cells(rows: int) -> int:
    return rows * (rows + 1) // 2


def _count(numbers: int) -> str:
    return f"{numbers} number" + ("s" if numbers != 1 else "")


def _check_whole(name: str, value: Any, low: int, high: int) -> None:  # noqa: ANN401 - what a user gave
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise UserError(f"{name} is {value!r}, expected a whole number from {low} to {high}")


def _check_probability(name: str, value: Any) -> None:  # noqa: ANN401 - what a user gave
    if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise UserError(f"{name} is {value!r}, expected a probability from 0 to 1")


def _square(numbers: Any) -> Any:  # noqa: ANN401 - an array-like
    """The rows of a triangle that lies in a square array; anything else as it is."""
    if not isinstance(numbers, np.ndarray):
        if not isinstance(numbers, Iterable):
            raise UserError(f"the triangle is {numbers!r:.60}, expected a list of rows")
        return numbers
    if numbers.ndim != 2 or numbers.shape[0] != numbers.shape[1]:
        raise UserError(f"the triangle's shape is {numbers.shape}, expected a list of rows or a square array")
    above = numbers[np.triu_indices(len(numbers), 1)]
    if not ((above == 0) | np.isnan(above)).all():
        raise UserError("the triangle's array has numbers above its diagonal, expected 0 or NaN there")
    return [numbers[i, : i + 1] for i in range(len(numbers))]


def _numbers(row: Any, i: int) -> np.ndarray:  # noqa: ANN401 - an array-like
    try:
        numbers = np.asarray(row, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim > 1:
        raise UserError(f"row {i + 1} of the triangle is {row!r:.60}, expected {_count(i + 1)}")
    if not np.isfinite(numbers).all():
        raise UserError(f"row {i + 1} of the triangle has {numbers[~np.isfinite(numbers)][0]}, expected finite numbers")
    return numbers


def _parse(words: list[str], line: int, expected: int) -> np.ndarray:
    """The numbers of a line, [expected] float64."""
    try:
        row = np.array([float(word) for word in words])
    except ValueError:
        row = np.full(len(words), np.nan)
    # Python takes more for a number than a decimal: nan, inf, 1_000 and digits of other scripts.
    if not np.isfinite(row).all() or not (text := "".join(words)).isascii() or "_" in text:
        raise UserError(f"line {line}: {_first_wrong(words)}, expected integers or decimals")
    if len(row) != expected:
        raise UserError(f"line {line} has {_count(len(row))}, expected {expected}")
    return row


def _first_wrong(words: list[str]) -> str:
    for word in words:
        shown = repr(word if len(word) <= 30 else word[:30] + "...")
        try:
            finite = math.isfinite(float(word))
        except ValueError:
            return f"{shown} is no number"
        if not word.isascii() or "_" in word:
            return f"{shown} is no number"
        if not finite:
            return f"{shown} is not finite"
    raise AssertionError("every word is a number")
