"""Flags made from a config's fields, and the flags of every verb that makes runs."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click
from click.core import ParameterSource

from rlkit.cli.common import (
    PATH,
    F,
    FieldOption,
    FieldType,
    Help,
    check_no_env,
    check_seed,
    complete_env,
    count,
    json_option,
    literal,
    say,
    words,
)
from rlkit.config import Argument, Config, coerce
from rlkit.errors import FailedRunsError, UserError, unknown

if TYPE_CHECKING:
    from rlkit.runs.run_directory import AnyRun

R = TypeVar("R", bound="AnyRun")


class Nouns(Help):
    """A verb that makes runs: a command for each thing that learns, which a subclass lists and makes."""

    verb: ClassVar[str]
    noun: ClassVar[str]
    """What learns: agent, model."""
    example: ClassVar[str]
    """A command to begin with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            self.keep_config(ctx, args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            word = self.noun.upper()
            raise UserError(
                f"{error.option_name} comes after the {self.noun}'s name, rlkit {self.verb} {word} "
                f"{error.option_name}, or is unknown; {word} is {', '.join(self.list_commands(ctx))}"
            ) from error

    def keep_config(self, ctx: click.Context, args: Sequence[str]) -> None:
        """UserError where a run is to be resumed with anything but more steps."""
        if not any(word.partition("=")[0] == "--resume" for word in args) or {"-h", "--help"} & set(args):
            return
        nouns, others, words = self.list_commands(ctx), [], iter(args)
        for word in words:
            flag, equals, _ = word.partition("=")
            if flag in ("--resume", "--steps"):
                if not equals:
                    next(words, None)
            elif word in nouns or (flag.startswith("--") and flag not in ("--json", "--trust", "--")):
                others.append(flag)
        if others:
            raise UserError(
                f"a resumed run keeps its {self.noun} and its config, and only --steps can change: leave out "
                f"{', '.join(others)}, as in rlkit {self.verb} --resume RUN --steps N"
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] not in self.list_commands(ctx):
            check_no_env(args[0], f"rlkit {self.verb} {self.list_commands(ctx)[0]} --env {args[0]}")
            raise unknown(self.noun, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def resumes(self, ctx: click.Context, path: Path | None, steps: int | None, as_json: bool) -> bool:
        """Whether a run is to be continued, not begun; UserError where the words fit neither."""
        if ctx.invoked_subcommand:
            if steps or as_json:
                flag = "--steps" if steps else "--json"
                raise UserError(
                    f"{flag} comes after the {self.noun}'s name: say rlkit {self.verb} {ctx.invoked_subcommand} {flag}"
                )
            return False
        if path is None:
            article = "an" if self.noun[0] in "aeiou" else "a"
            raise UserError(f"name {article} {self.noun} to train, such as {self.example}, or --resume RUN")
        return True


def resume_options(command: F) -> F:
    """The flags of the verb itself."""
    command = json_option(command)
    command = click.option("--steps", type=count("--steps"), help="With --resume: go on to this step.")(command)
    return click.option("--resume", "path", type=PATH, metavar="RUN", help="Continue this run exactly.")(command)


def own_options(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[int] | None]:
    """The values of `run_options`, taken out of all; the fields of --set and the flags; the seeds."""
    own = {k: values.pop(k) for k in ("preset", "file", "settings", "seeds", "run_dir", "as_json")}
    source = click.get_current_context().get_parameter_source
    given = {k: v for k, v in values.items() if source(k) is not ParameterSource.DEFAULT}  # a None is a field's "none"
    fields = {**parse_settings(own["settings"]), **given}
    if own["seeds"] is not None and "seed" in fields:
        raise UserError("--seed and --seeds exclude each other")
    return own, fields, None if own["seeds"] is None else parse_seeds(own["seeds"])


NAMED = 10
"""Most runs that a command to copy names one by one."""


def plot_command(paths: Sequence[Path]) -> str:
    """The command that plots the runs of one call, which are in one folder."""
    return words("rlkit", "plot", *(paths if len(paths) <= NAMED else (paths[0].parent, "--all")))


def run_rows(results: Sequence[tuple[AnyRun, Mapping[str, Any] | None]], failures: Mapping[int, str]) -> dict[str, Any]:
    """Runs and their evaluations, and why others failed by their seeds, as --json prints them."""
    rows = [
        {
            "run": str(run.path),
            "seed": run.directory.info["seed"],
            "status": run.status,
            "step": run.directory.info["step"],
            **run.counts(),
            "seconds": run.directory.info["seconds"],
            "evaluation": result,
        }
        for run, result in results
    ]
    if failures:
        return {"runs": rows, "failed": {str(seed): text for seed, text in failures.items()}}
    return rows[0] if len(rows) == 1 else {"runs": rows}


def ended(train: Callable[[], list[R]]) -> tuple[list[R], dict[int, str]]:
    """The runs of a series that did not fail, and by its seed why each other one did."""
    try:
        return train(), {}
    except FailedRunsError as error:
        return error.runs, error.failures


def leave(runs: Sequence[AnyRun], failures: Mapping[int, str]) -> None:
    """Say which seeds failed, and how to go on where the last run was interrupted; exit with 1 or 130 then."""
    for seed, text in failures.items():
        say(f"seed {seed} failed: {text}")
    if runs and runs[-1].status == "interrupted":
        say(f"interrupted; go on with: {runs[-1].directory.resuming}")
        raise click.exceptions.Exit(130)
    if failures:
        raise click.exceptions.Exit(1)


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
            type=PATH,
            help="TOML file of fields; a flag overrides it.",
        ),
        click.Option(["--set", "settings"], multiple=True, metavar="NAME=VALUE", help="Set any field by name."),
        click.Option(["--seeds"], help="Train several seeds, such as 0-9 or 0,3,5.", metavar="A-B"),
        click.Option(
            ["--run-dir"],
            default="runs",
            show_default=True,
            type=PATH,
            help="Where the run's folder is made.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object, and nothing else, to stdout."),
    ]


def complete_data(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Data sets for shell completion."""
    from rlkit.supervised.config import DATA

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
        name = name.replace("-", "_", 1) if name.startswith("env-args") else name
        if name == "env_args":
            fields[name] = {**fields.get(name, {}), **coerce(name, value, dict[str, Argument])}
        elif name.startswith("env_args."):
            fields.setdefault("env_args", {})[name.removeprefix("env_args.")] = literal(value)
        else:
            check_seed(name, value)
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
