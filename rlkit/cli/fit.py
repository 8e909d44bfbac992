"""rlkit fit MODEL --data DATASET: supervised learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from rlkit.cli.common import Grouped, print_json, say, words
from rlkit.cli.fields import (
    Nouns,
    ended,
    field_options,
    leave,
    own_options,
    plot_command,
    resume_options,
    run_options,
    run_rows,
)
from rlkit.loading import loading

if TYPE_CHECKING:
    from rlkit.api.fitting import FitRun

GROUPS = {
    "data": "Data",
    "pipeline": "Pipeline",
    "augmentation": "Augmentation",
    "model": "Model",
    "training": "Training",
    "logging": "Logging",
    "device": "Device",
}

WORDS = {"loss": "loss", "accuracy": "accuracy", "perplexity": "perplexity", "mean_absolute_error": "mean error"}
"""What a result's values are called."""


class ModelCommand(Grouped):
    """Shows the fields under the headings of their groups."""

    groups: ClassVar[Mapping[str, str]] = GROUPS


class Models(Nouns):
    """A command a model, with flags from the model's config."""

    verb, noun, example = "fit", "model", "rlkit fit mlp --data digits"

    def list_commands(self, ctx: click.Context) -> list[str]:
        from rlkit.supervised.config import MODELS

        return list(MODELS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from rlkit.supervised.config import MODELS

        return model_command(cmd_name) if cmd_name in MODELS else None


@click.group(cls=Models, invoke_without_command=True, epilog="Each model has its own flags: rlkit fit mlp --help")
@resume_options
@click.pass_context
def fit(ctx: click.Context, path: Path | None, steps: int | None, as_json: bool) -> None:
    """Train a model on a data set, or continue such a run."""
    assert isinstance(ctx.command, Models)
    if not ctx.command.resumes(ctx, path, steps, as_json):
        return
    assert path is not None
    with loading():
        from rlkit.api.fitting import resume
    conclude([resume(path, steps=steps, say=say, progress="")], {}, as_json)


def model_command(model: str) -> click.Command:
    """The command that trains a model."""
    from rlkit.supervised.config import MODELS

    entry = MODELS[model]
    options: list[click.Parameter] = [*field_options(entry.config), *run_options("data set")]
    return ModelCommand(
        model,
        params=options,
        callback=lambda **values: start(model, values),
        help=entry.summary,
        short_help=entry.summary,
    )


def start(model: str, values: dict[str, Any]) -> None:
    """Train as the parsed options say."""
    own, fields, seeds = own_options(values)
    data = fields.pop("data", None)
    source = {"preset": own["preset"], "config": own["file"]}
    from rlkit.api.configuration import resolve_fit

    resolve_fit(model, data, fields=fields, **source)
    with loading():
        from rlkit.api import fitting
    common = {"run_dir": own["run_dir"], "say": say, **source, **fields}
    if seeds is None:
        conclude([fitting.fit(model, data, progress="", **common)], {}, own["as_json"])
    else:
        conclude(*ended(lambda: fitting.fit_seeds(model, data, seeds, progress=True, **common)), own["as_json"])


def conclude(runs: list[FitRun], failures: Mapping[int, str], as_json: bool) -> None:
    """Evaluate what was trained and print it, with what to try next."""
    results = [(run, None if run.status == "interrupted" else run.evaluate()) for run in runs]
    if as_json:
        print_json(run_rows(results, failures))
    elif results:
        print_results(results)
    leave(runs, failures)


def print_results(results: list[tuple[FitRun, dict[str, Any] | None]]) -> None:
    """For people: a line a run, the seeds' mean, and the next commands."""
    for run, result in results:
        info = run.directory.info
        click.echo(f"{run.path}")
        click.echo(f"  seed {run.config.seed}: {run.status} at step {info['step']:,} after {info['seconds']:.1f} s")
        if result is not None:
            click.echo(f"  best model, of step {result['step']:,}, {described(result)}")
    found = [result for _, result in results if result is not None]
    if len(found) > 1:
        import numpy as np

        from rlkit.intervals import several_text

        for name, word in WORDS.items():
            values = [result[name] for result in found if name in result]
            if values:
                click.echo(f"{len(values)} seeds, best models: {word}, {several_text(np.array(values))}")
    run, result = results[-1]
    if result is not None:
        write = f"{words('rlkit', 'generate', run.path)}\n      " if run.directory.agent == "lstm" else ""
        click.echo(f"next: {write}{plot_command([run.path for run, _ in results])}")


def described(result: Mapping[str, Any]) -> str:
    """What an evaluation says, as a clause."""
    values = ", ".join(f"{word} {result[name]:.4g}" for name, word in WORDS.items() if name in result)
    where = "held-out" if result["held_out"] else "training"
    return f"on {result['examples']:,} {where} examples: {values}"
