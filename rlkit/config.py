"""A frozen dataclass is the one truth about a run: its flags, its TOML file and its checks come from it."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from rlkit.errors import UserError, short, unknown
from rlkit.files import home, read_text

Argument = str | int | float | bool | list[Any] | dict[str, Any]
"""An argument of an env, as TOML has it."""


def option(
    default: Any,  # noqa: ANN401 - a field's default has the field's type
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    group: str = "training",
) -> Any:  # noqa: ANN401 - dataclasses.field is typed so too
    """A field of a config: its default, one sentence of help, and the values that it may take.

    `low` and `high` are inclusive bounds, `above` is an exclusive lower one.
    """
    metadata = {"help": help, "low": low, "high": high, "above": above, "group": group}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every run has, whatever learns from whatever. What a step is, a subclass says."""

    seed: int = option(0, "Seed of every random draw.", low=0, high=2**31 - 1)
    steps: int = option(100_000, "Steps to train for.", low=1)
    log_interval: int = option(1_000, "Steps between two rows of metrics.csv.", low=1, group="logging")
    eval_interval: int = option(10_000, "Steps between evaluations; 0: none.", low=0, group="logging")
    checkpoint_interval: int = option(10_000, "Steps between checkpoints.", low=1, group="logging")
    keep_checkpoints: int = option(3, "Checkpoints kept beside the best one.", low=1, group="logging")
    profile: bool = option(
        False, "Write the graph and a profile trace of the first updates for TensorBoard.", group="logging"
    )
    device: str = option(
        "auto", "Device that computes: auto, cpu, gpu, or one by number such as gpu:1.", group="device"
    )
    visible_gpus: str = option(
        "all", "GPUs that TensorFlow may see: all, none, or numbers such as 0,2.", group="device"
    )
    memory_growth: bool = option(True, "Take GPU memory as it is needed, not all at once.", group="device")
    memory_limit: int = option(0, "Limit of GPU memory, MB; 0: none.", low=0, group="device")
    logical_devices: int = option(
        1, "Logical devices to split the device into, to simulate several.", low=1, high=64, group="device"
    )
    jit: bool = option(True, "Compile with XLA.", group="device")
    threads: int = option(1, "Threads of one TensorFlow operation; 0: TensorFlow's choice.", low=0, group="device")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = coerce(field.name, getattr(self, field.name), hints[field.name])
            check_bounds(field.name, value, field.metadata)
            object.__setattr__(self, field.name, value)
        if self.device not in ("auto", "cpu", "gpu") and not (
            self.device.startswith(("cpu:", "gpu:")) and self.device[4:].isdigit()
        ):
            raise UserError(f"device is {self.device!r}, expected auto, cpu, gpu or one by number such as gpu:1")
        if self.visible_gpus not in ("all", "none") and not all(n.isdecimal() for n in self.visible_gpus.split(",")):
            raise UserError(f"visible_gpus is {self.visible_gpus!r}, expected all, none or numbers such as 0,2")

    def replace(self, **changes: Any) -> Self:  # noqa: ANN401 - dataclasses.replace is typed so too
        """A copy with some fields changed, checked like a new one; unknown names raise UserError."""
        check_names(type(self), changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as TOML takes them: None is the word none, lest a preset fill it in; tuples are lists."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = {k: "none" if v is None else v for k, v in values.items() if v != {}}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


C = TypeVar("C", bound=Config)


def check_names(cls: type[Config], values: Mapping[str, object], where: str = "") -> None:
    """Raise UserError for a name that is no field of `cls`, naming the close ones."""
    names = {f.name for f in dataclasses.fields(cls)}
    for name in values:
        if name.replace("-", "_") not in names:
            error = unknown("field", name, names)
            raise UserError(f"{where}: {error}" if where else str(error))


def checked(name: str, value: object, hint: Any, *, low: float | None = None, high: float | None = None) -> Any:  # noqa: ANN401
    """An argument of a function, checked and coerced as a config's field is; UserError where it cannot be."""
    result = coerce(name, value, hint)
    check_bounds(name, result, {"low": low, "high": high, "above": None})
    return result


def path_argument(name: str, value: object) -> Path:
    """An argument of a function as a path: UserError where it is none."""
    if not isinstance(value, str | Path):
        raise UserError(f"{name} is {short(value)}, expected a path")
    return home(value)


def coerce(name: str, value: object, hint: Any) -> Any:  # noqa: ANN401 - the field's own type
    """`value` as the field's type: text is parsed, whole floats become ints; UserError where it cannot be."""
    value = _of_python(value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None or (isinstance(value, str) and value.casefold() == "none"):
            return None
        return coerce(name, value, next(a for a in arguments if a is not type(None)))
    if origin is Literal:
        if value in arguments:
            return value
        raise UserError(f"{name} is {value!r}, expected one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        items = [v for v in value.replace(" ", "").split(",") if v] if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            return tuple(coerce(name, item, arguments[0]) for item in items)
    elif origin is dict:
        table = toml_value(value) if isinstance(value, str) else value
        if isinstance(table, Mapping):
            return {str(key): argument(f"{name}.{key}", item) for key, item in table.items()}
    else:
        plain = _plain(value, hint)
        if type(plain) is hint:
            return plain
    raise UserError(f"{name} is {value!r}, expected {kind(hint)}")


def _of_python(value: object) -> object:
    """A number or an array of NumPy's, such as a sweep over np.logspace gives, as Python's own; other values as is."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else value


def argument(name: str, value: object) -> Argument:
    """A copy of an env's argument; UserError for what TOML does not have, as then no run could keep it."""
    value = _of_python(value)
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [argument(name, item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: argument(f"{name}.{key}", item) for key, item in value.items()}
    raise UserError(f"{name} is {value!r}, expected text, a number, true or false, or a list or a table of these")


def toml_value(text: str) -> object:
    """A text as a value of TOML, or the text itself where it is none."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):  # of a number with thousands of digits, and of brackets in brackets
        return text


_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _plain(value: object, hint: type) -> object:
    """A text or number as a bool, int or float where that loses nothing; else unchanged."""
    try:
        if hint is bool and isinstance(value, str):
            return _TRUTH.get(value.casefold(), value)
        if hint is int and isinstance(value, str):
            value = int(value) if value.lstrip("+-").isdigit() else float(value.replace("_", ""))
        if hint is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if hint is float and isinstance(value, str | int) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    return value


def kind(hint: Any) -> str:  # noqa: ANN401 - a type annotation
    """What a value of the type looks like, for messages and help."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin is types.UnionType:
        return kind(next(a for a in arguments if a is not type(None))) + " or none"
    if origin is tuple:
        return "whole numbers such as 64,64" if arguments[0] is int else "numbers such as 0.5,1"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, "a table")


def check_bounds(name: str, value: object, metadata: Mapping[str, Any]) -> None:
    """Raise UserError where a number, or a number of a tuple, is outside the field's bounds or not finite."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) or not isinstance(item, int | float):
            continue
        low, high, above = metadata["low"], metadata["high"], metadata["above"]
        wrong = (
            (isinstance(item, float) and not math.isfinite(item))
            or (isinstance(item, int) and abs(item) >= 2**63)
            or (low is not None and item < low)
            or (high is not None and item > high)
            or (above is not None and item <= above)
        )
        if wrong:
            if isinstance(item, int) and high is None:
                high = 2**63 - 1 if abs(item) >= 2**63 else None
            lower = f"at least {low:.15g}" if low is not None else f"above {above:.15g}" if above is not None else ""
            upper = f"at most {high:.15g}" if high is not None else ""
            bounds = " and ".join(b for b in (lower, upper) if b) or "a finite number"
            raise UserError(f"{name} is {item if isinstance(item, int) else format(item, 'g')}, expected {bounds}")


def build(cls: type[C], *layers: tuple[str, Mapping[str, Any]]) -> C:
    """The config of some named layers of values, later ones over earlier ones.

    Raises:
        UserError: a name that is no field, or a value that its field refuses; the layer is named.
    """
    values: dict[str, Any] = {}
    hints, metadata = typing.get_type_hints(cls), {f.name: f.metadata for f in dataclasses.fields(cls)}
    for where, layer in layers:
        check_names(cls, layer, where)
        layer_values = {k.replace("-", "_"): v for k, v in layer.items()}
        try:
            for name, value in layer_values.items():
                check_bounds(name, coerce(name, value, hints[name]), metadata[name])
            if "env_args" in layer_values:
                given = coerce("env_args", layer_values["env_args"], hints["env_args"])
                layer_values["env_args"] = {**values.get("env_args", {}), **given}
        except UserError as error:
            raise UserError(f"{where}: {error}") if where else error from None
        values |= layer_values
    return cls(**values)


MOST_CONFIG = 2**20
"""Bytes of a config file at most."""


def read_toml(path: Path) -> dict[str, Any]:
    """The names and values of a TOML file; UserError where it cannot be read."""
    try:
        text = read_text(home(path), MOST_CONFIG)
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist") from None
    except OSError as error:
        raise UserError(f"config file {path} cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"config file {path} cannot be read: {str(error).removeprefix(f'{path} ')}") from None
    return parse_toml(text, path)


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """The names and values of a config file's text; UserError where it is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"config file {path} is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"config file {path} is not valid TOML: {error}") from None
