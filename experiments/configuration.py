"""From a command's words to a checked config: defaults < preset < file < flags. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlkit import agents, envs
from rlkit.config import Argument, TrainConfig, build, read_toml
from rlkit.errors import UserError
from rlkit.experiments import presets


def resolve(
    agent: str,
    env: str | None,
    *,
    preset: str = "auto",
    config: Path | None = None,
    fields: Mapping[str, Any] | None = None,
) -> tuple[TrainConfig, str | None]:
    """The config of a run, and the name of the preset that it took.

    Args:
        agent: name in the registry.
        env: Gymnasium id; None takes the file's.
        preset: a preset's name, "none", or "auto" for the env's own where there is one.
        config: a TOML file.
        fields: the last word on any field.

    Raises:
        UserError: an unknown agent, env, preset, field or env argument, or a value out of range.
    """
    cls = agents.config_class(agent)
    from_file = read_toml(config) if config else {}
    written_for = from_file.pop("agent", agent)
    if written_for != agent:
        raise UserError(f"{config} is a config of {written_for}, not of {agent}")
    fields = dict(fields or {})
    env = env or fields.pop("env", None) or from_file.get("env") or ""
    fields["env"] = env
    envs.find(env)
    if preset == "auto":
        taken = presets.fitting(agent, env)
    else:
        taken = None if preset == "none" else preset
    layers = [(f"preset {taken}", presets.load(agent, taken))] if taken else []
    layers += [(agent, presets.setting(agent))]
    layers += [(str(config), from_file)] if config else []
    resolved = build(cls, *layers, ("", fields))
    check_env_args(env, resolved.env_args)
    return resolved, taken


def check_env_args(env: str, env_args: Mapping[str, Argument]) -> None:
    """UserError for an unknown env, or an argument that it does not take or that is not a config's to set.

    That is `render_mode`: a window is opened by `rlkit render --human` alone, and needs a display.
    """
    takes = envs.arguments(env)
    for name in env_args:
        if name not in takes:
            there = ", ".join(sorted(takes)) or "none"
            raise UserError(f"env {env!r} takes no argument {name!r}: it takes {there}")
