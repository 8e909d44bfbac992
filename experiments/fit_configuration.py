"""From a command's words to a checked config of a supervised run. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlkit.config import build, read_toml
from rlkit.errors import UserError, unknown
from rlkit.experiments import presets
from rlkit.files import home
from rlkit.fit_config import DATA, FitConfig, config_class

PATHS = ("data_file", "data_dir", "labels", "weights")
"""Fields that are kept as absolute paths, so that a run can be resumed from any folder."""

NO_PATHS = ("", "random", "imagenet")
"""Values of these fields that name no file."""


def resolve(
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
    from_file = read_toml(config) if config else {}
    written_for = from_file.pop("model", model)
    if written_for != model:
        raise UserError(f"{config} is a config of {written_for}, not of {model}")
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
