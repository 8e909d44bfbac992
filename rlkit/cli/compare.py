"""rlkit compare: solvers, learners and finished runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlkit.cli.common import PATH, FieldOption, count, print_json, say
from rlkit.cli.solve import ProblemCommand, duration, problem_options, read_problem, tolerance_option
from rlkit.errors import UserError
from rlkit.loading import loading

if TYPE_CHECKING:
    from rlkit.api.comparison import Comparison, Row


def options() -> list[click.Parameter]:
    """Every option of the command but those of the env."""
    return [
        *problem_options(),
        tolerance_option(1e-6),
        FieldOption(["--steps"], type=count("--steps"), help="Env steps of each learner.  [its own]", group="learner"),
        FieldOption(["--seed"], type=count("--seed", 0), default=0, help="Seed of each learner.  [0]", group="learner"),
        FieldOption(
            ["--run-dir"],
            type=PATH,
            help="Where the learners' runs are kept.  [nowhere]",
            group="learner",
        ),
        FieldOption(
            ["--picture"],
            type=PATH,
            metavar="FILE",
            help="Error against sweeps and samples, .png or .svg.",
            group="output",
        ),
        FieldOption(
            ["--json", "as_json"],
            is_flag=True,
            help="Print one JSON object, and nothing else, to stdout.",
            group="output",
        ),
        FieldOption(
            ["--all", "every"],
            is_flag=True,
            help="Every run below the given folders, not only the newest.",
            group="run",
        ),
        click.Argument(["names"], nargs=-1, metavar="[SOLVER|AGENT|RUN]..."),
    ]


@click.command(
    cls=ProblemCommand,
    params=options(),
    short_help="Compare solvers, learners and runs.",
    epilog="Such as: rlkit compare --env FrozenLake-v1 --gamma 0.99; rlkit compare runs --all",
)
def compare(
    names: tuple[str, ...], picture: Path | None, as_json: bool, every: bool, **values: Any  # noqa: ANN401 - click's
) -> None:  # fmt: skip
    """Compare solvers, learners and finished runs on one problem with its certified solution.

    Without names every solver that applies is compared. Learners are trained. Without a problem, finished runs are
    compared in one table: return, regret where there is a model, time.
    """
    from rlkit.files import check_output

    if picture is not None:
        check_output(picture, ".png", ".svg")
    if names and not names_a_problem(values):
        if picture is not None:
            raise UserError("--picture needs a problem: name an env with --env; rlkit plot draws the curves of runs")
        runs(expand(names, every), as_json)
        return
    given = expand(names, every)
    short = values["env"] is None
    problem, env_args = read_problem(values)
    if short and "rows" in env_args:
        env_args.setdefault("triangle_seed", values["seed"])  # as rlkit solve --rows N --seed S
    from rlkit.api import comparison
    from rlkit.api.catalogue import check_names

    if set(check_names(given)) - {"solver"}:
        with loading():
            from rlkit.api import training  # noqa: F401 - loads TensorFlow
    result = comparison.compare(problem, given, **values, **env_args)
    if as_json:
        print_json(result.to_dict())
    else:
        show(result)
    if picture is not None:
        from rlkit.pictures import learning_curves

        learning_curves.convergence(result.errors(), result.regrets(), picture, title=result.problem)
        if not as_json:
            click.echo(picture)


def names_a_problem(values: dict[str, Any]) -> bool:
    """Whether any flag says what the problem is."""
    own = {str(option.name) for option in click.get_current_context().meta["rlkit.options"]}
    return any(values.get(name) is not None for name in ("env", "mdp", *own))


def expand(names: Sequence[str], every: bool) -> list[str]:
    """Each name once, and for a folder of runs its newest run, or each of them."""
    from rlkit.api.catalogue import check_names
    from rlkit.runs.run_directory import find, runs_below, untrained

    found: list[str] = []
    for name, kind in zip(names, check_names(names), strict=True):
        if kind != "run":
            found.append(name)
        else:
            found += [str(r.path) for r in (every and runs_below(Path(name))) or [find(Path(name), untrained, say=say)]]
    return list(dict.fromkeys(found))


def runs(names: Sequence[str], as_json: bool) -> None:
    """The table of finished runs, and what several seeds of one experiment have together."""
    import numpy as np

    from rlkit.api.catalogue import check_names, run_summary, seed_summaries
    from rlkit.intervals import several_text
    from rlkit.runs.run_directory import RunDirectory

    for name, kind in zip(names, check_names(names), strict=True):
        if kind != "run":
            raise UserError(f"{name} needs a problem: name an env with --env, such as FrozenLake-v1")
    directories = [RunDirectory(Path(name)) for name in names]
    rows, together = [run_summary(each) for each in directories], seed_summaries(directories, say)
    if as_json:
        print_json({"runs": rows, "seeds": together})
        return
    heads = ["env", "agent", "seed", "steps", "status", "best return", "last return", "regret", "seconds"]
    if any(row["best_loss"] is not None for row in rows):
        heads[8:8] = ["best accuracy", "last accuracy", "best loss"]
    cells = [[text(row[head.replace(" ", "_")]) for head in heads] for row in rows]
    click.echo(table(heads, cells, left=2))
    for row in rows:
        click.echo(row["run"])
    for experiment in together:
        for name in ("best_return", "best_accuracy", "best_loss"):
            if name in experiment:
                values = np.array(experiment[name]["values"])
                what = f"{experiment['env']}, {experiment['agent']}, {len(values)} seeds, {name.replace('_', ' ')}"
                click.echo(f"{what}: {several_text(values)}")


def show(result: Comparison) -> None:
    """The answer for people."""
    for gamma, best in result.references.items():
        bound = f"within {best.bound:.2g}, proven" if best.bound < math.inf else "with no bound proven"
        click.echo(
            f"{result.problem}, gamma {gamma:g}: optimal value at the start {best.value_at_start:.10g} "
            f"({best.solver}, {bound})"
        )
    heads = ["", "value at start", "error of V", "regret", "optimal actions", "work", "time"]
    several = len(result.references) > 1
    cells = [row_cells(row) for row in result.rows]
    if several:
        heads.insert(1, "gamma")
        cells = [[line[0], f"{row.gamma:g}", *line[1:]] for line, row in zip(cells, result.rows, strict=True)]
    click.echo("\n" + table(heads, cells))
    for name, why in result.skipped.items():
        click.echo(f"left out: {name}: {why}")


def row_cells(row: Row) -> list[str]:
    """A row as text."""
    unit = "step" if row.kind == "learner" else "iteration"
    return [
        row.name + (f" ({row.taken})" if row.taken else "") + (f", {row.note}" if row.note else ""),
        f"{row.value_at_start:.6g}",
        f"{row.error:.2g}",
        f"{row.regret:.2g}",
        f"{row.optimal:.1%}",
        f"{row.work:,} {unit}{'' if row.work == 1 else 's'}",
        duration(row.seconds),
    ]


def text(value: object) -> str:
    """A cell: a dash where nothing is known."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns under their heads; the first ones to the left, numbers to the right."""
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
