"""Tuned values for an agent on an env: presets/AGENT/ENV.toml, each value with its unit and source."""

from __future__ import annotations

from importlib import resources
from typing import Any

from rlkit import agents
from rlkit.config import read_toml
from rlkit.envs import lookup
from rlkit.errors import unknown

ROOT: Any = resources.files("rlkit.api") / "presets"  # importlib's Traversable


def _folder(agent: str) -> Any:  # noqa: ANN401 - importlib's Traversable
    entry = agents.REGISTRY.get(agent)
    return ROOT / (entry.setting_of if entry and entry.setting_of else agent)


def names(agent: str) -> list[str]:
    """Envs that the agent has a preset for."""
    folder = _folder(agent)
    files = folder.iterdir() if folder.is_dir() else []
    return sorted((f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")), key=str.casefold)


def load(agent: str, name: str) -> dict[str, Any]:
    """A preset's values; UserError with the nearest names where there is none."""
    if name not in names(agent):
        raise unknown(f"preset of {agent}", name, names(agent))
    return _read(_folder(agent) / f"{name}.toml")


def setting(agent: str) -> dict[str, Any]:
    """What makes an agent a setting of another, whatever the env; empty for all others."""
    return _read(ROOT / f"{agent}.toml") if agents.entry(agent).setting_of else {}


def _read(file: Any) -> dict[str, Any]:  # noqa: ANN401 - importlib's Traversable
    with resources.as_file(file) as path:
        return read_toml(path)


def slug(env: str) -> str:
    """The name of an env's preset: its id without a module prefix, a dash for a slash."""
    return env.rpartition(":")[2].replace("/", "-")


def fitting(agent: str, env: str) -> str | None:
    """The agent's preset for an env, whichever id of a game it has, or the one for all games; None: there is none."""
    game = lookup.game(env)
    wanted = [slug(env), *([slug(game), "ALE"] if game else [])]
    return next((name for name in wanted if name in names(agent)), None)
