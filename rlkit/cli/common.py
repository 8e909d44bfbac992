"""What the verbs share: help by groups, a run's argument, quiet imports, JSON."""

from __future__ import annotations

import json
import re
import shlex
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem

from rlkit.config import Argument, argument, check_bounds, coerce, kind, toml_value
from rlkit.errors import UserError, unknown
from rlkit.files import home

F = TypeVar("F", bound=Callable[..., Any])


class Help(click.Group):
    """A group that answers a mistyped name with the nearest ones, and lists commands as they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        asked = not ctx.resilient_parsing and args and not args[0].startswith("-")
        if asked and self.get_command(ctx, args[0]) is None:
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


class FieldType(click.ParamType):  # type: ignore[type-arg] # generic only in the newest click
    """A value on the command line that is parsed, checked and refused as a config's field is."""

    def __init__(self, flag: str, hint: Any, metadata: Mapping[str, Any]) -> None:  # noqa: ANN401 - an annotation
        self.flag, self.hint, self.metadata = flag, hint, metadata
        numbers = {"a whole number": "N", "a number": "X", "text": "TEXT", "whole numbers such as 64,64": "N,N"}
        text = kind(hint)
        self.name = numbers.get(text.removesuffix(" or none"), text)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        if ctx and param and param.name == "seed" and any(other.name == "seeds" for other in ctx.command.params):
            check_seed(self.flag, value)
        result = coerce(self.flag, value, self.hint)
        check_bounds(self.flag, result, self.metadata)
        return result

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return self.name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        words = typing.get_args(self.hint) if typing.get_origin(self.hint) is typing.Literal else ()
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class Number(FieldType):
    """For an argument whose default is a whole number, which need not mean that others are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:  # noqa: ANN401 - click's
        number: float = super().convert(value, param, ctx)
        return int(number) if number.is_integer() else number


class FieldOption(click.Option):
    """An option made from a config field, shown under its group's heading."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:  # noqa: ANN401 - click.Option's
        super().__init__(*args, **kwargs)
        self.group = group


class Grouped(click.Command):
    """Shows its options under the headings of their groups."""

    groups: ClassVar[Mapping[str, str]] = {}
    """What the heading of each group is, in their order."""

    allow_extra_args = True
    """Words that no argument takes are refused here, with the flag that they may have been meant for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = {word.partition("=")[0] for word in args}
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            word, flags = words(ctx.args[0]), {flag for option in self.get_params(ctx) for flag in option.opts}
            meant = [f"{flag} {word}" for flag in ("--env", "--data") if flag in flags - given]
            raise UserError(f"unexpected argument {word}" + (f": did you mean {meant[0]}?" if meant else ""))
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = self.get_params(ctx)
        for group, title in {**self.groups, "": "Options"}.items():
            rows = [
                row
                for option in options
                if getattr(option, "group", "") == group
                and isinstance(option, click.Option)
                and (row := option.get_help_record(ctx))
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def count(flag: str, low: int = 1) -> FieldType:
    """The type of an option that takes a whole number of at least `low`."""
    return FieldType(flag, int, {"low": low, "high": None, "above": None})


class FilePath(click.Path):
    """A path whose leading ~ is the user's home, which a shell leaves as it is in --run-dir=~/runs."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        return super().convert(home(value), param, ctx)


PATH = FilePath()
"""The type of every path on the command line."""


class Name(click.Choice[str]):
    """One of a few names; another one is answered with the nearest."""

    def __init__(self, what: str, names: Sequence[str]) -> None:
        super().__init__(names)
        self.what = what

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        del param, ctx
        if value not in self.choices:
            raise unknown(self.what, value, self.choices)
        return value


def complete_env(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Env ids for shell completion."""
    from rlkit.api.catalogue import env_names

    del ctx, param
    return [name for name in env_names() if name.startswith(incomplete)]


def env_options(env: str, taken: Iterable[click.Parameter]) -> list[FieldOption]:
    """An option for each plain argument of an env whose name no other option has; UserError for an unknown env."""
    from rlkit.api.catalogue import env_arguments

    names = {word for o in taken for word in (o.name, *(flag[2:].replace("-", "_") for flag in o.opts))}
    return [
        env_option(name, default)
        for name, default in env_arguments(env).items()
        if name not in names
        and (default is None or isinstance(default, bool | int | float | str | list | tuple | dict))
    ]


def env_option(name: str, default: object) -> FieldOption:
    """An option for an argument of the env."""
    flag = "--" + name.replace("_", "-")
    shown = str(default).lower() if default is None or isinstance(default, bool) else default
    text = f"Argument {name} of the env.  [{shown}]"
    if isinstance(default, bool):
        return FieldOption([f"{flag}/--no-{flag[2:]}", name], default=None, help=text, group="env")
    if default is None or isinstance(default, list | tuple | dict):  # any type will do
        return FieldOption([flag, name], type=literal, metavar="VALUE", default=None, help=text, group="env")
    bounds = {"low": None, "high": None, "above": None}
    kind = Number(flag, float, bounds) if isinstance(default, int) else FieldType(flag, type(default), bounds)
    return FieldOption([flag, name], type=kind, default=None, help=text, group="env")


def literal(text: str) -> Argument:
    """A word as TOML would read it: a number, true or false, a list, a table; else as text."""
    value = toml_value(text)
    return argument("", value) if isinstance(value, bool | int | float | list | dict) else text


def run_argument(command: F) -> F:
    """The RUN argument."""
    return click.argument("run", type=PATH)(command)


def trust_option(command: F) -> F:
    """The --trust flag."""
    text = "Let this run, made elsewhere, import the code that its config names; needed once for each run."
    return click.option("--trust", is_flag=True, help=text)(command)


def json_option(command: F) -> F:
    """The --json flag."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, to stdout.")(
        command
    )


def checkpoint_option(command: F) -> F:
    """Which of a run's models it is."""
    return click.option(
        "--checkpoint",
        default="best",
        show_default=True,
        metavar="WHICH",
        help="best (by evaluation), last, or a step's number.",
    )(command)


def checkpoint_options(command: F) -> F:
    """Which of a run's agents plays, and on which seeds."""
    command = checkpoint_option(command)
    seed = click.option("--seed", default=0, show_default=True, type=count("--seed", 0), help="Seed of the episodes.")
    return seed(command)


def runtime_option(command: F) -> F:
    """What the policy is computed by."""
    return click.option(
        "--runtime",
        default="tensorflow",
        show_default=True,
        type=Name("runtime", ("tensorflow", "litert")),
        help="What computes the actions; litert takes a small network at one observation in microseconds.",
    )(command)


def print_json(value: Mapping[str, object]) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def printable(text: str) -> str:
    """Text of a file or its name for a terminal: characters that would steer it, or are none, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """A line for people, on stderr: stdout belongs to results. A terminal that was closed ends nothing."""
    with suppress(OSError):
        click.echo(text, err=True)


def check_no_env(word: str, example: str) -> None:
    """UserError where an env's id stands in place of the name of what is to learn or to solve."""
    from rlkit.api.catalogue import env_names

    if word in env_names():
        raise UserError(f"{word} is an env: name it by --env, as in {example}")


def check_seed(name: str, value: object) -> None:
    """UserError where one seed is asked for and several are given, which have a flag of their own."""
    if name in ("seed", "--seed") and isinstance(value, str) and re.fullmatch(r"\d+[-,][\d,-]*", value):
        raise UserError(f"{name} is {value!r}, expected a whole number; several are --seeds {value}")


def words(*values: object) -> str:
    """Words of a command line to copy, quoted where a shell would read them otherwise."""
    return shlex.join(map(str, values))
