"""What runs have written over time, and what several seeds of one experiment say together."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rlkit.errors import UserError, unknown
from rlkit.files import MOST_DATA, read_text
from rlkit.intervals import interval
from rlkit.runs.observers import FIT_EVALUATIONS, FIT_METRICS, METRICS
from rlkit.runs.run_directory import ENDED, RunDirectory

Returns = Callable[[str, Mapping[str, Any]], tuple[float, float]]
"""From an env and its arguments to the least and the largest return of an episode, infinite where not known."""

AXES = ("steps", "seconds")
"""What a curve can run over: env steps, or seconds of training without pauses."""

RETURNS = ("evaluation", "episode_return")
"""What is a return."""

HELD = (*RETURNS, "regret")
"""What a solved run can be held at: its last value, as it would go on at least as well."""

EVALUATED = {"evaluation": "mean", "regret": "regret"} | {f"test_{name}": name for name in FIT_EVALUATIONS[1:]}
"""What comes from evaluations.csv, and its column there; all else is a column of metrics.csv."""

MEASURED = tuple(dict.fromkeys((*EVALUATED, *METRICS[1:], *FIT_METRICS[1:])))
"""Whatever can be plotted, though no run has all of it."""

MAIN = ("evaluation", "test_perplexity", "test_accuracy", "test_loss", "episode_return", "loss")
"""What says most about a run, the first that it has."""

SAME = {
    "seed",
    "steps",
    "target_return",
    "eval_interval",
    "eval_episodes",
    "final_episodes",
    "log_interval",
    "checkpoint_interval",
    "keep_checkpoints",
    "profile",
    "epochs",
    "patience",
    "target_accuracy",
}
"""Fields of a config in which the runs of one experiment may differ."""

NAMED = 3
"""Most fields that a label names."""

POSSIBLE = {
    "regret": (0.0, math.inf),
    "test_loss": (0.0, math.inf),
    "test_accuracy": (0.0, 1.0),
    "test_perplexity": (1.0, math.inf),
    "test_mean_absolute_error": (0.0, math.inf),
    "accuracy": (0.0, 1.0),
    "episode_length": (1.0, math.inf),
}
"""The least and the most that quantities other than returns can be."""

BANDED = 3
"""Fewest seeds whose interval is worth a band: that of two is nine times as wide as they are apart."""

POINTS = 500
"""Most points of a mean."""


class Curve(NamedTuple):
    """A quantity over steps or seconds, both [T]."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Group:
    """The seeds of one experiment."""

    env: str
    label: str
    """The agent, and the fields of its config that tell it from the other groups of this env."""

    curves: Mapping[int, Curve]
    """By seed."""

    mean: Curve
    """Mean over the seeds where each has a value, by linear interpolation."""

    low: np.ndarray
    """[T], lower end of the mean's 95% interval, cut off at `possible`; NaN with under three seeds."""

    high: np.ndarray
    """[T], its upper end."""

    verb: str
    """What made the runs: a step of "train" is an env step, one of "fit" an update."""

    held_from: float
    """Where in x the first solved run ended, whose last value stands for it from there; infinity for none."""

    possible: tuple[float, float]
    """The least and the most that a value can be; infinite where not known."""


def groups(
    runs: Sequence[RunDirectory],
    x: str = "steps",
    y: str = "evaluation",
    say: Callable[[str], None] | None = None,
    returns: Returns | None = None,
) -> list[Group]:
    """Runs that differ in their seed alone, together; of several with one seed one counts, see `chosen`.

    A run that solved its env has stopped early: where y is a return or the regret, its last value stands for it up
    to the end of the longest run of its group. All other runs count as far as they came, and the mean ends where
    the first of them does. Runs without any value are left out.

    The interval is that of `rlkit.intervals.interval` over seeds, cut off at values that are known to be impossible:
    what is cut off cannot hold the mean.

    Args:
        runs: in the order in which their groups come.
        x: "steps" or "seconds".
        y: "evaluation", the mean return of greedy episodes; "regret", what their policy loses on the optimal one,
            where the env's model is known; "test_loss" and the like of a supervised run's held-out data; or a column
            of metrics.csv.
        say: told which runs are left out for another one of their seed.
        returns: from an env and its arguments to the least and the largest return of its episodes, as far as known.

    Raises:
        UserError: an unknown x or y, a file that cannot be read, or no value in any run.
    """
    if x not in AXES:
        raise unknown("x", x, AXES)
    if y not in MEASURED:
        raise unknown("y", y, MEASURED)
    with_values = [run for run in runs if len(curve(run, x, y).x)]
    if not with_values:
        raise UserError(_nothing(runs, y))
    return [_group(runs, label, x, y, _possible(runs[0], y, returns)) for label, runs in experiments(with_values, say)]


def experiments(
    runs: Sequence[RunDirectory], say: Callable[[str], None] | None = None
) -> list[tuple[str, list[RunDirectory]]]:
    """Runs that differ in their seed alone, together, one for each seed as `chosen`, after what tells them from others.

    Args:
        runs: in the order in which the experiments come.
        say: as `chosen` takes it.
    """
    found: dict[str, list[RunDirectory]] = {}
    for run in chosen(runs, say):
        found.setdefault(_experiment(run), []).append(run)
    members = list(found.values())
    return list(zip(_labels(members), members, strict=True))


def chosen(runs: Sequence[RunDirectory], say: Callable[[str], None] | None = None) -> list[RunDirectory]:
    """One run for each seed of an experiment: of several the last given that came to its end, or else the last.

    Args:
        runs: in any order.
        say: told which are left out, and for which.
    """
    kept: dict[tuple[str, int], RunDirectory] = {}
    for run in runs:
        key = _experiment(run), int(run.info["seed"])
        before = kept.get(key)
        if before is None or before.path == run.path:
            kept[key] = run
            continue
        stays = before.info["status"] in ENDED and run.info["status"] not in ENDED
        kept[key], left = (before, run) if stays else (run, before)
        if say:
            say(f"seed {key[1]}: {left.path}, {left.status}, is left out for {kept[key].path}, {kept[key].status}")
    return list(kept.values())


def curve(run: RunDirectory, x: str, y: str) -> Curve:
    """One run's values, without rows that have none."""
    name, column = ("evaluations.csv", EVALUATED[y]) if y in EVALUATED else ("metrics.csv", y)
    steps, values = columns(run, name, column)
    if x == "seconds":
        known, seconds = columns(run, "timing.csv", "seconds")
        steps = np.interp(steps, [0, *known], [0, *seconds])
    return Curve(steps, values)


def columns(run: RunDirectory, name: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and values of one column of a run's file; a line that is half-written is left out."""
    path = run.path / name
    try:
        lines = read_text(path, MOST_DATA).splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))
        pairs = [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
        pairs = [pair for pair in pairs if math.isfinite(pair[1])]
        if any(not 0 <= step < 2**63 for step, _ in pairs):
            raise ValueError("a step is no whole number")
    except FileNotFoundError:
        pairs = []
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    steps, values = np.array(pairs, np.float64).reshape(-1, 2).T
    return steps, values


def _possible(run: RunDirectory, y: str, returns: Returns | None) -> tuple[float, float]:
    if y in RETURNS and returns:
        return returns(run.env, run.config().get("env_args", {}))
    return POSSIBLE.get(y, (-math.inf, math.inf))


def _group(runs: Sequence[RunDirectory], label: str, x: str, y: str, possible: tuple[float, float]) -> Group:
    curves = {int(run.info["seed"]): curve(run, x, y) for run in runs}
    solved = {int(r.info["seed"]) for r in runs if r.info["status"] == "solved" and y in HELD}
    ends = {seed: float(c.x[-1]) for seed, c in curves.items()}
    first = max(float(c.x[0]) for c in curves.values())
    last = min((end for seed, end in ends.items() if seed not in solved), default=max(ends.values()))
    grid = np.unique(np.concatenate([c.x for c in curves.values()]))
    grid = grid[(grid >= first) & (grid <= last)]
    if len(grid) > POINTS:
        grid = np.linspace(first, last, POINTS)
    values = np.array([np.interp(grid, c.x, c.y) for c in curves.values()])
    held = min((ends[seed] for seed in solved if ends[seed] < last), default=np.inf)
    mean, (low, high) = values.mean(axis=0), interval(values)
    if len(runs) < BANDED:
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    low, high = (np.clip(end, np.minimum(possible[0], mean), np.maximum(possible[1], mean)) for end in (low, high))
    return Group(runs[0].env, label, curves, Curve(grid, mean), low, high, runs[0].verb, held, possible)


def _experiment(run: RunDirectory) -> str:
    return json.dumps([run.env, run.agent, _fields(run)], sort_keys=True, default=str)


def _fields(run: RunDirectory) -> dict[str, Any]:
    return {name: value for name, value in run.config().items() if name not in SAME}


def _labels(members: Sequence[Sequence[RunDirectory]]) -> list[str]:
    """The agent of each group and, where its env has several of it, the first fields in which they differ."""
    labels: list[str] = []
    taken: Counter[tuple[str, str]] = Counter()
    for runs in members:
        env, agent, mine = runs[0].env, runs[0].agent, _fields(runs[0])
        others = [_fields(g[0]) for g in members if (g[0].env, g[0].agent) == (env, agent)]
        differ = [name for name in mine if any(other.get(name) != mine[name] for other in others)]
        said = [f"{name}={json.dumps(mine[name], default=str)}" for name in differ[:NAMED]]
        if len(differ) > NAMED:
            said.append(f"{len(differ) - NAMED} more")
        label = f"{agent} {', '.join(said)}".strip()
        taken[env, label] += 1
        labels.append(label if taken[env, label] == 1 else f"{label} ({taken[env, label]})")
    return labels


def _nothing(runs: Sequence[RunDirectory], y: str) -> str:
    if not runs:
        return "there is no run to plot"
    who = f"run {runs[0].path} has" if len(runs) == 1 else f"the {len(runs)} runs have"
    return f"{who} no {y.replace('_', ' ')} yet"
