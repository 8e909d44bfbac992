"""A replay's rows on disk, in segments, each with the rows since the checkpoint before: saving costs what is new."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import tensorflow as tf

from rlkit import npz
from rlkit.errors import UserError
from rlkit.files import numbers, reason, write_whole
from rlkit.runs import digests
from rlkit.runs.digests import Digest
from rlkit.spaces import Arrays

UNREADABLE = (
    tf.errors.OpError,
    OSError,
    ValueError,
    TypeError,
    UserError,
    LookupError,
    RuntimeError,
    AssertionError,
    SyntaxError,
    MemoryError,
    EOFError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""How TensorFlow and NumPy say that a file is damaged."""


def pack(arrays: Arrays) -> bytes:
    """Arrays as the bytes of an .npz, each with a checksum."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(file: BinaryIO) -> Arrays:
    """The inverse of `pack`; one of `UNREADABLE` for anything else, also where it would take far more memory."""
    try:
        return npz.unpack(file)
    except UserError as error:
        raise ValueError(str(error)) from None


class Replay(Protocol):
    """A replay as checkpoints see it; rlkit/replay/ has them."""

    rows: int
    """Rows that it holds of each env."""
    num_envs: int
    written: np.ndarray
    """Rows that each env has written, [N] int64."""

    def export(self, since: np.ndarray) -> Arrays:
        """The rows written after the counts `since`, [N], with the counts "start" and "stop" of each env."""
        ...

    def load(self, segments: list[Arrays]) -> int:
        """Put exported rows back, the oldest segment first; how many are missing."""
        ...

    def gap(self) -> tuple[int, int]:
        """The first row that was lost, and the last and one; 0 and 0 if none were."""
        ...


class Segments:
    """The segments of a replay in a folder of checkpoints.

    Args:
        directory: the folder.
        replay: whose rows they are.
    """

    def __init__(self, directory: Path, replay: Replay) -> None:
        self.directory, self.replay = directory, replay
        self.digests: dict[str, Digest] = {}
        """Digests of the segments, by their names; not of those that are damaged."""
        self._saved = np.zeros(replay.num_envs, np.int64)
        self._damaged: set[str] = set()

    def path(self, step: int) -> Path:
        """The segment of a step's checkpoint."""
        return self.directory / f"replay-{step}.npz"

    def write(self, step: int) -> int:
        """Write the rows since the last checkpoint; how many bytes they take.

        Raises:
            OSError: they cannot be written.
        """
        rows, path = pack(self.replay.export(self._saved)), self.path(step)
        if path.is_dir():  # which nothing could be written over
            digests.remove(path)
        with ThreadPoolExecutor(1) as beside:  # hashed while the disk has it
            made = beside.submit(digests.digest, rows)
            write_whole(path, rows)
            self.digests[path.name] = made.result()
        for older in self._steps():  # of a version of old, without digests
            name = self.path(older).name
            if name not in self.digests and name not in self._damaged:
                self.digests[name] = digests.of_file(self.path(older))
        return len(rows)

    def needed(self, step: int) -> dict[str, Digest]:
        """Digests of the segments that a step's checkpoint needs."""
        stale = {self.path(gone).name for gone in self._stale(step)}
        return {name: made for name, made in self.digests.items() if name not in stale}

    def written(self) -> None:
        """The checkpoint of the last segment is whole."""
        self._saved = self.replay.written.copy()

    def remove(self, step: int) -> None:
        """Forget a segment."""
        digests.remove(self.path(step))
        self.digests.pop(self.path(step).name, None)

    def remove_after(self, step: int) -> None:
        """Forget the segments of later steps."""
        for later in self._steps():
            if later > step:
                self.remove(later)

    def load(self, step: int, known: Mapping[str, Digest]) -> dict[str, str]:
        """Fill the replay as it was at a step, as far as older segments are not damaged.

        Args:
            step: of the checkpoint, whose own segment is needed.
            known: digests of segments; none of a version of old.

        Returns:
            For each segment that is damaged or missing, what is wrong with it; empty where the replay is as it was.
        """
        newest = self._read(step, known)
        least, found, damaged = np.maximum(newest["stop"] - self.replay.rows, 0), [newest], dict[str, str]()
        older = {int(name[len("replay-") : -len(".npz")]) for name in known} or set(self._steps())
        for earlier in sorted((other for other in older if other < step), reverse=True):
            if (found[0]["start"] <= least).all():
                break
            try:
                found.insert(0, self._read(earlier, known))
            except UNREADABLE as error:
                damaged[self.path(earlier).name] = reason(error)
        gone = self.replay.load(found)
        if gone and not damaged:
            damaged["replay"] = "a segment was lost before"
        self.written()
        self._damaged = set(damaged)
        self.digests = {name: made for name, made in known.items() if name not in damaged}
        return damaged

    def prune(self, oldest: int) -> None:
        """Delete the segments that the checkpoint of a step, the oldest, does not need."""
        for step in self._stale(oldest):
            self.remove(step)

    def _stale(self, step: int) -> list[int]:
        """The segments before a step's that its checkpoint does not need."""
        stale, passed = list[int](), list[int]()
        try:
            least = self._stops(step) - self.replay.rows
        except UNREADABLE:
            return stale
        for earlier in [other for other in self._steps() if other < step]:
            passed.append(earlier)
            try:
                if not (self._stops(earlier) <= least).all():
                    break
            except UNREADABLE:  # as stale as the one after it
                continue
            stale += passed
            passed.clear()
        return stale

    def _steps(self) -> list[int]:
        return sorted(numbers(self.directory, r"replay-(\d+)\.npz"))

    def _read(self, step: int, known: Mapping[str, Digest]) -> Arrays:
        path = self.path(step)
        if path.name in known and (wrong := digests.fault(path, known[path.name])):
            raise ValueError(wrong)
        with path.open("rb") as file:
            return unpack(file)

    def _stops(self, step: int) -> np.ndarray:
        with self.path(step).open("rb") as file:
            return npz.unpack(file, ("stop",))["stop"]
