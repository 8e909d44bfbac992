"""Flags made from a config's fields, and the flags of every verb that makes runs."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import click

from rlkit.cli.common import FieldOption, FieldType, complete_env, literal
from rlkit.config import Config
from rlkit.errors import UserError


def run_options(what: str) -> list[click.Option]:
    """The flags of a verb that makes runs, besides the fields.

    Args:
        what: "env" or "data set", what is learned from.
    """
    return [
        click.Option(
            ["--preset"], default="auto", show_default=True, help=f"A preset's name, none, or auto: the {what}'s."
        ),
        click.Option(
            ["--config", "file"],
            type=click.Path(path_type=Path),
            help="TOML file of fields; flags go before it.",
        ),
        click.Option(["--set", "settings"], multiple=True, metavar="NAME=VALUE", help="Set any field by name."),
        click.Option(["--seeds"], help="Train several seeds, such as 0-9 or 0,3,5.", metavar="A-B"),
        click.Option(
            ["--run-dir"],
            default="runs",
            show_default=True,
            type=click.Path(path_type=Path),
            help="Where the run's folder is made.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object and nothing else."),
    ]


def complete_data(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Data sets for shell completion."""
    from rlkit.fit_config import DATA

    del ctx, param
    return [name for name in DATA if name.startswith(incomplete)]


COMPLETE = {"env": complete_env, "data": complete_data}
"""How the shell completes the fields that must be given."""


def field_options(cls: type[Config]) -> list[FieldOption]:
    """An option for each field of a config, except the table of env arguments."""
    hints = typing.get_type_hints(cls)
    made = []
    for field in dataclasses.fields(cls):
        if field.name == "env_args":
            continue
        flag, hint = "--" + field.name.replace("_", "-"), hints[field.name]
        default = field.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text = field.metadata["help"]
        if field.name not in COMPLETE:
            text += f"  [{'none' if default is None else str(shown).lower() if hint is bool else shown}]"
        if hint is bool:
            made.append(
                FieldOption(
                    [f"{flag}/--no-{flag[2:]}", field.name],
                    default=None,
                    help=text,
                    group=field.metadata["group"],
                )
            )
        else:
            made.append(
                FieldOption(
                    [flag, field.name],
                    type=FieldType(flag, hint, field.metadata),
                    default=None,
                    help=text,
                    group=field.metadata["group"],
                    shell_complete=COMPLETE.get(field.name),
                )
            )
    return made


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """``name=value`` words as fields; ``env_args.name=value`` reaches the env."""
    fields: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UserError(f"--set {setting} is not NAME=VALUE, such as gamma=0.98")
        if name.startswith("env_args."):
            fields.setdefault("env_args", {})[name.removeprefix("env_args.")] = literal(value)
        else:
            fields[name.replace("-", "_")] = value
    return fields


def parse_seeds(text: str) -> list[int]:
    """``0-3,7`` as [0, 1, 2, 3, 7]."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last if dash else first]
        if not all(end.isdecimal() and len(end) < 11 and int(end) < 2**31 for end in ends) or int(ends[1]) < int(
            ends[0]
        ):
            raise UserError(f"--seeds is {text!r}, expected numbers below 2^31 such as 0-9 or 0,3,5")
        seeds += range(int(ends[0]), int(ends[1]) + 1)
    if len(set(seeds)) != len(seeds):
        raise UserError(f"--seeds is {text!r}, which names a seed twice")
    return seeds
