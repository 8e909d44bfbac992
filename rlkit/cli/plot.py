"""rlkit plot RUN...: learning curves."""

from __future__ import annotations

from pathlib import Path

import click

from rlkit.cli.common import PATH, Name, say
from rlkit.errors import UserError


@click.command(short_help="Draw learning curves.")
@click.argument("runs", nargs=-1, type=PATH, metavar="RUN...")
@click.option("--to", "path", type=PATH, help="File to write, .png or .svg.  [RUN/plots/...png]")
@click.option("--x", default="steps", show_default=True, type=Name("--x", ["steps", "seconds"]), help="Over what.")
@click.option(
    "--y",
    help="evaluation, regret where the env's model is known, test_accuracy and the like of a supervised run, or a "
    "column of metrics.csv such as loss.  [the evaluations, if there are any]",
)
@click.option("--all", "every", is_flag=True, help="Every run below the given folders, not only the newest.")
def plot(runs: tuple[Path, ...], path: Path | None, x: str, y: str | None, every: bool) -> None:
    """Draw learning curves; runs that differ only in their seed become one line with an interval."""
    from rlkit.envs.returns import possible_returns
    from rlkit.pictures import learning_curves
    from rlkit.runs import curves
    from rlkit.runs.run_directory import find, runs_below, unmeasured

    if not runs:
        raise UserError("name a run to plot, or a folder of runs with --all")
    found = [r for folder in runs for r in ((every and runs_below(folder)) or [find(folder, unmeasured, say=say)])]
    if y is None:
        some = [name for name in curves.MAIN if any(len(curves.curve(r, x, name).x) for r in found)]
        y = some[0] if some else "evaluation"
    if path is None:
        path = Path(f"{y}.png")
        if len(found) == 1:
            found[0].check_files()
            path = found[0].path / "plots" / path
    learning_curves.draw(found, path, x=x, y=y, say=say, returns=possible_returns)
    click.echo(path)
