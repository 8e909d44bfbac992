"""What there is to name on a command line. Loads no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlkit import agents
from rlkit.api import presets
from rlkit.envs import lookup
from rlkit.errors import UserError, unknown
from rlkit.files import read_json
from rlkit.learning.config import TrainConfig
from rlkit.runs import run_directory
from rlkit.supervised.config import MODELS

SOLVERS = {
    "auto": "The planner that fits the model's shape; which and why is said.",
    "backward-induction": "One pass from the end, where no state comes back, or from the horizon (Bellman 1957).",
    "value-iteration": "Bellman backups until the bound holds; --method jacobi, gauss-seidel or prioritized.",
    "policy-iteration": "Evaluate, improve, repeat (Howard 1960); --evaluation exact or iterative.",
    "modified-policy-iteration": "A few --sweeps of each policy (Puterman and Shin 1978).",
    "inexact-policy-iteration": "Newton steps by a Krylov method to a share --forcing (Gargiani et al. 2022).",
    "q-iteration": "Bellman backups of action values.",
    "linear-programming": "SciPy's HiGHS: slow, and independent of all the others.",
}
"""The planners of agents/planning/planners.py and a sentence on each; naming them here loads no Numba and no SciPy."""

SOLVER_OPTIONS: dict[str, tuple[str, ...]] = {
    "value-iteration": ("method",),
    "policy-iteration": ("evaluation",),
    "modified-policy-iteration": ("sweeps",),
    "inexact-policy-iteration": ("forcing",),
}
"""The options that planners take."""


def agent_summaries() -> dict[str, str]:
    """Each agent's name and a sentence on it."""
    return {name: entry.summary for name, entry in agents.REGISTRY.items()}


def config_class(agent: str) -> type[TrainConfig]:
    """The config of an agent; UserError with the nearest names where there is none."""
    return agents.config_class(agent)


def env_names() -> list[str]:
    """The ids of the registered envs, the newest version of each."""
    return lookup.names()


def env_arguments(env: str) -> dict[str, object]:
    """The keyword arguments that an env takes, with their defaults; UserError for an unknown env."""
    return lookup.arguments(env)


def preset_names() -> dict[str, list[str]]:
    """For each agent, the envs that it has a preset for, and for each model, the data sets."""
    return {name: presets.names(name) for name in (*agents.REGISTRY, *MODELS)}


def runs(root: Path) -> list[dict[str, object]]:
    """The runs below a folder, the oldest first; then those that cannot be read, each with the reason."""
    broken: list[dict[str, object]] = []

    def add(path: Path, why: str) -> None:
        broken.append({"run": str(path), "status": "broken", "why": why})

    found = run_directory.runs_below(root, add) if root.is_dir() else []
    listed: list[dict[str, object]] = [
        {
            "run": str(r.path),
            **dict(zip(run_directory.NOUNS[r.verb], (r.agent, r.env), strict=True)),
            "status": r.status,
            "seed": r.info.get("seed"),
            "step": r.step,
        }
        for r in found
    ]
    return listed + broken


def check_names(names: Sequence[str]) -> list[str]:
    """What each name is: solver, agent or run; UserError for one that is neither."""
    kinds = []
    for name in names:
        if name not in SOLVERS and name not in agents.REGISTRY and not Path(name).exists():
            raise unknown("solver, agent or run", name, [*SOLVERS, *agents.REGISTRY])
        kinds.append("solver" if name in SOLVERS else "agent" if name in agents.REGISTRY else "run")
    return kinds


def run_summary(directory: run_directory.RunDirectory) -> dict[str, object]:
    """A run in one line of a table: its best agent or model, its last evaluation, and the last regret, where known.

    An agent has returns, a supervised model accuracies and losses on the data held out. The best agent's return is that
    of fresh episodes where the run has been evaluated, as training itself reports it; else it is the mean of the
    evaluation that chose the agent, and of the one that was to confirm it, if there is one.
    """
    from rlkit.runs.curves import columns  # noqa: PLC0415 - shell completion need not wait for NumPy

    names = ("mean", "confirmation", "regret", "accuracy", "loss")
    found = [columns(directory, "evaluations.csv", name) for name in names]
    means, again, regrets, accuracies, losses = (dict(zip(*map(list, pair), strict=True)) for pair in found)
    scores = {step: (mean + again.get(step, mean)) / 2 for step, mean in means.items()}
    best = directory.best_step
    if best is None or best not in {**scores, **losses}:
        goodness = scores or accuracies or {step: -loss for step, loss in losses.items()}
        best = max(goodness, key=lambda step: (goodness[step], step), default=None)
    fresh = _fresh_return(directory, best)
    return {
        "run": str(directory.path),
        "agent": directory.agent,
        "env": directory.env,
        "seed": directory.info.get("seed"),
        "steps": directory.step,
        "status": directory.status,
        "best_return": scores.get(best) if fresh is None else fresh,
        "last_return": _last(means),
        "regret": _last(regrets),
        "best_accuracy": accuracies.get(best),
        "last_accuracy": _last(accuracies),
        "best_loss": losses.get(best),
        "seconds": directory.info.get("seconds"),
    }


def _fresh_return(directory: run_directory.RunDirectory, step: float | None) -> float | None:
    """The mean return of the greedy agent of a step in fresh episodes; None where the run has none of it."""
    try:
        found = read_json(directory.path / "evaluation.json")
        mean = float(found["mean"]) if found["step"] == step and not found.get("epsilon") else math.nan
    except (OSError, UserError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return mean if math.isfinite(mean) else None


def _last(values: Mapping[float, float]) -> float | None:
    return values[max(values)] if values else None


def seed_summaries(
    directories: Sequence[run_directory.RunDirectory], say: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """The best agents or models of several seeds of one experiment together: a mean, and its 95% interval.

    Args:
        directories: of runs; of those with one seed of an experiment one counts, see `rlkit.runs.curves.chosen`.
        say: told which runs are left out for another one of their seed.

    Returns:
        For each experiment with more than one seed: env, agent, seeds and, by the names of `run_summary`, the values,
        their mean and its interval.
    """
    import numpy as np  # noqa: PLC0415 - shell completion need not wait for it

    from rlkit.intervals import interval  # noqa: PLC0415 - as above
    from rlkit.runs.curves import experiments  # noqa: PLC0415 - as above

    found: list[dict[str, Any]] = []
    for label, members in experiments(directories, say):
        rows = [run_summary(member) for member in members]
        together: dict[str, Any] = {"env": rows[0]["env"], "agent": label, "seeds": [row["seed"] for row in rows]}
        for name in ("best_return", "best_accuracy", "best_loss"):
            values = np.array([row[name] for row in rows if row[name] is not None], np.float64)
            if len(values) > 1:
                ends = [float(end) for end in interval(values)]
                together[name] = {"values": values.tolist(), "mean": float(values.mean()), "interval": ends}
        if len(rows) > 1:
            found.append(together)
    return found
