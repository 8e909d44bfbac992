"""Runs of any kind, by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlkit import run
from rlkit.experiments import fitting, training
from rlkit.experiments.fitting import FitRun
from rlkit.experiments.saying import Say, silent
from rlkit.experiments.training import Run


def load(path: str | Path, say: Say = silent) -> Run | FitRun:
    """The run at a path, or the newest one below it that has a checkpoint; UserError where there is none."""
    directory = run.find(path, run.untrained, say=say)
    return fitting.load(directory.path) if directory.verb == "fit" else training.load(directory.path)


def resume(path: str | Path, **options: Any) -> Run | FitRun:  # noqa: ANN401 - as those of either kind
    """Continue a run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        **options: `steps`, `say` and `progress`, as `training.resume` and `fitting.resume` take them.

    Raises:
        UserError: the path is no run, the run is in use, finished, or has no checkpoint that can be read.
    """
    directory = run.find(path, run.untrained, say=options.get("say", silent))
    if directory.verb == "fit":
        return fitting.resume(directory.path, **options)
    return training.resume(directory.path, **options)
