"""A solution to look at: as text, a picture, or frames of how it came about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlkit.api import solving
from rlkit.envs.number_triangle import NumberTriangleEnv, Triangle
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import Solution
from rlkit.pictures import grids, terminal

Drawer = Callable[[Solution, int | None, str], np.ndarray]

FRAMES = 60
"""Most frames of a film."""

ROWS = 40
"""Most lines of a map."""

NOTES = "each cell's value, its own number counted, and the better step: ↙ down, ↘ right"


def notes_values(triangle: Triangle, values: np.ndarray) -> np.ndarray:
    """Values with the own number of each cell, [S], from values of the model [S], where only the top's has it."""
    numbers = triangle.top_first()
    numbers[0] = 0.0
    return np.asarray(values + numbers)


def text(problem: gymnasium.Env[Any, Any] | FiniteMDP, solution: Solution) -> str | None:
    """Values and actions where they have a place and fit a terminal; None elsewhere."""
    if isinstance(problem, FiniteMDP):
        return None
    policy = _first(solution)
    inner = problem.unwrapped
    if isinstance(inner, NumberTriangleEnv):
        if inner.triangle.rows > grids.LEGIBLE:
            return None
        return f"{terminal.triangle_text(notes_values(inner.triangle, solution.values), policy)}\n{NOTES}"
    shape = terminal.grid_shape(problem, solution.mdp.states)
    return (
        None if shape is None or shape[0] > ROWS else terminal.grid_text(solution.mdp, solution.values, policy, shape)
    )


def draw(
    problem: gymnasium.Env[Any, Any] | FiniteMDP,
    solution: Solution,
    path: Path,
    *,
    solver: str = "auto",
    **options: Any,  # noqa: ANN401 - the planner's
) -> None:
    """Draw a solution of a triangle or a grid env: a .png, or a .gif with a frame a layer or sweep.

    The frames of a triangle show it from the bottom row up; those of a grid what the solver has after its iterations.

    Args:
        problem: the env.
        solution: of it.
        path: the file.
        solver: by which it was found, for the frames.
        **options: the planner's, for the frames.

    Raises:
        UserError: the states have no place to be drawn at, or the file cannot be written.
    """
    picture = drawer(problem, solution)
    if path.suffix.lower() != ".gif":
        grids.save_picture(picture(solution, None, caption(solution)), path)
        return
    inner = getattr(problem, "unwrapped", problem)
    if isinstance(inner, NumberTriangleEnv):
        rows = inner.triangle.rows
        layers = [rows - i for i in reversed(solving.spread(rows, FRAMES))]
        frames = [picture(solution, i, f"from row {i + 1} of {rows} down") for i in reversed(layers)]
    else:
        points = solving.trace(solution.mdp, solver, points=FRAMES, final=solution, **options)
        frames = [
            picture(found, None, f"{found.solver}, iteration {iterations} of {solution.iterations}")
            for iterations, found in points
        ]
    grids.save_frames(frames, path, fps=max(2.0, len(frames) / 10))


def caption(solution: Solution) -> str:
    """The answer in a line."""
    return f"{solution.solver}: value at the start {solution.value_at_start:.6g}, within {solution.bound:.1g}"


def drawer(problem: gymnasium.Env[Any, Any] | FiniteMDP, final: Solution) -> Drawer:
    """What draws a solution in the colours of the final one: (solution, topmost known row or None, caption)."""
    if isinstance(problem, FiniteMDP):
        raise UserError(
            "--picture needs an env with a place for each state, such as FrozenLake-v1 or a number triangle"
        )
    inner = problem.unwrapped
    if isinstance(inner, NumberTriangleEnv):
        return _triangle_drawer(inner.triangle, final)
    shape = terminal.grid_shape(problem, final.mdp.states)
    if shape is None:
        name = problem.spec.id if problem.spec else type(inner).__name__
        raise UserError(
            f"env {name!r} has no place for each state to draw it at: expected a grid, such as FrozenLake-v1 has, or "
            "a number triangle"
        )
    return _grid_drawer(problem, final, shape)


def _triangle_drawer(triangle: Triangle, final: Solution) -> Drawer:
    numbers, whole = triangle.top_first(), notes_values(triangle, final.values)
    scale = float(whole.min()), float(whole.max())

    def picture(solution: Solution, top: int | None, words: str) -> np.ndarray:
        values, policy = notes_values(triangle, solution.values), _first(solution).astype(np.int64)
        if top:
            values[: top * (top + 1) // 2], policy[: top * (top + 1) // 2] = np.nan, -1
        return grids.triangle_picture(numbers, values, policy, solution.optimal, caption=words, scale=scale)

    return picture


def _grid_drawer(problem: gymnasium.Env[Any, Any], final: Solution, shape: tuple[int, int]) -> Drawer:
    desc = getattr(problem.unwrapped, "desc", None)
    labels = None
    if desc is not None and np.shape(desc) == shape:
        letters = np.asarray(desc).astype("U1")
        labels = np.where(letters == "F", "", letters)
    grid = grids.Grid(
        moves=terminal.grid_moves(final.mdp, shape),
        walls=~terminal.entered(final.mdp).reshape(shape),
        terminals=final.mdp.terminal.reshape(shape),
        labels=labels,
    )
    scale = float(final.values.min()), float(final.values.max())

    def picture(solution: Solution, top: int | None, words: str) -> np.ndarray:
        del top
        return grids.grid_picture(
            solution.values.reshape(shape),
            _first(solution).reshape(shape),
            solution.optimal.reshape(*shape, -1),
            grid=grid,
            caption=words,
            scale=scale,
        )

    return picture


def _first(solution: Solution) -> np.ndarray:
    """Action of each state, with a horizon those of the first step."""
    return solution.policy if solution.policy.ndim == 1 else solution.policy[0]
