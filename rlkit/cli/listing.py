"""rlkit list: what there is to name."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path

import click

from rlkit.cli.common import PATH, Name, json_option, print_json, printable

SHORTEST = 20
"""Columns that a text has at least beside a name."""

KINDS = ("agents", "solvers", "envs", "models", "datasets", "presets", "runs")


@click.command("list", short_help="List agents, solvers, envs, models, data sets, presets, runs.")
@click.argument("kind", type=Name("kind", KINDS), required=False)
@click.option("--run-dir", default="runs", show_default=True, type=PATH, help="Where runs are.")
@json_option
def list_(kind: str | None, run_dir: Path, as_json: bool) -> None:
    """List agents, solvers, envs, models, data sets, presets or runs. Without a name: all of these but the envs."""
    from rlkit.api import catalogue
    from rlkit.supervised.config import DATA, MODELS

    kinds = (kind,) if kind else tuple(name for name in KINDS if name != "envs")
    found: dict[str, object] = {}
    for name in kinds:
        if name == "agents":
            found[name] = catalogue.agent_summaries()
        elif name == "solvers":
            found[name] = catalogue.SOLVERS
        elif name == "models":
            found[name] = {model: entry.summary for model, entry in MODELS.items()}
        elif name == "datasets":
            found[name] = DATA
        elif name == "envs":
            found[name] = catalogue.env_names()
        elif name == "presets":
            found[name] = catalogue.preset_names()
        else:
            found[name] = catalogue.runs(run_dir)
    if as_json:
        print_json(found)
        return
    for name, values in found.items():
        if len(found) > 1:
            click.echo(f"{name}:" + ("" if values else " none"))
        for key, text in entries(values):
            click.echo(wrapped(key, text, "  " if len(found) > 1 else ""))


def entries(values: object) -> list[tuple[str, str]]:
    """A list's or a table's entries: each name, in a column as wide as the longest one's, and the text on it."""
    if isinstance(values, dict):
        width = max((len(k) for k in values), default=0)
        return [(f"{k:<{width}}  ", ", ".join(v) if isinstance(v, list) else str(v)) for k, v in values.items()]
    if isinstance(values, list):
        runs = [v for v in values if isinstance(v, dict)]
        return [(printable(f"{v['run']}  "), printable(run_text(v))) for v in runs] or [(v, "") for v in values]
    return []


def run_text(run: Mapping[str, object]) -> str:
    """A run's status, and how far it came or why it cannot be read."""
    return f"broken: {run['why']}" if run["status"] == "broken" else f"{run['status']} at step {run['step']:,}"


def wrapped(key: str, text: str, indent: str) -> str:
    """An entry in lines as wide as the terminal, or 80 columns where there is none; a name is never broken."""
    width = shutil.get_terminal_size().columns
    column = len(indent + key)
    if column + SHORTEST > width and column + len(text) > width:  # a long path: the text goes below it
        return f"{indent}{key.rstrip()}\n" + wrapped("", text, indent + "    ")
    lines = textwrap.wrap(text, width - column, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join((indent + key if i == 0 else " " * column) + line for i, line in enumerate(lines)).rstrip()
