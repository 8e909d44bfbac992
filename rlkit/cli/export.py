"""rlkit export RUN --to FORMAT: a trained model for another runtime, held to the live one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlkit.cli.common import PATH, Name, checkpoint_option, json_option, print_json, run_argument, say, trust_option
from rlkit.export import FORMATS, QUANTIZATIONS
from rlkit.loading import loading


@click.command(short_help="Write a trained model for another runtime, and check it there.")
@run_argument
@click.option("--to", required=True, type=Name("format", (*FORMATS, "web")), help="Format to write; web is a page.")
@click.option("--out", type=PATH, help="Folder to write to.  [RUN/exports/FORMAT]")
@click.option(
    "--quantize",
    default="none",
    show_default=True,
    type=Name("quantization", QUANTIZATIONS),
    help="How a .tflite keeps its numbers.",
)
@click.option("--converter-python", metavar="PYTHON", help="A Python with tensorflowjs, for tfjs.  [one made for it]")
@checkpoint_option
@trust_option
@json_option
def export(  # noqa: PLR0913 - the options
    run: Path,
    to: str,
    out: Path | None,
    quantize: str,
    converter_python: str | None,
    checkpoint: str,
    trust: bool,
    as_json: bool,
) -> None:
    """Write a run's model for another runtime, load it there, and compare it with the live one.

    Both answer 1,000 observations of real episodes and play 20 episodes. Where they disagree, nothing is written.
    """
    from rlkit.runs.run_directory import find, untrained

    directory = find(run, untrained, say=say)
    with loading():
        from rlkit.api.exporting import export_run as write
    written = write(
        directory.path,
        to,
        checkpoint=checkpoint,
        out=out,
        quantize=quantize,
        converter=converter_python,
        trust=trust,
        say=say,
    )
    if as_json:
        print_json({"path": str(written.path), **written.report})
        return
    click.echo(written.path)
    if written.report:
        click.echo(described(written.report))


def described(report: dict[str, Any]) -> str:
    """What an export was held to, as a table."""
    choice = {"mean return": "equal actions", "accuracy": "equal choices"}.get(report["measure"], "close numbers")
    rows = [
        ("size", f"{report['bytes']:,} bytes"),
        ("inputs compared", f"{report['inputs']:,}"),
        ("largest difference", f"{report['difference']:.2g}, of values up to {report['scale']:.4g}"),
        (choice, f"{report['equal']:.2%}"),
        (report["measure"], f"{report['exported']:.4g} exported, {report['live']:.4g} live"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)
