"""Learning curves as png or svg."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rlkit.errors import UserError
from rlkit.files import check_output, write_whole
from rlkit.runs.curves import RETURNS, Curve, Group, Returns, groups
from rlkit.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito 2008, "Color universal design": told apart with any colour vision."""

FEW = 10
"""Most seeds of a group that get a thin line each."""

HELD = (0, (2, 1))
"""Dashes of a mean in which solved runs stand at their last value."""

FLOOR = 1e-12
"""Errors below are drawn here: they are rounding."""

LETTERS = 130
"""Of the legend's that fit in the figure's width."""

NAMES = {
    "steps": "env steps",
    "seconds": "training time (s)",
    "evaluation": "return of greedy episodes",
    "episode_return": "return of training episodes",
    "episode_length": "length of training episodes (steps)",
    "td_error": "TD error",
    "q": "Q value",
    "updates": "gradient steps",
}
"""What the axes are called; other columns by their own name."""

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "axes.edgecolor": "#808080",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "rlkit",
}


def draw(
    runs: Sequence[RunDirectory],
    path: Path,
    *,
    x: str = "steps",
    y: str = "evaluation",
    title: str | None = None,
    say: Callable[[str], None] | None = None,
    returns: Returns | None = None,
) -> Path:
    """Draw runs as in `figure` and write a .png or .svg, whole or not at all.

    The same runs give the same bytes.

    Returns:
        The path.

    Raises:
        UserError: another ending, a folder that cannot be written to, or as `rlkit.runs.curves.groups`.
    """
    check_output(path, ".png", ".svg")
    return save_figure(figure(runs, x=x, y=y, title=title, say=say, returns=returns), path)


def figure(
    runs: Sequence[RunDirectory],
    *,
    x: str = "steps",
    y: str = "evaluation",
    title: str | None = None,
    say: Callable[[str], None] | None = None,
    returns: Returns | None = None,
) -> Figure:
    """One panel an env, in it one line an experiment: the mean over its seeds.

    From three seeds on a band shows the 95% interval of the mean (Student's t); each of few seeds has a thin
    line of its own. Where a solved run counts with its last value (see `rlkit.runs.curves.groups`) the mean is dashed,
    and a dot marks where the run ended. Neither band nor axis goes beyond values that are known to be impossible.

    Raises:
        UserError: as `rlkit.runs.curves.groups`.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - only those who plot wait for it

    found = groups(runs, x, y, say, returns)
    envs = list(dict.fromkeys(group.env for group in found))
    colours = dict(zip(dict.fromkeys(group.label for group in found), cycle(COLOURS)))
    columns = min(2, len(envs))
    rows = -(-len(envs) // columns)
    with _style():
        drawn = Figure(figsize=(8, 4 if rows == 1 else 3 * rows), dpi=100, layout="constrained")
        panels = drawn.subplots(rows, columns, squeeze=False).ravel()
        for panel, env in zip(panels, envs, strict=False):
            mine = [group for group in found if group.env == env]
            for group in mine:
                _draw(panel, group, colours[group.label])
            _finish(panel, mine, x, y)
        for panel in panels[len(envs) :]:
            panel.remove()
        _legend(drawn, found, colours)
        if title:
            drawn.suptitle(title, x=0.01, ha="left", fontsize=11)
    return drawn


def convergence(
    errors: Mapping[str, Curve], regrets: Mapping[str, Curve], path: Path, *, title: str | None = None
) -> Path:
    """Draw how solvers and learners come near the optimum, and write a .png or .svg, whole or not at all.

    Args:
        errors: for each solver its largest |V - V*| over iterations, on a logarithmic axis that ends at FLOOR.
        regrets: for each learner what its greedy policy loses at the start, over env steps.
        path: the file.
        title: above the panels.

    Returns:
        The path.

    Raises:
        UserError: another ending, or a folder that cannot be written to.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - only those who plot wait for it

    with _style():
        panels = [kind for kind, curves in ((_errors, errors), (_regrets, regrets)) if curves]
        drawn = Figure(figsize=(5 + 3.5 * (len(panels) > 1), 4), dpi=100, layout="constrained")
        colours = dict(zip([*errors, *regrets], cycle(COLOURS)))
        for panel, draw in zip(drawn.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False):
            draw(panel, errors if draw is _errors else regrets, colours)
        drawn.legend(loc="outside lower left", ncols=2 + (len(panels) > 1))
        if title:
            drawn.suptitle(title, x=0.01, ha="left", fontsize=11)
    return save_figure(drawn, path)


def save_figure(drawn: Figure, path: Path) -> Path:
    """Write a figure as .png or .svg, whole or not at all; the same figure gives the same bytes."""
    check_output(path, ".png", ".svg")
    kind, content = path.suffix.lower()[1:], io.BytesIO()
    with _style():
        drawn.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _errors(panel: Axes, curves: Mapping[str, Curve], colours: Mapping[str, str]) -> None:
    for name, curve in curves.items():
        shown = np.maximum(np.where(np.isfinite(curve.y), curve.y, np.nan), FLOOR)
        marker = "o" if len(curve.x) == 1 else None
        panel.plot(
            np.maximum(curve.x, 1), shown, color=colours[name], linewidth=1.8, marker=marker, markersize=4, label=name
        )
    panel.set_yscale("log")
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(_number)
    panel.set_title("solvers")
    panel.set_xlabel("iterations")
    panel.set_ylabel("largest |V - V*|")


def _regrets(panel: Axes, curves: Mapping[str, Curve], colours: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    for name, curve in curves.items():
        shown = np.where(np.isfinite(curve.y), curve.y, np.nan)
        marker = "o" if len(curve.x) == 1 else None
        panel.plot(curve.x, shown, color=colours[name], linewidth=1.8, marker=marker, markersize=4, label=name)
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    panel.xaxis.set_major_formatter(_number)
    panel.yaxis.set_major_formatter(_number)
    panel.set_title("learners")
    panel.set_xlabel("env steps")
    panel.set_ylabel("regret of the greedy policy at the start")


def _draw(panel: Axes, group: Group, colour: str) -> None:
    mean = group.mean
    if 1 < len(group.curves) <= FEW or not len(mean.x):
        for curve in group.curves.values():
            panel.plot(*curve, color=colour, linewidth=0.7, alpha=0.4, clip_on=False)
            if len(mean.x) and curve.x[-1] < mean.x[-1]:
                panel.plot(curve.x[-1:], curve.y[-1:], ".", color=colour, markersize=5, alpha=0.7)
    if not len(mean.x):
        return
    if not np.isnan(group.low).all():
        panel.fill_between(mean.x, group.low, group.high, color=colour, alpha=0.18, linewidth=0)
    ends = mean.x <= group.held_from
    held = mean.x >= mean.x[ends][-1]
    marker = "o" if len(mean.x) == 1 else None
    panel.plot(mean.x[ends], mean.y[ends], color=colour, linewidth=2, marker=marker, clip_on=False)
    if held.sum() > 1:
        panel.plot(mean.x[held], mean.y[held], color=colour, linewidth=2, linestyle=HELD, clip_on=False)


def _finish(panel: Axes, mine: Sequence[Group], x: str, y: str) -> None:
    """Limits from the lines, as a band of few seeds can be far wider, and what is possible; the solving return."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    lines = [np.asarray(line.get_ydata(), np.float64) for line in panel.get_lines()]
    low, high = float(min(map(np.min, lines))), float(max(map(np.max, lines)))
    threshold = _threshold(mine[0].env) if y in RETURNS else None
    if threshold is not None:
        panel.axhline(threshold, color="#606060", linewidth=0.8, linestyle=(0, (6, 4)), zorder=1)
        panel.annotate(
            f"solved\nat {_number(threshold)}",
            (1, threshold),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#606060",
        )
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.05 * (high - low) or 1.0
    least, most = min(group.possible[0] for group in mine), max(group.possible[1] for group in mine)
    bottom, top = max(low - margin, min(least, low)), min(high + margin, max(most, high))
    panel.set_ylim(bottom, top if top > bottom else bottom + margin)
    panel.set_xlim(0, 1.01 * max(curve.x[-1] for group in mine for curve in group.curves.values()) or 1.0)
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    panel.xaxis.set_major_formatter(_number)
    panel.yaxis.set_major_formatter(_number)
    panel.set_title(mine[0].env)
    panel.set_xlabel("updates" if x == "steps" and mine[0].verb == "fit" else NAMES.get(x, x))
    panel.set_ylabel(NAMES.get(y, y.replace("_", " ")))


def _legend(drawn: Figure, found: Sequence[Group], colours: dict[str, str]) -> None:
    """Below the panels, never over the data."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles: list[Line2D | Patch] = []
    for label, colour in colours.items():
        mine = [group for group in found if group.label == label]
        handles.append(Line2D([], [], color=colour, linewidth=2, label=f"{label}, {_seeds(mine)}"))
    if any(not np.isnan(group.low).all() for group in found):
        handles.append(Patch(color="#606060", alpha=0.25, linewidth=0, label="95% interval of the mean"))
    if any(np.isfinite(group.held_from) for group in found):
        label = "mean with solved seeds at their last value"
        handles.append(Line2D([], [], color="#606060", linewidth=2, linestyle=HELD, label=label))
    widths = [len(str(handle.get_label())) + 7 for handle in handles]
    columns = len(handles) if sum(widths) <= LETTERS else max(1, LETTERS // max(widths))
    drawn.legend(handles=handles, loc="outside lower left", ncols=columns)


def _seeds(mine: Sequence[Group]) -> str:
    """How many seeds, or which one."""
    counts = [len(group.curves) for group in mine]
    if max(counts) == 1:
        seeds = dict.fromkeys(seed for group in mine for seed in group.curves)
        return f"seed {', '.join(map(str, seeds))}"
    low, high = min(counts), max(counts)
    return f"mean of {high} seeds" if low == high else f"mean of {low} to {high} seeds"


def _threshold(env: str) -> float | None:
    """The mean return at which Gymnasium calls an env solved; None where it says nothing."""
    try:
        return gymnasium.spec(env).reward_threshold
    except (gymnasium.error.Error, ImportError):
        return None


def _number(value: float, _: object = None) -> str:
    return f"{value:,.10g}"


def _style() -> AbstractContextManager[None]:
    """The same look whatever matplotlibrc says."""
    from matplotlib import style  # noqa: PLC0415

    return style.context(["default", STYLE])
