"""What there is to name on a command line. Loads no TensorFlow."""

from __future__ import annotations

from pathlib import Path

from rlkit import agents, envs, run
from rlkit.config import TrainConfig
from rlkit.experiments import presets


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
    """For each agent, the envs that it has a preset for."""
    return {name: presets.names(name) for name in agents.REGISTRY}


def runs(root: Path) -> list[dict[str, object]]:
    """The runs below a folder, the oldest first."""
    found = run.runs_below(root) if root.is_dir() else []
    return [
        {
            "run": str(r.path),
            "agent": r.agent,
            "status": r.status,
            **{k: r.info.get(k) for k in ("env", "seed", "step")},
        }
        for r in found
    ]
