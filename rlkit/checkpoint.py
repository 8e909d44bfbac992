"""Checkpoints from which a run continues bit for bit, and that survive being cut short.

TensorFlow's CheckpointManager keeps the agent and the loop's counters, numbered by step. The replay's rows are
kept beside them in segments, each with the rows since the checkpoint before: saving costs what is new. Every
file is written beside its place and renamed, and a checkpoint that does not read back in full is passed over for
the one before it.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from rlkit.errors import UserError, WriteError
from rlkit.files import numbers, reason, steps_in, write_whole
from rlkit.replay import Replay, size_text
from rlkit.vector import Arrays

UNREADABLE = (
    tf.errors.OpError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    AssertionError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


class _State(tf.train.experimental.PythonState):
    """Named arrays that ride in a TensorFlow checkpoint as one string, guarded by its checksum."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}

    def serialize(self) -> bytes:
        return pack(self.arrays)

    def deserialize(self, string_value: bytes) -> None:
        self.arrays = unpack(io.BytesIO(string_value))


def pack(arrays: Arrays) -> bytes:
    """Arrays as the bytes of an .npz, each with a checksum."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(file: BinaryIO) -> Arrays:
    """The inverse of `pack`."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


class Checkpointer:
    """Saves and restores a run: its agent, its loop's state and its replay.

    Args:
        directory: where the checkpoints are.
        agent: a module with all of its variables built.
        replay: the buffer, or None to restore the agent alone.
        keep: how many of the newest to keep.
    """

    def __init__(self, directory: Path, agent: tf.Module, replay: Replay | None = None, keep: int = 3) -> None:
        self.directory, self.replay, self.keep = directory, replay, keep
        self._state = _State()
        self._checkpoint = tf.train.Checkpoint(agent=agent, state=self._state)
        self._weights = tf.train.Checkpoint(agent=agent)
        self._managers: dict[str, tf.train.CheckpointManager] = {}
        self._saved = np.zeros(replay.num_envs if replay else 0, np.int64)
        parts = tf.train.TrackableView(agent).descendants()
        self._variables = [part for part in parts if isinstance(part, tf.Variable)]
        self.nbytes = sum(variable.shape.num_elements() * variable.dtype.size for variable in self._variables)
        """Of the agent in one checkpoint."""
        self._best: tuple[int, list[tf.Tensor]] | None = None

    def move(self, directory: Path) -> None:
        """Go on in another place, to which the folder was renamed."""
        self.directory = directory
        self._managers.clear()

    def save(self, step: int, state: Arrays) -> None:
        """Write the best agent, if there is a new one, and the checkpoint of this step.

        What was kept before stays until its successor is whole.

        Raises:
            UserError: the files cannot be written.
        """
        self.write_best()
        rows = pack(self.replay.export(self._saved)) if self.replay is not None else b""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if self.replay is not None:
                write_whole(self._segment(step), rows)
            self._state.arrays = state
            self._manager("").save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            size = len(rows) + self.nbytes + sum(array.nbytes for array in state.values())
            raise self._unwritten(f"the checkpoint of step {step}", size, error) from error
        if self.replay is not None:
            self._saved = self.replay.written.copy()
            self._prune()

    def _unwritten(self, what: str, size: int, error: Exception) -> WriteError:
        """The error for something of a size in bytes that cannot be written; the parts that were are removed."""
        for part in self.directory.rglob("*_temp*"):
            shutil.rmtree(part, ignore_errors=True)
        why = reason(error)
        if why == os.strerror(errno.ENOSPC):
            why += f": {size_text(size)} needed, {size_text(shutil.disk_usage(self.directory).free)} free"
        kept = max(steps_in(self.directory), default=None)
        last = "there is no checkpoint yet" if kept is None else f"the last good checkpoint is of step {kept}"
        return WriteError(f"{what} cannot be written to {self.directory} ({why}); {last}")

    def keep_best(self, step: int) -> None:
        """Remember the agent of this step as the best, in place of the one before, for `write_best`."""
        self._best = step, [tf.identity(variable) for variable in self._variables]

    def write_best(self) -> None:
        """Write the best agent if it is newer than what is there.

        Raises:
            UserError: the files cannot be written.
        """
        if self._best is None:
            return
        step, best = self._best
        now = [tf.identity(variable) for variable in self._variables]
        self._assign(best)
        try:
            self._manager("best").save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            raise self._unwritten(f"the best agent, of step {step},", self.nbytes, error) from error
        finally:
            self._assign(now)
        self._best = None

    def _assign(self, values: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def restore(self, report: Callable[[str], None]) -> tuple[int, Arrays]:
        """Load the newest checkpoint that reads back in full, and drop any after it.

        Args:
            report: called with a sentence for each checkpoint that was passed over.

        Returns:
            Its step, and the state that was saved.

        Raises:
            UserError: there is none.
        """
        steps = steps_in(self.directory)
        for step in steps:
            try:
                self._checkpoint.restore(str(self._prefix(step))).assert_consumed()
                if self.replay is not None:
                    self.replay.load(self._segments(step))
                    self._saved = self.replay.written.copy()
            except UNREADABLE as error:
                report(f"the checkpoint of step {step} is damaged and passed over ({reason(error)})")
                continue
            self._drop_after(step)
            return step, self._state.arrays
        damaged = f"none of the {len(steps)} checkpoints in {self.directory} can be read"
        raise UserError(damaged if steps else f"there is no checkpoint in {self.directory}")

    def restore_agent(self, which: str = "best") -> int:
        """Load the agent alone: "best", "last" or a step's number; best is the last where none was kept.

        Returns:
            The step that it was saved at.

        Raises:
            UserError: there is no such checkpoint, or it cannot be read.
        """
        which = str(which)  # a step's number may be given as one
        best, steps = steps_in(self.directory / "best"), steps_in(self.directory)
        if not steps and not best:
            raise UserError(f"there is no checkpoint in {self.directory}")
        if which not in ("best", "last") and which not in map(str, steps):
            there = ", ".join(["best", "last", *map(str, sorted(steps))])
            raise UserError(f"there is no checkpoint {which!r} in {self.directory}: there is {there}")
        if which == "best" and best:
            candidates, folder = best, self.directory / "best"
        else:
            candidates, folder = [int(which)] if which.isdigit() else steps, self.directory
        for step in candidates:
            try:
                status = self._weights.restore(str(folder / f"ckpt-{step}"))
                status.assert_existing_objects_matched().expect_partial()
            except UNREADABLE:
                continue
            return step
        where = f"the checkpoint {which!r} in {self.directory}"
        raise UserError(f"{where} is damaged or of another model: try another with --checkpoint")

    def _manager(self, folder: str) -> tf.train.CheckpointManager:
        if folder not in self._managers:
            checkpoint = self._weights if folder else self._checkpoint
            self._managers[folder] = tf.train.CheckpointManager(
                checkpoint, str(self.directory / folder), max_to_keep=1 if folder else self.keep
            )
        return self._managers[folder]

    def _prefix(self, step: int) -> Path:
        return self.directory / f"ckpt-{step}"

    def _segment(self, step: int) -> Path:
        return self.directory / f"replay-{step}.npz"

    def _segment_steps(self) -> list[int]:
        return sorted(numbers(self.directory, r"replay-(\d+)\.npz"))

    def _segments(self, step: int) -> list[Arrays]:
        """The segments, oldest first, that hold the replay of this step."""
        assert self.replay is not None
        newest = self._read_segment(step)
        needed, found = np.maximum(newest["stop"] - self.replay.rows, 0), [newest]
        for earlier in reversed([s for s in self._segment_steps() if s < step]):
            if (found[0]["start"] <= needed).all():
                break
            found.insert(0, self._read_segment(earlier))
        return found

    def _prune(self) -> None:
        """Delete the segments that no kept checkpoint needs."""
        assert self.replay is not None
        oldest = min(steps_in(self.directory))
        try:
            needed = self._stops(oldest) - self.replay.rows
            stale = [s for s in self._segment_steps() if s < oldest and (self._stops(s) <= needed).all()]
        except UNREADABLE:
            return
        for step in stale:
            self._segment(step).unlink(missing_ok=True)

    def _read_segment(self, step: int) -> Arrays:
        with self._segment(step).open("rb") as file:
            return unpack(file)

    def _stops(self, step: int) -> np.ndarray:
        with self._segment(step).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive["stop"])

    def _drop_after(self, step: int) -> None:
        """Forget checkpoints and segments of later steps: they are damaged or half-written, and come again."""
        for later in [s for s in steps_in(self.directory) if s > step]:
            for file in self.directory.glob(f"ckpt-{later}.*"):
                file.unlink()
        for later in [s for s in self._segment_steps() if s > step]:
            self._segment(later).unlink()
        prefixes = [str(self._prefix(s)) for s in sorted(steps_in(self.directory))]
        logger, level = tf.get_logger(), tf.get_logger().level
        logger.setLevel("ERROR")  # TensorFlow would rather have a manager, which cannot forget what is damaged
        try:
            tf.compat.v1.train.update_checkpoint_state(str(self.directory), prefixes[-1], prefixes)
        finally:
            logger.setLevel(level)
        self._managers.clear()


def check_room(folders: Sequence[Path], each: float, fields: str) -> None:
    """UserError where a disk has less room than checkpoints will take, before there is anything to lose.

    Args:
        folders: of the checkpoints, all on one disk, which may hold some already.
        each: bytes that those of one folder take in the end.
        fields: of the config, that a smaller value of would help.
    """
    there = sum(file.stat().st_size for folder in folders for file in folder.rglob("*"))
    free = shutil.disk_usage(folders[0].parent).free
    if (needed := each * len(folders) - there) > free:
        where = folders[0].parent.parent
        raise UserError(
            f"{os.strerror(errno.ENOSPC)}: checkpoints take up to {size_text(needed)}, and {size_text(free)} are free "
            f"in {where}: make room, take another run_dir or a smaller {fields}"
        )
