"""Values and actions as text: a number triangle, or the cells of a grid.

Letters: S states, A actions.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from rlkit.exact.mdp import FiniteMDP

WIDTH = 100
"""Columns of a terminal that a map may take."""

MOVES = {(0, -1): "←", (1, 0): "↓", (0, 1): "→", (-1, 0): "↑"}
"""A step by rows and columns, as an arrow."""


def grid_shape(env: gymnasium.Env[Any, Any], states: int) -> tuple[int, int] | None:
    """Rows and columns of an env whose states are the cells of a grid, row by row; None for another env."""
    inner = env.unwrapped
    shape = getattr(inner, "shape", None)
    if not isinstance(shape, tuple):
        shape = np.shape(getattr(inner, "desc", ()))
    if len(shape) != 2 or shape[0] * shape[1] != states:
        return None
    return int(shape[0]), int(shape[1])


def grid_moves(mdp: FiniteMDP, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Where each action leads on average, as a step (rows, columns) of one; (0, 0) for one that stays.

    Outcomes that jump further than to a neighbour do not count: they are no direction.
    """
    rows = np.repeat(np.arange(mdp.states * mdp.actions), np.diff(mdp.indptr))
    state, action = np.divmod(rows, mdp.actions)
    down, right = np.subtract(np.divmod(mdp.indices, shape[1]), np.divmod(state, shape[1]))
    near = (np.abs(down) + np.abs(right) <= 1) & ~mdp.terminal[state]
    drift = np.zeros((mdp.actions, 2))
    np.add.at(drift, action[near], np.stack([down, right], axis=1)[near] * mdp.probabilities[near, None])
    moves = []
    for vertical, horizontal in drift:
        if max(abs(vertical), abs(horizontal)) < 1e-9:
            moves.append((0, 0))
        elif abs(vertical) > abs(horizontal):
            moves.append((int(np.sign(vertical)), 0))
        else:
            moves.append((0, int(np.sign(horizontal))))
    return moves


def entered(mdp: FiniteMDP) -> np.ndarray:
    """Which states an episode begins in, or another state leads to, [S] bool; the others are walls, or a cliff."""
    rows = np.repeat(np.arange(mdp.states * mdp.actions), np.diff(mdp.indptr))
    into = mdp.indices[(rows // mdp.actions != mdp.indices) & (mdp.probabilities > 0)]
    found: np.ndarray = mdp.start > 0
    found[into] = True
    return found


def grid_text(mdp: FiniteMDP, values: np.ndarray, policy: np.ndarray, shape: tuple[int, int]) -> str | None:
    """The value and the arrow of each cell, or the arrow alone; None where that is wider than a terminal.

    A cell without an action has ■, one that nothing enters is #.

    Args:
        mdp: the model, of which the arrows are read.
        values: [S].
        policy: [S] actions.
        shape: rows and columns, S cells.
    """
    arrows = [MOVES.get(move, "·") for move in grid_moves(mdp, shape)]
    marks = ["■" if end else arrows[action] for action, end in zip(policy, mdp.terminal, strict=True)]

    def lines(cells: list[str]) -> list[list[str]]:
        return [cells[i : i + shape[1]] for i in range(0, len(cells), shape[1])]

    inside = entered(mdp)
    marks = [mark if there else "#" for mark, there in zip(marks, inside, strict=True)]
    wide, narrow = (
        [
            f"{number(value, digits)} {mark}" if there else mark
            for value, mark, there in zip(values, marks, inside, strict=True)
        ]
        for digits in (2, 1)
    )
    return _table(lines(wide)) or _table(lines(narrow), gap=1) or _table(lines(marks), gap=1)


def triangle_text(values: np.ndarray, policy: np.ndarray) -> str | None:
    """A pyramid of the values of cells, each with its arrow, ↙ for action 0 and ↘ for 1; None where that is too wide.

    Args:
        values: [S], the top first and each row from the left.
        policy: [S]; the bottom row's does not count.
    """
    rows = (math.isqrt(8 * len(values) + 1) - 1) // 2
    ends = np.arange(len(values)) >= len(values) - rows
    arrows = np.where(ends, " ", np.array(["↙", "↘"])[np.clip(policy, 0, 1)])
    whole = bool((values == np.round(values)).all())
    for digits in (0,) if whole else (2, 1, 0):
        text = _pyramid([number(v, digits) + a for v, a in zip(values, arrows, strict=True)], rows)
        if text is not None:
            return text
    return _pyramid(["∙" if end else arrow for end, arrow in zip(ends, arrows, strict=True)], rows)


def _pyramid(cells: list[str], rows: int) -> str | None:
    """Each row half a cell to the left of the one above; None where that is too wide."""
    width = max(map(len, cells)) + 1
    width += width % 2
    if width * rows > WIDTH:
        return None
    lines = [cells[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2] for i in range(rows)]
    return "\n".join(
        (" " * (width // 2 * (rows - len(line))) + "".join(cell.rjust(width) for cell in line)).rstrip()
        for line in lines
    )


def _table(lines: list[list[str]], gap: int = 2) -> str | None:
    """Cells right-aligned in columns of one width; None where that is too wide."""
    width = max(len(cell) for line in lines for cell in line)
    if (width + gap) * max(map(len, lines)) - gap > WIDTH:
        return None
    return "\n".join((" " * gap).join(cell.rjust(width) for cell in line).rstrip() for line in lines)


def number(value: float, digits: int = 2) -> str:
    """A value in few characters, at most so many after the point."""
    if not np.isfinite(value) or abs(value) >= 1e5:
        return f"{value:.3g}"
    return f"{round(value, digits) + 0.0:.{digits if abs(value) < 1e3 else 0}f}"
