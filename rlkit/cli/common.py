"""What the verbs share: help by groups, a run's argument, quiet imports, JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from rlkit.errors import unknown

F = TypeVar("F", bound=Callable[..., Any])


class Help(click.Group):
    """A group that answers a mistyped name with the nearest ones, and lists commands as they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def run_argument(command: F) -> F:
    """The RUN argument."""
    return click.argument("run", type=click.Path(path_type=Path))(command)


def json_option(command: F) -> F:
    """The --json flag."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")(command)


def checkpoint_options(command: F) -> F:
    """Which of a run's agents plays, and on which seeds."""
    command = click.option(
        "--checkpoint",
        default="best",
        show_default=True,
        metavar="WHICH",
        help="best (by evaluation), last, or a step's number.",
    )(command)
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the episodes.")(
        command
    )


def print_json(value: Mapping[str, object]) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def say(text: str) -> None:
    """A line for people, on stderr: stdout belongs to results."""
    click.echo(text, err=True)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keep what TensorFlow's libraries write to stderr while they load, and show it only if that fails."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(stderr, 2)
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
