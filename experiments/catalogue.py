"""What there is to name on a command line. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlkit import agents, envs, run
from rlkit.config import TrainConfig
from rlkit.errors import unknown
from rlkit.experiments import presets
from rlkit.fit_config import MODELS

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
"""The planners of agents/planners.py and a sentence on each; naming them here loads no Numba and no SciPy."""

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
    return envs.names()


def env_arguments(env: str) -> dict[str, object]:
    """The keyword arguments that an env takes, with their defaults; UserError for an unknown env."""
    return envs.arguments(env)


def preset_names() -> dict[str, list[str]]:
    """For each agent, the envs that it has a preset for, and for each model, the data sets."""
    return {name: presets.names(name) for name in (*agents.REGISTRY, *MODELS)}


def runs(root: Path) -> list[dict[str, object]]:
    """The runs below a folder, the oldest first."""
    found = run.runs_below(root) if root.is_dir() else []
    return [
        {
            "run": str(r.path),
            **dict(zip(run.NOUNS[r.verb], (r.agent, r.env), strict=True)),
            "status": r.status,
            "seed": r.info.get("seed"),
            "step": r.step,
        }
        for r in found
    ]


def check_names(names: Sequence[str]) -> list[str]:
    """What each name is: solver, agent or run; UserError for one that is neither."""
    kinds = []
    for name in names:
        if name not in SOLVERS and name not in agents.REGISTRY and not Path(name).exists():
            raise unknown("solver, agent or run", name, [*SOLVERS, *agents.REGISTRY])
        kinds.append("solver" if name in SOLVERS else "agent" if name in agents.REGISTRY else "run")
    return kinds


def run_summary(directory: run.RunDirectory) -> dict[str, object]:
    """A run in one line of a table: its best and last evaluation, and its last regret where that is known.

    Those of an agent are returns, those of a supervised model accuracies and losses on the data held out.
    """
    from rlkit.curves import columns  # noqa: PLC0415 - shell completion need not wait for NumPy

    names = ("mean", "regret", "accuracy", "loss")
    returns, regrets, accuracies, losses = (columns(directory, "evaluations.csv", name)[1] for name in names)
    return {
        "run": str(directory.path),
        "agent": directory.agent,
        "env": directory.env,
        "seed": directory.info.get("seed"),
        "steps": directory.step,
        "status": directory.status,
        "best_return": float(returns.max()) if len(returns) else None,
        "last_return": float(returns[-1]) if len(returns) else None,
        "regret": float(regrets[-1]) if len(regrets) else None,
        "best_accuracy": float(accuracies.max()) if len(accuracies) else None,
        "last_accuracy": float(accuracies[-1]) if len(accuracies) else None,
        "best_loss": float(losses.min()) if len(losses) else None,
        "seconds": directory.info.get("seconds"),
    }
