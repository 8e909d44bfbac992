"""Planning as a whole: from an env's name, an env or a model to a certified solution. Loads no TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rlkit.agents.planning import planners, triangle
from rlkit.api.catalogue import SOLVER_OPTIONS
from rlkit.config import checked
from rlkit.envs import lookup
from rlkit.envs.number_triangle import NumberTriangleEnv
from rlkit.errors import UserError, short
from rlkit.exact import env_model
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import Solution
from rlkit.files import whole

TRIANGLE = "rlkit/NumberTriangle-v0"
"""The env that the triangle's short forms mean."""

Problem = str | gymnasium.Env[Any, Any] | FiniteMDP

COMMON = {"tolerance", "max_iterations", "allow_unconverged"}
"""Settings of every planner."""

OPTIONS = {name for names in SOLVER_OPTIONS.values() for name in names}
"""Keywords of `solve` that go to the planner and not to the env."""


def solve(
    problem: Problem,
    solver: str = "auto",
    *,
    gamma: float | None = None,
    horizon: int | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 100_000,
    allow_unconverged: bool = False,
    **rest: Any,  # noqa: ANN401 - the env's arguments and the planner's options
) -> Solution:
    """Plan with a known model, and prove how far the values can be from the optimal ones.

    >>> solution = solve("FrozenLake-v1", gamma=0.99, is_slippery=True)
    >>> round(solution.value_at_start, 6), solution.bound < 1e-6
    (0.542026, True)

    Args:
        problem: a Gymnasium id, an env, or a model.
        solver: a planner's name, or "auto" for the one that fits.
        gamma: discount of a step; the model's own where a model is given, else 1.
        horizon: steps after which an episode ends; none if not given.
        tolerance: largest distance from the optimal values that is allowed, in the unit of the rewards.
        max_iterations: the planner's budget.
        allow_unconverged: return what there is when the budget is used up.
        **rest: arguments of the env, such as is_slippery=False, and the planner's options, such as method="jacobi".

    Raises:
        UserError: an unknown env, argument, planner or option, an env without a model, or one whose episodes need
            not end and no gamma is given.
        NotConvergedError: the bound is not within the tolerance.
    """
    gamma, horizon = checked("gamma", gamma, float | None), checked("horizon", horizon, int | None)
    settings: dict[str, Any] = {
        "tolerance": checked("tolerance", tolerance, float),
        "max_iterations": checked("max_iterations", max_iterations, int),
        "allow_unconverged": allow_unconverged,
    }
    settings |= {name: value for name, value in rest.items() if name in OPTIONS}
    env_args = {name: value for name, value in rest.items() if name not in OPTIONS}
    with opened(problem, env_args) as found:
        if horizon is None and solver in ("auto", "backward-induction"):
            inner = found if isinstance(found, FiniteMDP) else env_model.modelled(found)
            if type(inner) is NumberTriangleEnv:
                return solve_triangle(inner, solver, gamma=gamma, **settings)
        return planners.solve(model(found, gamma=gamma, horizon=horizon), solver, **settings)


LARGE_TRIANGLE = 200_000
"""Cells from which a triangle is solved from its numbers, without a model of it in memory."""


def solve_triangle(env: NumberTriangleEnv, solver: str, *, gamma: float | None, **settings: Any) -> Solution:  # noqa: ANN401
    """A number triangle by backward induction; a large one by a kernel of its own."""
    numbers = env.triangle
    if numbers.cells < LARGE_TRIANGLE or gamma not in (None, 1.0) or set(settings) - COMMON:
        return planners.solve(model(env, gamma=gamma), solver, **settings)
    begun = time.perf_counter()
    found = triangle.solve_triangle(numbers.bottom_first(), env.slip)
    # As far as float64 goes for values of this size: a smaller tolerance could not be met.
    tolerance = max(settings["tolerance"], 1e-11 * abs(found.value_at_start))
    vars(found).update(
        seconds=time.perf_counter() - begun, converged=found.bound <= tolerance, model=lambda: env.mdp(1.0)
    )
    return found


def model(
    problem: Problem, *, gamma: float | None = None, horizon: int | None = None, **env_args: Any  # noqa: ANN401
) -> FiniteMDP:  # fmt: skip
    """The model of an env, or a model with another discount or horizon; see `solve`."""
    with opened(problem, env_args) as found:
        if isinstance(found, FiniteMDP):
            return found.replace(gamma=gamma, horizon=horizon)
        asked = 1.0 if gamma is None else gamma
        # Discounted first where a horizon is given: then whether episodes end by themselves does not matter.
        return FiniteMDP.from_env(found, gamma=asked if horizon is None else 0.0).replace(gamma=asked, horizon=horizon)


@contextmanager
def opened(problem: Problem, env_args: Mapping[str, Any]) -> Iterator[gymnasium.Env[Any, Any] | FiniteMDP]:
    """A problem's env, made and closed again where only its name is given, or its model."""
    if isinstance(problem, str):
        env = make(problem, env_args)
        try:
            yield env
        finally:
            env.close()
    elif not isinstance(problem, FiniteMDP | gymnasium.Env):
        raise UserError(
            f"the problem is {short(problem)}, expected an env's id such as 'FrozenLake-v1', an env that is made, or a "
            "FiniteMDP"
        )
    elif env_args:
        raise UserError(f"{next(iter(env_args))!r} is no option: a problem that is made takes no arguments")
    else:
        yield problem


def make(env: str, env_args: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """A registered env; UserError where there is no such one, or it refuses its arguments."""
    takes = lookup.arguments(env)
    for name in env_args:
        if name not in takes:
            there = ", ".join(sorted(takes)) or "none"
            raise UserError(f"env {env!r} takes no argument {name!r}: it takes {there}")
    try:
        return gymnasium.make(lookup.find(env), **env_args)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError, KeyError, AssertionError) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in env_args.items())
        raise UserError(f"env {env!r} cannot be made{' with ' + given if given else ''}: {error}") from error


ONE_PASS = ("backward-induction", "linear-programming")
"""Planners that have nothing before they have everything."""


class Point(NamedTuple):
    """What a solver has after some iterations."""

    iterations: int
    solution: Solution


def trace(
    mdp: FiniteMDP, solver: str = "auto", *, points: int = 60, final: Solution | None = None, **options: Any  # noqa: ANN401
) -> list[Point]:  # fmt: skip
    """What a solver has after 1, 2, 3, ... iterations up to its last, each by a run of its own that stops there.

    Args:
        mdp: the model.
        solver: a planner's name, or "auto".
        points: at most so many, the first ones an iteration apart and the later ones in growing steps.
        final: its solution, if it is known already.
        **options: as `rlkit.agents.planning.planners.solve`.
    """
    budget = {"allow_unconverged": True, "tolerance": options.pop("tolerance", 1e-6)}
    if final is None:
        final = planners.solve(mdp, solver, **budget, **options)
    found = [Point(final.iterations, final)]
    if final.solver not in ONE_PASS:
        for count in reversed(spread(final.iterations, points)[:-1]):
            solution = planners.solve(mdp, solver, max_iterations=count, **budget, **options)
            if solution.iterations == count:  # some planners count in larger steps than one
                found.append(Point(count, solution))
    return found[::-1]


def spread(last: int, points: int) -> list[int]:
    """1 to `last` where that many fit, else as many in steps that grow."""
    if last <= points:
        return list(range(1, last + 1))
    return sorted({round(x) for x in np.geomspace(1, last, points)})


def save(solution: Solution, path: Path) -> None:
    """Write values, policy, action values and the bound to a file, .npz; whole or not at all."""
    with whole(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            values=solution.values,
            policy=solution.policy,
            q=solution.q,
            bound=solution.bound,
            converged=solution.converged,
            solver=solution.solver,
            gamma=solution.size["gamma"],
        )
