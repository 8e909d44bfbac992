"""Solvers, learners and finished runs side by side, measured against the certified solution.

Letters: S states, A actions.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit import agents
from rlkit.agents.planning import planners
from rlkit.api import solving
from rlkit.api.catalogue import SOLVERS, check_names
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import NotConvergedError, Solution
from rlkit.learning.config import TrainConfig
from rlkit.loading import loading
from rlkit.runs import run_directory
from rlkit.runs.curves import Curve, columns

if TYPE_CHECKING:
    from rlkit.api.agent_run import Run

EXACT = 1e-9
"""Tolerance of the solution that all is measured against."""

SLOW = {"linear-programming": 5_000, "q-iteration": 200_000}
"""States up to which a solver is compared without being named."""

WARM = 2.0
"""Seconds under which a solver is timed again: the first call loads compiled code."""


@dataclass(frozen=True)
class Row:
    """How one solver, learner or run compares."""

    name: str
    kind: str
    """solver or learner."""
    gamma: float
    value_at_start: float
    """What it takes the value of the start distribution to be."""
    error: float
    """Largest |V - V*|."""
    regret: float
    """What its policy really loses at the start, by exact evaluation; infinite if the policy never ends."""
    optimal: float
    """Share of the states that are not terminal in which its action is optimal."""
    work: int
    """Iterations of a solver, env steps of a learner."""
    seconds: float
    taken: str = ""
    """The solver that auto took."""
    note: str = ""
    run: str = ""
    """A learner's run directory."""
    regrets: Curve = field(default_factory=lambda: Curve(np.empty(0), np.empty(0)), repr=False)
    """Of a learner: env steps and regret, at each evaluation where it is known."""

    def to_dict(self) -> dict[str, Any]:
        """As ``rlkit compare --json`` prints it: what is not finite is null."""
        return {
            "name": self.name,
            "kind": self.kind,
            "gamma": self.gamma,
            "value_at_start": _finite(self.value_at_start),
            "error": _finite(self.error),
            "regret": _finite(self.regret),
            "optimal": self.optimal,
            "iterations" if self.kind == "solver" else "samples": self.work,
            "seconds": self.seconds,
            "taken": self.taken,
            "note": self.note,
            "run": self.run,
        }


@dataclass(frozen=True)
class Comparison:
    """Rows on one problem, and the solution that they are measured against."""

    problem: str
    references: Mapping[float, Solution]
    """By discount."""
    rows: Sequence[Row]
    skipped: Mapping[str, str]
    """Solvers that were left out, and why."""
    judge: Judge = field(repr=False)
    tolerance: float = field(repr=False)

    def errors(self) -> dict[str, Curve]:
        """For each solver in the rows its largest |V - V*| after 1, 2, 3, ... iterations; runs them again.

        What auto took is left out where that is in the rows itself.
        """
        names = [row.name for row in self.rows if row.kind == "solver"]
        drawn = [row.name for row in self.rows if row.kind == "solver" and row.taken not in names]
        return {name: self.judge.errors(name, tolerance=self.tolerance) for name in drawn}

    def regrets(self) -> dict[str, Curve]:
        """For each learner in the rows its regret over env steps, where its run has recorded that."""
        return {row.name: row.regrets for row in self.rows if row.kind == "learner" and len(row.regrets.x)}

    def to_dict(self) -> dict[str, Any]:
        """As ``rlkit compare --json`` prints it."""
        return {
            "problem": self.problem,
            "optimum": [
                {"gamma": gamma, "value_at_start": s.value_at_start, "bound": _finite(s.bound), "solver": s.solver}
                for gamma, s in self.references.items()
            ],
            "rows": [row.to_dict() for row in self.rows],
            "skipped": dict(self.skipped),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare(
    problem: solving.Problem,
    names: Sequence[str] = (),
    *,
    gamma: float | None = None,
    tolerance: float = 1e-6,
    steps: int | None = None,
    seed: int = 0,
    run_dir: str | Path | None = None,
    **env_args: Any,  # noqa: ANN401 - the env's
) -> Comparison:
    """Solve and learn one problem in several ways, and measure each against the certified solution.

    >>> result = compare("FrozenLake-v1", ["value-iteration", "policy-iteration"], gamma=0.99)
    >>> [row.optimal for row in result.rows]
    [1.0, 1.0]

    Args:
        problem: a Gymnasium id, an env, or a model.
        names: solvers, agents, and folders of finished runs; every solver that applies if none is given.
        gamma: discount; if not given that of the first learner or run named, else the model's own, else 1.
        tolerance: of the solvers.
        steps: env steps of each learner; the agent's own if not given.
        seed: of each learner.
        run_dir: where the learners' runs are kept; nowhere if not given.
        **env_args: arguments of the env.

    Raises:
        UserError: an unknown name, an env without a model, a solver that cannot solve it, or a run of another env.
    """
    named = check_names(names)
    if gamma is None and not isinstance(problem, FiniteMDP):
        gamma = next((_gamma(n, kind) for n, kind in zip(names, named, strict=True) if kind != "solver"), None)
    with solving.opened(problem, env_args) as opened:
        mdp = solving.model(opened, gamma=gamma)
        judge = Judge(mdp)
        rows: list[Row] = []
        skipped: dict[str, str] = {}
        if not names:
            rows, skipped = _every_solver(judge, tolerance)
        with _folder(run_dir) as folder:
            for name, kind in zip(names, named, strict=True):
                if kind == "solver":
                    rows.append(solver_row(judge, name, tolerance))
                    continue
                if kind == "agent":
                    loaded = _train(name, problem, env_args, mdp.gamma, steps, seed, folder)
                else:
                    loaded = _load(name, problem, env_args)
                rows.append(
                    learner_row(
                        judge, name if kind == "agent" else f"{loaded.directory.agent} {loaded.path.name}", loaded
                    )
                )
    return Comparison(_name(opened, env_args), judge.references, rows, skipped, judge, tolerance)


class Judge:
    """Measures values and policies against the certified solution of the same discount."""

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self.references: dict[float, Solution] = {}
        self.reference(mdp.gamma)

    def reference(self, gamma: float) -> Solution:
        """The certified solution."""
        if gamma not in self.references:
            mdp = self.mdp.replace(gamma=gamma)
            self.references[gamma] = planners.solve(mdp, "auto", tolerance=EXACT, allow_unconverged=True)
        return self.references[gamma]

    def error(self, values: np.ndarray, gamma: float) -> float:
        """Largest |V - V*| of values [S]."""
        return float(np.abs(values - self.reference(gamma).values).max(initial=0.0))

    def regret(self, policy: np.ndarray, gamma: float) -> float:
        """What a policy, [S] actions, loses at the start: exact, 0 where rounding could be all of it."""
        best = self.reference(gamma)
        begins = np.flatnonzero(self.mdp.start)
        values = best.mdp.policy_values(policy)[begins]
        lost = best.value_at_start - float(values @ self.mdp.start[begins])
        return lost if lost > best.bound + 1e-12 * abs(best.value_at_start) else 0.0

    def errors(self, solver: str, **options: Any) -> Curve:  # noqa: ANN401 - the planner's
        """Largest |V - V*| of a solver after its iterations."""
        points = solving.trace(self.mdp, solver, **options)
        return Curve(
            np.array([point.iterations for point in points], np.float64),
            np.array([self.error(point.solution.values, self.mdp.gamma) for point in points]),
        )

    def optimal(self, policy: np.ndarray, gamma: float) -> float:
        """Share of the states that are not terminal in which a policy's action is optimal."""
        live = np.flatnonzero(~self.mdp.terminal)
        return float(self.reference(gamma).optimal[live, policy[live]].mean()) if len(live) else 1.0


def solver_row(judge: Judge, name: str, tolerance: float) -> Row:
    """One solver's row; raises UserError where it cannot solve the model."""
    gamma, note = judge.mdp.gamma, ""
    try:
        solution = planners.solve(judge.mdp, name, tolerance=tolerance)
        if solution.seconds < WARM:
            solution = planners.solve(judge.mdp, name, tolerance=tolerance)
    except NotConvergedError as error:
        solution, note = error.solution, "not converged"
    return Row(
        name=name,
        kind="solver",
        gamma=gamma,
        value_at_start=solution.value_at_start,
        error=judge.error(solution.values, gamma),
        regret=judge.regret(solution.policy, gamma),
        optimal=judge.optimal(solution.policy, gamma),
        work=solution.iterations,
        seconds=solution.seconds,
        taken=solution.solver if name == "auto" else "",
        note=note,
    )


def _every_solver(judge: Judge, tolerance: float) -> tuple[list[Row], dict[str, str]]:
    rows, skipped = [], {}
    for name in SOLVERS:
        if judge.mdp.states > SLOW.get(name, judge.mdp.states):
            skipped[name] = f"slow for more than {SLOW[name]:,} states: name it to have it"
            continue
        try:
            rows.append(solver_row(judge, name, tolerance))
        except UserError as error:
            skipped[name] = str(error)
    return rows, skipped


def _gamma(name: str, kind: str) -> float:
    """The discount of an agent's defaults, or of a run."""
    if kind == "agent":
        return _discount(agents.config_class(name)())
    directory = run_directory.find(Path(name), run_directory.untrained, verb="train")
    return float(directory.config().get("gamma", _gamma(directory.agent, "agent")))


def _discount(config: TrainConfig) -> float:
    """Of an agent; 1 for one that has none."""
    return float(getattr(config, "gamma", 1.0))


def _name(problem: gymnasium.Env[Any, Any] | FiniteMDP, env_args: Mapping[str, Any]) -> str:
    """The problem in words."""
    if isinstance(problem, FiniteMDP):
        return f"a model of {problem.states:,} states"
    name = problem.spec.id if problem.spec else type(problem.unwrapped).__name__
    return name + (f" ({', '.join(f'{k}={v}' for k, v in env_args.items())})" if env_args else "")


@contextlib.contextmanager
def _folder(run_dir: str | Path | None) -> Iterator[Path]:
    """Where runs are made: a folder that goes away again if none is given."""
    if run_dir is not None:
        yield Path(run_dir)
        return
    with tempfile.TemporaryDirectory(prefix="rlkit-compare-") as folder:
        yield Path(folder)


def _train(
    agent: str,
    problem: solving.Problem,
    env_args: Mapping[str, Any],
    gamma: float,
    steps: int | None,
    seed: int,
    folder: Path,
) -> Run:
    with loading():
        from rlkit.api import training  # noqa: PLC0415 - loads TensorFlow

    if not isinstance(problem, str):
        raise UserError(f"{agent} learns on an env by its id, such as FrozenLake-v1: name one in place of the model")
    fields: dict[str, Any] = {"gamma": gamma, "seed": seed, "env_args": dict(env_args)}
    if steps is not None:
        fields |= {"steps": steps, "eval_interval": max(1, steps // 20)}
    return training.train(agent, problem, run_dir=folder, **fields)


def _load(name: str, problem: solving.Problem, env_args: Mapping[str, Any]) -> Run:
    with loading():
        from rlkit.api import agent_run  # noqa: PLC0415 - loads TensorFlow

    loaded = agent_run.load(name)
    if not isinstance(problem, str) or (loaded.config.env, dict(loaded.config.env_args)) != (problem, dict(env_args)):
        given = _words(problem if isinstance(problem, str) else "a model", env_args)
        raise UserError(
            f"run {loaded.path} is of {_words(loaded.config.env, loaded.config.env_args)}, not of {given}: "
            "compare it on its own env, or without --env"
        )
    return loaded


def _words(env: str, env_args: Mapping[str, Any]) -> str:
    return " ".join([env, *(f"{k}={v}" for k, v in env_args.items())])


def learner_row(judge: Judge, name: str, loaded: Run) -> Row:
    """A finished run's row: the agent that training ended with."""
    gamma = _discount(loaded.config)
    q = action_values(loaded, judge.mdp.states)
    values, policy = np.where(judge.mdp.terminal, 0.0, q.max(axis=1)), q.argmax(axis=1)
    return Row(
        name=name,
        kind="learner",
        gamma=gamma,
        value_at_start=float(judge.mdp.start @ values),
        error=judge.error(values, gamma),
        regret=judge.regret(policy, gamma),
        optimal=judge.optimal(policy, gamma),
        work=loaded.directory.step,
        run=str(loaded.path),
        seconds=float(loaded.directory.info["seconds"]),
        note="" if loaded.status in ("finished", "solved") else loaded.status,
        regrets=Curve(*columns(loaded.directory, "evaluations.csv", "regret")),
    )


def action_values(loaded: Run, states: int) -> np.ndarray:
    """What the agent that training ended with takes each action to be worth, [S, A].

    Raises:
        UserError: the agent has no action values, or observes something else than the state.
    """
    with loading():
        from rlkit.devices import configure  # noqa: PLC0415 - loads TensorFlow

    with solving.opened(loaded.config.env, loaded.config.env_args) as env:
        assert isinstance(env, gymnasium.Env)
        space = env.observation_space
    if not isinstance(space, spaces.Discrete) or int(space.n) != states:
        raise UserError(f"run {loaded.path} observes {space}, expected the state, Discrete({states})")
    with configure(loaded.config):
        agent: Any = loaded.agent("last")[0]
        if callable(agent.q):  # a network
            return np.array(agent.q(np.arange(states, dtype=np.int32) + np.int32(space.start)), np.float64)
        tables: np.ndarray = np.asarray(agent.q, np.float64)
        return np.asarray(tables.mean(axis=0))  # over the tables, of which double Q-learning has two
