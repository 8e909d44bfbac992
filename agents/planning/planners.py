"""Planners by name, and the one that fits: every answer comes with a proven bound on its error.

Letters: S states, A actions.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rlkit.agents.planning.backward_induction import backward_induction, finite_horizon
from rlkit.agents.planning.goal import Goal, Progress
from rlkit.agents.planning.linear_programming import linear_programming
from rlkit.agents.planning.policy_iteration import inexact_policy_iteration, modified_policy_iteration, policy_iteration
from rlkit.agents.planning.q_iteration import q_iteration
from rlkit.agents.planning.value_iteration import value_iteration
from rlkit.errors import UserError, unknown
from rlkit.exact import backups, bounds, end_components
from rlkit.exact.bounds import Certified
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import NotConvergedError, Solution

Planner = Callable[..., Progress]

PLANNERS: dict[str, Planner] = {
    "backward-induction": backward_induction,
    "value-iteration": value_iteration,
    "policy-iteration": policy_iteration,
    "modified-policy-iteration": modified_policy_iteration,
    "inexact-policy-iteration": inexact_policy_iteration,
    "q-iteration": q_iteration,
    "linear-programming": linear_programming,
}

SMALL = 20_000
"""Outcomes up to which sweeps in place are over before anything else has begun."""

SLOW = 400
"""Sweeps after which value iteration on a small model gives way to policy iteration."""


FRUITLESS = 3
"""Times that a planner may go on without a better bound, before it is at the end of what float64 can tell."""


class Choice(NamedTuple):
    """A planner and why it fits."""

    solver: str
    why: str


def choose(mdp: FiniteMDP) -> Choice:
    """The planner that fits a model's shape."""
    if mdp.horizon is not None:
        return Choice("backward-induction", f"episodes end after {mdp.horizon} steps")
    if mdp.ordered:
        return Choice("backward-induction", "no state comes back")
    if mdp.gamma == 1.0:
        if mdp.states <= SMALL:
            return Choice("policy-iteration", "undiscounted and small enough to solve each policy exactly")
        return Choice("inexact-policy-iteration", "undiscounted and large")
    if mdp.nnz <= SMALL:
        return Choice("value-iteration", "small")
    reach = max(64, 4 * int(np.sqrt(mdp.states)))
    if backups.nearness(mdp.indptr, mdp.indices, mdp.states, mdp.actions, reach) > 0.5:
        return Choice("inexact-policy-iteration", "states lead to near ones, so that values spread slowly")
    return Choice("modified-policy-iteration", "states lead far, so that values mix fast")


def solve(
    mdp: FiniteMDP,
    solver: str = "auto",
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 100_000,
    allow_unconverged: bool = False,
    **options: Any,  # noqa: ANN401 - the planner's own
) -> Solution:
    """Plan, and prove how far the values can be from the optimal ones.

    >>> step = FiniteMDP.from_dense([[[0.0, 1.0]], [[0.0, 1.0]]], [[2.0], [0.0]], terminal=[False, True])
    >>> solve(step).values.tolist()
    [2.0, 0.0]

    Args:
        mdp: the model.
        solver: a name in PLANNERS, or "auto" for the one that fits.
        tolerance: largest distance from the optimal values that is allowed, in the unit of the rewards.
        max_iterations: the planner's budget; see its docstring for what it counts.
        allow_unconverged: return what there is when the budget is used up.
        **options: the planner's own, such as method="jacobi".

    Raises:
        UserError: an unknown planner or option, or a model that the planner cannot solve.
        NotConvergedError: the bound is not within the tolerance.
    """
    begun = time.perf_counter()
    if not tolerance > 0 or max_iterations < 1:
        raise UserError(f"tolerance is {tolerance:g} and max_iterations {max_iterations}, expected both above 0")
    choice = choose(mdp) if solver == "auto" else Choice(solver, "")
    if choice.solver not in PLANNERS:
        raise unknown("solver", solver, ["auto", *PLANNERS])
    planner = PLANNERS[choice.solver]
    check_options(choice.solver, options)
    margin = 2 * mdp.gamma * tolerance
    if mdp.horizon is not None:
        solution = _to_the_horizon(mdp, choice, tolerance, margin, begun)
        return _checked(solution, tolerance, mdp.horizon + 1, allow_unconverged)  # what it lacks is precision
    free = end_components.reduce(mdp) if mdp.gamma == 1.0 else None
    model = mdp if free is None else free
    goal = Goal(tolerance, _threshold(model, tolerance), margin, max_iterations)
    if choice.solver == "value-iteration" and solver == "auto":
        planner = _small
    v = np.zeros(model.states)
    used, before, fruitless = 0, np.inf, 0
    while True:
        progress = planner(model, v, goal, **options)
        used, v = used + progress.iterations, progress.values
        certified = certify(model, progress, margin)
        fruitless = 0 if certified.bound < 0.9 * before else fruitless + 1
        if certified.bound <= tolerance or used >= max_iterations or fruitless == FRUITLESS:
            break
        before = min(before, certified.bound)
        shrink = min(0.5, 0.5 * tolerance / before) if np.isfinite(before) else 0.01
        goal = Goal(tolerance, goal.threshold * shrink, margin, max_iterations - used)
    if free is not None:
        certified = _lifted(mdp, certified, margin)
    solution = Solution(
        mdp=mdp,
        solver=choice.solver,
        why=choice.why,
        values=certified.values,
        policy=certified.policy,
        bound=certified.bound,
        margin=margin,
        converged=certified.bound <= tolerance,
        iterations=used,
        seconds=time.perf_counter() - begun,
    )
    return _checked(solution, tolerance, max_iterations, allow_unconverged)


def check_options(solver: str, options: dict[str, Any]) -> None:
    """Refuse an option that a planner does not take."""
    takes = [p.name for p in inspect.signature(PLANNERS[solver]).parameters.values() if p.kind == p.KEYWORD_ONLY]
    for name in options:
        if name not in takes:
            raise UserError(f"{solver} takes no option {name!r}: it takes {', '.join(takes) or 'none'}")


def certify(mdp: FiniteMDP, progress: Progress, margin: float) -> Certified:
    """The bound that one backup proves."""
    if mdp.gamma == 1.0:
        return bounds.undiscounted(mdp, progress.values, margin)
    backup = progress.backup or backups.back_up(mdp, progress.values, margin)
    return bounds.discounted(mdp, backup)


def _threshold(mdp: FiniteMDP, tolerance: float) -> float:
    """The change of a value that promises the tolerance."""
    if mdp.gamma == 1.0:
        return 1e-3 * tolerance
    return tolerance * (1 - mdp.gamma) / mdp.gamma if mdp.gamma > 0 else np.inf


def _small(mdp: FiniteMDP, v: np.ndarray, goal: Goal) -> Progress:
    """Value iteration, and where it is slow exact policy iteration."""
    sweeps, change = backups.gauss_seidel(mdp, v, goal.threshold, min(SLOW, goal.iterations))
    if change <= goal.threshold or sweeps == goal.iterations:
        return Progress(v, sweeps)
    progress = policy_iteration(mdp, v, goal.left(sweeps))
    return progress._replace(iterations=sweeps + progress.iterations)


def _lifted(mdp: FiniteMDP, certified: Certified, margin: float) -> Certified:
    """From the process without free cycles back to the one that was asked about."""
    values = end_components.lift(mdp, certified.values)
    q = mdp.q_values(values)
    policy = bounds.ending_policy(mdp, q >= q.max(axis=1, keepdims=True) - margin)
    if policy is None:
        return Certified(values, q.argmax(axis=1), np.inf)
    return Certified(values, policy, certified.bound)


def _to_the_horizon(mdp: FiniteMDP, choice: Choice, tolerance: float, margin: float, begun: float) -> Solution:
    if choice.solver != "backward-induction":
        raise UserError(f"{choice.solver} needs a process without a horizon: take backward-induction")
    assert mdp.horizon is not None
    steps = finite_horizon(mdp, margin)
    bound = mdp.horizon * bounds.rounding(mdp, steps.size)
    return Solution(
        mdp=mdp,
        solver=choice.solver,
        why=choice.why,
        values=steps.values,
        policy=steps.policy,
        bound=bound,
        margin=margin,
        converged=bound <= tolerance,
        iterations=mdp.horizon,
        seconds=time.perf_counter() - begun,
        after=steps.after,
    )


def _checked(solution: Solution, tolerance: float, max_iterations: int, allow_unconverged: bool) -> Solution:
    if solution.converged or allow_unconverged:
        return solution
    bound = f"the bound {solution.bound:.3g}" if np.isfinite(solution.bound) else "no bound"
    if solution.iterations >= max_iterations:
        why = f"max_iterations, {max_iterations:,}, is used up; a larger one or a larger tolerance may help"
    else:
        why = "more iterations no longer improve it, as float64 tells no more; a larger tolerance may help"
    raise NotConvergedError(
        f"{solution.solver} stopped after {solution.iterations:,} iterations with {bound} where the tolerance is "
        f"{tolerance:g}: {why}, or another solver",
        solution,
    )
