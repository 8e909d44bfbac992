"""Runs of any kind, by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlkit import run
from rlkit.experiments import fitting, training
from rlkit.experiments.fitting import FitRun
from rlkit.experiments.saying import Say, silent
from rlkit.experiments.training import Run


def load(path: str | Path, say: Say = silent, *, trust: bool = False) -> Run | FitRun:
    """The run at a path, or the newest one below it that has a checkpoint.

    Args:
        path: the run's folder, or one that holds runs.
        say: told what a person may want to know.
        trust: import the code that the config of a run of another's names.

    Raises:
        UserError: there is no such run, or it is another's, is not to be trusted and its config names code.
    """
    directory = run.find(path, run.untrained, say=say)
    if directory.verb == "fit":
        return fitting.load(directory.path, say)
    return training.load(directory.path, say, trust=trust)


def resume(path: str | Path, **options: Any) -> Run | FitRun:  # noqa: ANN401 - as those of either kind
    """Continue a run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        **options: `steps`, `say`, `progress` and `trust`, as `training.resume` takes them.

    Raises:
        UserError: the path is no run, the run is in use, finished, or has no checkpoint that can be read.
    """
    directory = run.find(path, run.untrained, say=options.get("say", silent), begun=True)
    if directory.verb == "fit":
        options.pop("trust", None)  # its config names no code
        return fitting.resume(directory.path, **options)
    return training.resume(directory.path, **options)
