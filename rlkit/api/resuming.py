"""How a run of any kind goes on from its newest good checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlkit.devices import onednn, threads
from rlkit.errors import UserError
from rlkit.files import read_text
from rlkit.loops.base import Loop
from rlkit.reporting import Say
from rlkit.runs import run_directory
from rlkit.runs.digests import TEXTS
from rlkit.runs.observers import CsvObserver
from rlkit.runs.run_directory import RunDirectory


def check_unfinished(directory: RunDirectory, steps: int, *, given: bool) -> None:
    """Refuse a run that has come to its end.

    Args:
        directory: of the run.
        steps: to train for.
        given: whether they were asked for, beyond those of its config.

    Raises:
        UserError: there is nothing left to do.
    """
    at, ended = directory.info["step"], directory.info["status"] in ("solved", "stopped")
    if at >= steps or (ended and not given):
        raise UserError(
            f"run {directory.path} is {directory.status} at step {at}: "
            f"--steps is the total, give more than {at} to go on"
        )


def go_on(loop: Loop, directory: RunDirectory, config: Mapping[str, Any], say: Say) -> None:
    """Put a loop where its run is, and the run's files too.

    Args:
        loop: of the run.
        directory: of the run.
        config: to go on with.
        say: told what is damaged, and what is not as it was.

    Raises:
        UserError: there is no checkpoint that can be read.
    """
    if changed := directory.changed(threads=threads(), onednn=onednn()):
        say(f"{changed}: the run may not go on bit for bit")
    checkpointer = loop.checkpointer
    loop.restore(say)
    rows = CsvObserver.cut(directory.path, loop.step, checkpointer.manifest)
    for text in rows:
        say(text)
    if lost := [*checkpointer.lost, *rows]:
        before = list(directory.info.get("lost") or [])
        directory.update(lost=[*before, *(text for text in lost if text not in before)])
        say("the run goes on, but is no longer bit for bit what it would have been")
    checkpointer.amend(texts(directory, config))
    for name in set(checkpointer.texts) - {"config.toml"}:
        run_directory.replace_text(directory.path / name, checkpointer.texts[name])
    directory.write_config(config)
    say(f"resumed at step {loop.step:,}")


def texts(directory: RunDirectory, config: Mapping[str, Any]) -> dict[str, str]:
    """Files of a run that its checkpoints keep copies of, with a config."""
    kept = {name: directory.kept(name) for name in TEXTS}
    there = {name: text for name, text in kept.items() if text is not None}
    for name in set(TEXTS) - set(there):
        if (directory.path / name).is_file():
            there[name] = read_text(directory.path / name)
    return {**there, "config.toml": directory.config_text(config)}
