"""Checkpoints from which a run continues bit for bit, and that survive being cut short, or damaged.

TensorFlow keeps the agent and the loop's counters, in files numbered by step, and the replay's rows are beside them in
segments. Last comes a manifest with the digests of all of them, and of what belongs to the checkpoint elsewhere in the
run: without it, or where a digest does not hold, a checkpoint is passed over for the one before it.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import tensorflow as tf

from rlkit.errors import UserError, WriteError
from rlkit.files import numbers, reason, steps_in
from rlkit.runs import digests
from rlkit.runs.digests import Digest, Manifest
from rlkit.runs.disk import with_room
from rlkit.runs.segments import UNREADABLE, Replay, Segments, pack, unpack
from rlkit.spaces import Arrays


class _State(tf.train.experimental.PythonState):
    """Named arrays that ride in a TensorFlow checkpoint as one string, guarded by its checksum."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}

    def serialize(self) -> bytes:
        return pack(self.arrays)

    def deserialize(self, string_value: bytes) -> None:
        self.arrays = unpack(io.BytesIO(string_value))


@dataclass
class _Faults:
    """All that is wrong with a checkpoint, a text for each thing."""

    manifest: Manifest | None = None
    vital: list[str] = field(default_factory=list)
    """Faults of what it cannot be restored without."""
    lost: dict[str, str] = field(default_factory=dict)
    """Faults of what it can: by "digests", "best", a segment's name or that of a file of rows."""

    @property
    def text(self) -> str:
        return "; ".join([*self.vital, *self.lost.values()])


class Checkpointer:
    """Saves and restores a run: its agent, its loop's state and its replay.

    Nothing that an older checkpoint needs is deleted before the next one is whole. A best agent stays until neither a
    checkpoint that is kept nor the best agent after it has it as theirs.

    Args:
        directory: where the checkpoints are, in the run's folder.
        agent: a module with all of its variables built.
        replay: the buffer, or None to restore the agent alone.
        keep: how many of the newest to keep.
    """

    def __init__(self, directory: Path, agent: tf.Module, replay: Replay | None = None, keep: int = 3) -> None:
        self.directory, self.replay, self.keep = directory, replay, keep
        self.segments = Segments(directory, replay) if replay is not None else None
        self._state = _State()
        self._checkpoint = tf.train.Checkpoint(agent=agent, state=self._state)
        self._weights = tf.train.Checkpoint(agent=agent)
        for checkpoint in (self._checkpoint, self._weights):
            assert checkpoint.save_counter is not None, "made here, since it is a part of all checkpoints"
        parts = tf.train.TrackableView(agent).descendants()
        self._variables = [part for part in parts if isinstance(part, tf.Variable)]
        self.nbytes = sum(variable.shape.num_elements() * variable.dtype.size for variable in self._variables)
        """Of the agent in one checkpoint."""
        self.texts: dict[str, str] = {}
        """The run's files of `digests.TEXTS`, which each checkpoint keeps a copy of."""
        self.manifest: Manifest | None = None
        """The newest checkpoint's."""
        self.lost: list[str] = []
        """Sentences on what was damaged of the checkpoint that was restored."""
        self.best_lost = False
        """Whether its best agent was damaged."""
        self.best_score: float | None = None
        """The score of the best agent before, which then counts; None where there is none."""
        self._manifests: dict[int, Manifest] = {}
        self._bests: tuple[int, ...] = ()
        self._best: tuple[int, float | None, list[tf.Tensor]] | None = None

    def move(self, directory: Path) -> None:
        """Go on in another place, to which the folder was renamed."""
        self.directory = directory
        if self.segments:
            self.segments.directory = directory

    def save(self, step: int, state: Arrays) -> None:
        """Write the best agent, if there is a new one, and the checkpoint of this step.

        What was kept before stays until its successor is whole.

        Raises:
            UserError: the files cannot be written.
        """
        self.write_best()
        size = self.nbytes + sum(array.nbytes for array in state.values())
        try:
            self.directory.mkdir(parents=not self._manifests, exist_ok=True)  # a run's folder that is gone stays so
            if self.segments:
                size += self.segments.write(step)
            self._state.arrays = state
            files = self._write(self._checkpoint, self.directory, step)
            if self.segments:
                files |= self.segments.needed(step)
            rows = digests.rows_in(self.directory.parent)
            manifest = Manifest(step, files, rows, self.texts, self._bests)
            manifest.write(self.directory)
        except (tf.errors.OpError, OSError) as error:
            raise self._unwritten(f"the checkpoint of step {step}", size, error, self.directory, step) from error
        self.manifest, self._manifests[step] = manifest, manifest
        if self.segments:
            self.segments.written()
        try:
            self._prune(step)
        except OSError as error:
            told = f"older checkpoints cannot be removed from {self.directory} ({reason(error)})"
            raise WriteError(f"{told}; the last good checkpoint is of step {step}") from error

    def _write(self, checkpoint: tf.train.Checkpoint, folder: Path, step: int) -> dict[str, Digest]:
        """Write TensorFlow's part of a step's checkpoint; the digests of its files."""
        folder.mkdir(exist_ok=True)
        for path in (digests.path(folder, step), *digests.parts(folder, step)):
            if path.is_dir():  # which nothing could be written over
                digests.remove(path)
        checkpoint.write(str(folder / f"ckpt-{step}"))
        return {path.name: digests.of_file(path) for path in digests.parts(folder, step)}

    def _prune(self, step: int) -> None:
        """Delete what neither the newest checkpoints nor the best agents need, now that one of a step is whole."""
        steps = sorted({*steps_in(self.directory), *digests.steps(self.directory)})
        for gone in steps[: -self.keep]:
            self._remove(self.directory, gone)
        kept = steps[-self.keep :]
        self._manifests = {at: self._manifests[at] for at in kept if at in self._manifests}
        best, needed = self.directory / "best", {*self._bests}.union(*(m.bests for m in self._manifests.values()))
        for gone in {*steps_in(best), *digests.steps(best)} - needed:
            if gone <= step:  # a later one may come again: this run has been resumed from before it
                self._remove(best, gone)
        if self.segments:
            self.segments.prune(kept[0])
        _list(self.directory, kept)
        if best.is_dir():
            _list(best, sorted(steps_in(best)))

    @staticmethod
    def _remove(folder: Path, step: int) -> None:
        for path in (digests.path(folder, step), *digests.parts(folder, step)):
            digests.remove(path)

    def amend(self, texts: Mapping[str, str]) -> None:
        """Keep these texts with the newest checkpoint, and with those to come."""
        self.texts = dict(texts)
        if self.manifest is not None and self.manifest.texts != self.texts:
            self.manifest = replace(self.manifest, texts=self.texts)
            self.manifest.write(self.directory)

    def _unwritten(self, what: str, size: int, error: Exception, folder: Path, step: int) -> WriteError:
        """The error for a step's checkpoint, of a size in bytes, that cannot be written; what was of it is removed."""
        with suppress(OSError):
            for part in folder.glob("*_temp*"):
                shutil.rmtree(part, ignore_errors=True)
            self._remove(folder, step)
            if self.segments and folder == self.directory:
                self.segments.remove(step)
        why = with_room(reason(error), self.directory, size)
        kept = next(iter(digests.whole_steps(self.directory)), None)
        last = "there is no checkpoint yet" if kept is None else f"the last good checkpoint is of step {kept}"
        return WriteError(f"{what} cannot be written to {self.directory} ({why}); {last}")

    def keep_best(self, step: int, score: float | None = None) -> None:
        """Remember the agent of this step, by its score, as the best in place of the one before, for `write_best`."""
        self._best = step, score, [tf.identity(variable) for variable in self._variables]

    def write_best(self) -> None:
        """Write the best agent if it is newer than what is there; the one before it stays.

        Raises:
            UserError: the files cannot be written.
        """
        if self._best is None:
            return
        (step, score, best), folder = self._best, self.directory / "best"
        now = [tf.identity(variable) for variable in self._variables]
        self._assign(best)
        try:
            self.directory.mkdir(parents=not self._manifests, exist_ok=True)  # a run's folder that is gone stays so
            files = self._write(self._weights, folder, step)
            Manifest(step, files, score=score).write(folder)
        except (tf.errors.OpError, OSError) as error:
            raise self._unwritten(f"the best agent, of step {step},", self.nbytes, error, folder, step) from error
        finally:
            self._assign(now)
        self._bests = (*(before for before in self._bests[-1:] if before != step), step)
        self._best = None

    def _assign(self, values: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def restore(self, report: Callable[[str], None]) -> tuple[int, Arrays]:
        """Load the newest checkpoint of which nothing is damaged, and drop any after it.

        Where there is none, the newest of which only what the run can go on without is damaged: an older segment of the
        replay, the best agent, rows of metrics, or the digests themselves.

        Args:
            report: called with a sentence for each checkpoint that was passed over, and for all that is lost.

        Returns:
            Its step, and the state that was saved.

        Raises:
            UserError: there is none.
        """
        steps, faults = self._steps(), dict[int, _Faults]()
        for partial in (False, True):
            for step in steps:
                found = faults[step] if partial else faults.setdefault(step, self._examine(step))
                if found.vital or (found.lost and not partial):
                    continue
                try:
                    self._load(step, found)
                except UNREADABLE as error:
                    found.vital.append(reason(error))
                    continue
                if partial or not found.lost:
                    self._settle(step, faults, report)
                    return step, self._state.arrays
        if not steps:
            raise UserError(f"there is no checkpoint in {self.directory}")
        told = f"the one of step {steps[0]}: {faults[steps[0]].text}"
        raise UserError(f"none of the {len(steps)} checkpoints in {self.directory} can be read; {told}")

    def _steps(self) -> list[int]:
        """The steps of all checkpoints of which there is anything, newest first."""
        return sorted({*steps_in(self.directory), *digests.steps(self.directory)}, reverse=True)

    def _examine(self, step: int) -> _Faults:
        """All that is wrong with a step's checkpoint but for older segments of its replay."""
        run, found = self.directory.parent, _Faults()
        try:
            found.manifest = manifest = Manifest.read(self.directory, step)
        except (OSError, ValueError) as error:
            if digests.steps(self.directory):  # else it is of a version of old
                name = digests.path(self.directory, step).name
                found.lost["digests"] = f"{name} is missing" if isinstance(error, OSError) else str(error)
            return found
        found.vital += digests.faults(self.directory, manifest)
        for name, digest in manifest.rows.items():
            if wrong := digests.fault(run / name, digest, grows=True):
                found.lost[name] = wrong
        if manifest.bests and (wrong := digests.best_fault(self.directory, manifest.bests[-1])):
            found.lost["best"] = wrong
        return found

    def _load(self, step: int, found: _Faults) -> None:
        """Put the agent, the state and the replay to a step's; what is damaged of older segments is added."""
        self._checkpoint.restore(str(self.directory / f"ckpt-{step}")).assert_consumed()
        if self.segments:
            files = found.manifest.files if found.manifest else {}
            known = {name: made for name, made in files.items() if name.startswith("replay-")}
            found.lost |= self.segments.load(step, known)

    def _settle(self, step: int, faults: Mapping[int, _Faults], report: Callable[[str], None]) -> None:
        """Tell what was found, and go on from a step."""
        later, found = [other for other in self._steps() if other > step], faults[step]
        for other in later:
            report(f"the checkpoint of step {other} is damaged and passed over ({faults[other].text})")
        self.manifest, self._manifests = found.manifest, self._read(step)
        self.lost = [*self._settle_best(step, found), *self._losses(step, found)]
        for text in self.lost:
            report(text)
        for other in {*later, *(n for n in numbers(self.directory, r"ckpt-(\d+)\..*") if n > step)}:
            self._remove(self.directory, other)
        for folder in (self.directory, self.directory / "best"):
            for part in folder.glob("*_temp*"):  # of a process that was killed
                digests.remove(part)
        if self.segments:
            self.segments.remove_after(step)
        _list(self.directory, sorted(steps_in(self.directory)))

    def _read(self, last: int) -> dict[int, Manifest]:
        """The manifests of steps up to the last that are not damaged."""
        read = {}
        for step in digests.steps(self.directory):
            with suppress(OSError, ValueError):
                if step <= last:
                    read[step] = Manifest.read(self.directory, step)
        return read

    def _settle_best(self, step: int, found: _Faults) -> list[str]:
        """Know the best agent as of a step again, or the one before where it was lost; sentences on that."""
        best = self.directory / "best"
        there = sorted(other for other in steps_in(best) if other <= step)
        self._bests = found.manifest.bests if found.manifest else tuple(there[-2:])
        if self._bests and not digests.steps(best):  # of a version of old
            files = {path.name: digests.of_file(path) for path in digests.parts(best, self._bests[-1])}
            Manifest(self._bests[-1], files).write(best)
        elif not found.manifest and self._bests and (wrong := digests.best_fault(self.directory, self._bests[-1])):
            found.lost["best"] = wrong
        if "best" not in found.lost:
            return []
        (*before, lost), self.best_lost, then = self._bests, True, "the next evaluation's counts in its place"
        if before and not digests.best_fault(self.directory, before[-1]):
            self._bests = tuple(before)
            self.best_score = Manifest.read(best, before[-1]).score
            then = f"the one before it, of step {before[-1]}, counts in its place"
        return [f"the best agent, of step {lost}, is damaged ({found.lost['best']}): {then}"]

    def _losses(self, step: int, found: _Faults) -> list[str]:
        """Sentences on the rest of what is lost, but for rows of metrics, which are told as these are cut."""
        told, lost = [], dict(found.lost)
        lost.pop("best", None)
        if text := lost.pop("digests", None):
            told.append(
                f"the digests of the checkpoint of step {step} are damaged ({text}): TensorFlow's checksums hold"
            )
        segments = [text for name, text in lost.items() if name not in digests.ROWS]
        if segments and self.replay is not None:
            first, last = self.replay.gap()
            told.append(
                f"a part of the replay is damaged ({'; '.join(segments)}): no draw takes what each env stored as its "
                f"rows {max(first, 0):,} to {last - 1:,}"
            )
        return told

    def restore_agent(self, which: str = "best") -> int:
        """Load the agent alone: "best", "last" or a step's number; best is the last where none was ever kept.

        Returns:
            The step that it was saved at.

        Raises:
            UserError: there is no such checkpoint, or it is damaged or of another model.
        """
        which = str(which)  # a step's number may be given as one
        bests, steps = digests.best_steps(self.directory), self._steps()
        if not steps and not bests:
            raise UserError(f"there is no checkpoint in {self.directory}")
        best = self.directory / "best"
        known = {str(step): (best, step) for step in bests} | {str(step): (self.directory, step) for step in steps}
        if steps:
            known["last"] = self.directory, steps[0]
        known["best"] = (best, bests[0]) if bests else known["last"]
        if which not in known:
            there = ", ".join(["best", "last", *map(str, sorted(steps))])
            raise UserError(f"there is no checkpoint {which!r} in {self.directory}: there is {there}")
        folder, step = known[which]
        wrong = self._agent_fault(folder, step)
        if wrong is None:
            try:
                status = self._weights.restore(str(folder / f"ckpt-{step}"))
                status.assert_existing_objects_matched().expect_partial()
            except UNREADABLE:
                wrong = "it cannot be read"
            else:
                return step
        others = [name for name, place in known.items() if place != known[which] and not self._agent_fault(*place)]
        raise UserError(
            f"the checkpoint {which!r}, of step {step}, in {self.directory} is damaged or of another model ({wrong}): "
            f"try another with --checkpoint: {', '.join(others) or 'there is none'}"
        )

    @staticmethod
    def _agent_fault(folder: Path, step: int) -> str | None:
        """The fault of TensorFlow's part of a checkpoint; None also for one of a version of old."""
        if not digests.steps(folder):
            return None
        try:
            manifest = Manifest.read(folder, step)
        except ValueError as error:
            return str(error)
        except OSError:
            return f"{digests.path(folder, step).name} is missing"
        return next(iter(digests.faults(folder, manifest)), None)


def _list(folder: Path, steps: Sequence[int]) -> None:
    """Write the steps of a folder's checkpoints where TensorFlow looks for the latest."""
    if not steps:
        return
    prefixes = [str(folder / f"ckpt-{step}") for step in steps]
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel("ERROR")  # TensorFlow would rather have a manager, which cannot forget what is damaged
    try:
        with suppress(tf.errors.OpError):  # which costs nothing that is needed to go on
            tf.compat.v1.train.update_checkpoint_state(str(folder), prefixes[-1], prefixes)
    finally:
        logger.setLevel(level)
