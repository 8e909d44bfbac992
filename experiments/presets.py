"""Tuned values for an agent on an env: presets/AGENT/ENV.toml, each value with its unit and source."""

from __future__ import annotations

from importlib import resources
from typing import Any

from rlkit.config import read_toml
from rlkit.errors import unknown


def _folder(agent: str) -> Any:  # noqa: ANN401 - importlib's Traversable
    return resources.files("rlkit.experiments") / "presets" / agent


def names(agent: str) -> list[str]:
    """Envs that the agent has a preset for."""
    folder = _folder(agent)
    files = folder.iterdir() if folder.is_dir() else []
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load(agent: str, name: str) -> dict[str, Any]:
    """A preset's values; UserError with the nearest names where there is none."""
    if name not in names(agent):
        raise unknown(f"preset of {agent}", name, names(agent))
    with resources.as_file(_folder(agent) / f"{name}.toml") as path:
        return read_toml(path)


def slug(env: str) -> str:
    """The name of an env's preset: its id without a module prefix, a dash for a slash."""
    return env.rpartition(":")[2].replace("/", "-")
