"""Configs of agents and of supervised models from a command's words: defaults < preset < file < flags.

Nothing here loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlkit import agents
from rlkit.api import presets
from rlkit.config import Argument, build, read_toml
from rlkit.envs import lookup
from rlkit.errors import UserError, short, unknown
from rlkit.files import home
from rlkit.learning.config import TrainConfig
from rlkit.supervised.config import DATA, FitConfig, config_class


def _fields_for(config: Path | None, noun: str, name: str) -> dict[str, Any]:
    """The fields in a file, if there is one; UserError where it was written for another agent or model."""
    fields = read_toml(config) if config else {}
    written_for = fields.pop(noun, name)
    if not isinstance(written_for, str):
        raise UserError(
            f"{config}: {noun} is {short(written_for)}; expected a name such as {name!r}, beside the fields"
        )
    if written_for != name:
        raise UserError(f"{config} is a config of {written_for}, not of {name}")
    return fields


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
    from_file = _fields_for(config, "agent", agent)
    fields = dict(fields or {})
    env = env or fields.pop("env", None) or from_file.get("env") or ""
    fields["env"] = env
    lookup.find(env)
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
    takes = lookup.arguments(env)
    for name in env_args:
        if name not in takes:
            there = ", ".join(sorted(takes)) or "none"
            raise UserError(f"env {env!r} takes no argument {name!r}: it takes {there}")


PATHS = ("data_file", "data_dir", "labels", "weights")
"""Fields that are kept as absolute paths, so that a run can be resumed from any folder."""

NO_PATHS = ("", "random", "imagenet")
"""Values of these fields that name no file."""


def resolve_fit(
    model: str,
    data: str | None,
    *,
    preset: str = "auto",
    config: Path | None = None,
    fields: Mapping[str, Any] | None = None,
) -> tuple[FitConfig, str | None]:
    """The config of a supervised run, and the name of the preset that it took.

    Args:
        model: name of the model.
        data: name of the data set; None takes the file's.
        preset: a preset's name, "none", or "auto" for the data set's own where there is one.
        config: a TOML file.
        fields: the last word on any field.

    Raises:
        UserError: an unknown model, data set, preset or field, or a value out of range.
    """
    cls = config_class(model)
    from_file = _fields_for(config, "model", model)
    fields = dict(fields or {})
    if not isinstance(data, str | None):
        raise unknown("data set", data, DATA)
    if data is None:
        data = fields.pop("data", None) or from_file.get("data") or ""
    if not data:
        raise UserError(f"name the data set to learn from, such as --data digits; there is {', '.join(DATA)}")
    if data not in DATA:
        raise unknown("data set", data, DATA)
    fields["data"] = data
    known = presets.names(model)
    taken = (data if data in known else None) if preset == "auto" else None if preset == "none" else preset
    layers = [(f"preset {taken}", presets.load(model, taken))] if taken else []
    layers += [(str(config), from_file)] if config else []
    resolved = build(cls, *layers, ("", fields))
    places = {name: value for name in PATHS if (value := getattr(resolved, name, "")) not in NO_PATHS}
    places = {name: str(home(value).absolute()) for name, value in places.items()}
    return resolved.replace(**places), taken
