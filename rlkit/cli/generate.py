"""rlkit generate RUN: text from a character model."""

from __future__ import annotations

from pathlib import Path

import click

from rlkit.cli.common import (
    FieldType,
    checkpoint_options,
    count,
    json_option,
    print_json,
    run_argument,
    say,
)
from rlkit.loading import loading

TEMPERATURE = FieldType("--temperature", float, {"low": 0, "high": 100, "above": None})


@click.command(short_help="Write text with a character model.")
@run_argument
@click.option(
    "--temperature",
    "temperatures",
    multiple=True,
    type=TEMPERATURE,
    help="Below 1 the likely characters become likelier, 0 takes the likeliest; may be given several times.  "
    "[0.2, 0.5, 1.0, 1.2]",
)
@click.option("--length", default=400, show_default=True, type=count("--length"), help="Characters to write.")
@click.option("--prompt", default="", help="What to go on from.  [a new line]")
@checkpoint_options
@json_option
def generate(
    run: Path, temperatures: tuple[float, ...], length: int, prompt: str, checkpoint: str, seed: int, as_json: bool
) -> None:
    """Write text that goes on from a prompt with a run's character model, at one or several temperatures."""
    from rlkit.runs.run_directory import find, untrained

    directory = find(run, untrained, verb="fit", say=say)
    directory.require("fit")
    with loading():
        from rlkit.api.fitting import load
    temperatures = temperatures or (0.2, 0.5, 1.0, 1.2)
    texts = load(directory.path, say).generate(length, temperatures, prompt, seed, checkpoint)
    if as_json:
        rows = [{"temperature": t, "text": text} for t, text in zip(temperatures, texts, strict=True)]
        print_json({"run": str(directory.path), "prompt": prompt, "seed": seed, "texts": rows})
        return
    for temperature, text in zip(temperatures, texts, strict=True):
        if len(texts) > 1:
            click.echo(click.style(f"temperature {temperature:g}", bold=True))
        click.echo(prompt + text + ("\n" if len(texts) > 1 else ""))
