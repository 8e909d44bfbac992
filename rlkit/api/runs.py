"""Runs of any kind, by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlkit.api import agent_run, fitting, training
from rlkit.api.agent_run import Run
from rlkit.api.fitting import FitRun
from rlkit.reporting import Say, silent
from rlkit.runs import run_directory


def load(path: str | Path, say: Say = silent, *, trust: bool = False) -> Run | FitRun:
    """The run at a path, or the newest one below it that has a checkpoint.

    Args:
        path: the run's folder, or one that holds runs.
        say: told what a person may want to know.
        trust: import the code that the config of a run of another's names.

    Raises:
        UserError: there is no such run, or it is another's, is not to be trusted and its config names code.
    """
    directory = run_directory.find(path, run_directory.untrained, say=say)
    if directory.verb == "fit":
        return fitting.load(directory.path, say)
    return agent_run.load(directory.path, say, trust=trust)


def resume(path: str | Path, **options: Any) -> Run | FitRun:  # noqa: ANN401 - as those of either kind
    """Continue a run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        **options: `steps`, `say`, `progress` and `trust`, as `training.resume` takes them.

    Raises:
        UserError: the path is no run, the run is in use, finished, or has no checkpoint that can be read.
    """
    directory = run_directory.find(path, run_directory.untrained, say=options.get("say", silent), begun=True)
    if directory.verb == "fit":
        options.pop("trust", None)  # its config names no code
        return fitting.resume(directory.path, **options)
    return training.resume(directory.path, **options)
