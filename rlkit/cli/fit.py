"""rlkit fit MODEL --data DATASET: supervised learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from rlkit.cli.common import Grouped, Help, count, json_option, print_json, quiet_import, say
from rlkit.cli.fields import field_options, parse_seeds, parse_settings, run_options
from rlkit.errors import UserError

if TYPE_CHECKING:
    from rlkit.experiments.fitting import FitRun

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


class Models(Help):
    """A command a model, with flags from the model's config."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from rlkit.fit_config import MODELS

        return list(MODELS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from rlkit.fit_config import MODELS

        return model_command(cmd_name) if cmd_name in MODELS else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            models = ", ".join(self.list_commands(ctx))
            raise UserError(
                f"{error.option_name} comes after the model's name, rlkit fit MODEL {error.option_name}, "
                f"or is unknown; MODEL is {models}"
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from rlkit.errors import unknown

        if not ctx.resilient_parsing and args[0] not in self.list_commands(ctx):
            raise unknown("model", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


@click.group(cls=Models, invoke_without_command=True, epilog="Each model has its own flags: rlkit fit mlp --help")
@click.option("--resume", "path", type=click.Path(path_type=Path), metavar="RUN", help="Continue this run exactly.")
@click.option("--steps", type=count("--steps"), help="With --resume: go on to this step.")
@json_option
@click.pass_context
def fit(ctx: click.Context, path: Path | None, steps: int | None, as_json: bool) -> None:
    """Train a model on a data set, or continue such a run."""
    if ctx.invoked_subcommand:
        if path:
            raise UserError(f"--resume takes the model from the run: say rlkit fit --resume {path}")
        if steps or as_json:
            flag = "--steps" if steps else "--json"
            raise UserError(f"{flag} comes after the model's name: say rlkit fit {ctx.invoked_subcommand} {flag}")
        return
    if path is None:
        raise UserError("name a model to train, such as rlkit fit mlp --data digits, or --resume RUN")
    with quiet_import():
        from rlkit.experiments.fitting import resume
    conclude([resume(path, steps=steps, say=say, progress="")], as_json)


def model_command(model: str) -> click.Command:
    """The command that trains a model."""
    from rlkit.fit_config import MODELS

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
    own = {k: values.pop(k) for k in ("preset", "file", "settings", "seeds", "run_dir", "as_json")}
    fields = {**parse_settings(own["settings"]), **{k: v for k, v in values.items() if v is not None}}
    if own["seeds"] is not None and "seed" in fields:
        raise UserError("--seed and --seeds exclude each other")
    seeds = None if own["seeds"] is None else parse_seeds(own["seeds"])
    data = fields.pop("data", None)
    source = {"preset": own["preset"], "config": own["file"]}
    from rlkit.experiments.fit_configuration import resolve

    resolve(model, data, fields=fields, **source)
    with quiet_import():
        from rlkit.experiments import fitting
    common = {"run_dir": own["run_dir"], "say": say, **source, **fields}
    if seeds is None:
        runs = [fitting.fit(model, data, progress="", **common)]
    else:
        runs = fitting.fit_seeds(model, data, seeds, progress=True, **common)
    conclude(runs, own["as_json"])


def conclude(runs: list[FitRun], as_json: bool) -> None:
    """Evaluate what was trained and print it, with what to try next."""
    results = [(run, None if run.status == "interrupted" else run.evaluate()) for run in runs]
    if as_json:
        rows = [
            {
                "run": str(run.path),
                "seed": run.config.seed,
                "status": run.status,
                "step": run.directory.info["step"],
                "seconds": run.directory.info["seconds"],
                "evaluation": result,
            }
            for run, result in results
        ]
        print_json(rows[0] if len(rows) == 1 else {"runs": rows})
    else:
        print_results(results)
    if runs[-1].status == "interrupted":
        say(f"interrupted; go on with: rlkit fit --resume {runs[-1].path}")
        raise click.exceptions.Exit(130)


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
        for name, word in WORDS.items():
            values = [result[name] for result in found if name in result]
            if values:
                mean, low, high = (f"{value:.4g}" for value in (sum(values) / len(values), min(values), max(values)))
                click.echo(f"{len(values)} seeds: {word} {mean} on average, lowest {low}, highest {high}")
    run, result = results[-1]
    if result is not None:
        paths = " ".join(str(run.path) for run, _ in results)
        write = f"rlkit generate {run.path}\n      " if run.directory.agent == "lstm" else ""
        click.echo(f"next: {write}rlkit plot {paths}")


def described(result: Mapping[str, Any]) -> str:
    """What an evaluation says, as a clause."""
    values = ", ".join(f"{word} {result[name]:.4g}" for name, word in WORDS.items() if name in result)
    where = "held-out" if result["held_out"] else "training"
    return f"on {result['examples']:,} {where} examples: {values}"
