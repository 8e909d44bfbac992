"""Digests of a run's files, written with each checkpoint: what is damaged later is found by them, and named."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rlkit.errors import UserError
from rlkit.files import numbers, open_bytes, read_bytes, steps_in, write_whole

TEXTS = ("config.toml", "data.json")
"""Files of a run beside its checkpoints, of which each checkpoint keeps a copy."""

ROWS = ("metrics.csv", "evaluations.csv", "timing.csv")
"""Files of a run that only grow, of which each checkpoint knows how far they were."""

CHUNK = 1 << 20


class Digest(NamedTuple):
    """Size in bytes and SHA-256 of a file, or of its beginning."""

    size: int
    sha256: str
    lines: int = 0
    """Lines of one that only grows."""


def digest(content: bytes) -> Digest:
    """The digest of a file's content."""
    return Digest(len(content), hashlib.sha256(content).hexdigest())


def of_file(file: Path, size: int | None = None, *, lines: bool = False) -> Digest:
    """The digest of a file, or of its first `size` bytes; OSError where it cannot be read."""
    made, left, ends = hashlib.sha256(), size, 0
    with open_bytes(file) as stream:
        while part := stream.read(CHUNK if left is None else min(CHUNK, left)):
            made.update(part)
            ends += part.count(b"\n") if lines else 0
            left = None if left is None else left - len(part)
        read = stream.tell()
    return Digest(read, made.hexdigest(), ends)


def fault(file: Path, expected: Digest, *, grows: bool = False) -> str | None:
    """The fault of a file, as the end of a sentence; None if it is as it was.

    Args:
        file: the file.
        expected: its digest.
        grows: there may be more behind what the digest is of.
    """
    try:
        if not file.is_file():
            return f"{file.name} is missing"
        size = file.stat().st_size
        if size < expected.size or (size > expected.size and not grows):
            return f"{file.name} has {size:,} bytes of {expected.size:,}"
        if of_file(file, expected.size).sha256 != expected.sha256:
            return f"{file.name} is not as it was written"
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}"
    return None


@dataclass(frozen=True)
class Manifest:
    """All that belongs to a checkpoint, by which it is known to be whole. It is written last."""

    step: int
    files: Mapping[str, Digest]
    """In the checkpoint's folder: its own, and all segments of a replay."""
    rows: Mapping[str, Digest] = field(default_factory=dict)
    """In the run's folder: those of `ROWS`, as far as they were written."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """In the run's folder: those of `TEXTS`, themselves."""
    bests: tuple[int, ...] = ()
    """Steps of the best agent before the last, and of the best."""
    score: float | None = None
    """A best agent's, as its evaluation counted it."""

    def write(self, folder: Path) -> None:
        """Write it into the checkpoint's folder, whole or not at all."""
        text = json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)
        write_whole(path(folder, self.step), f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n".encode())

    @classmethod
    def read(cls, folder: Path, step: int) -> Manifest:
        """That of a step.

        Raises:
            OSError: there is none that can be read.
            ValueError: it is damaged.
        """
        try:
            head, _, text = read_bytes(path(folder, step)).partition(b"\n")
        except UserError as error:
            raise ValueError(str(error)) from error
        if head.decode("ascii", "replace") != hashlib.sha256(text.removesuffix(b"\n")).hexdigest():
            raise ValueError(f"{path(folder, step).name} is not as it was written")
        try:
            values: dict[str, Any] = json.loads(text)
            for name in ("files", "rows"):
                values[name] = {file: Digest(*made) for file, made in values[name].items()}
            manifest = cls(**{**values, "bests": tuple(values["bests"])})
            if not manifest._fits(step):
                raise TypeError
        except (TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path(folder, step).name} is of another version") from error
        return manifest

    def _fits(self, step: int) -> bool:
        """Whether what was read of a file is a manifest of a step: anybody can write one with its own digest right."""
        known = [*self.files.items(), *self.rows.items()]
        return (
            self.step == step
            and all(re.fullmatch(r"[\w.-]+", name) and isinstance(made.sha256, str) for name, made in known)
            and all(type(n) is int and 0 <= n < 2**63 for _, made in known for n in (made.size, made.lines))
            and all(re.fullmatch(r"replay-[0-9]+\.npz", name) for name in self.files if name.startswith("replay-"))
            and all(isinstance(text, str) for text in self.texts.values())
            and all(type(n) is int and 0 <= n < 2**63 for n in self.bests)
            and (self.score is None or (type(self.score) in (int, float) and math.isfinite(self.score)))
        )


def path(folder: Path, step: int) -> Path:
    """The manifest of a step's checkpoint in a folder."""
    return folder / f"digests-{step}.json"


def steps(folder: Path) -> list[int]:
    """The steps in a folder of which there is a manifest, newest first."""
    return sorted(numbers(folder, r"digests-(\d+)\.json"), reverse=True)


def whole_steps(folder: Path) -> list[int]:
    """The steps of a folder's checkpoints that were written to their end, newest first.

    Those of versions of old have no manifests: where there is not one, all count.
    """
    known, there = set(steps(folder)), steps_in(folder)
    return [step for step in there if step in known] if known else there


def faults(folder: Path, manifest: Manifest) -> list[str]:
    """All that is wrong with a checkpoint's files in its folder, but for older segments of a replay."""
    own = {f"replay-{manifest.step}.npz"}
    files = {name: made for name, made in manifest.files.items() if not name.startswith("replay-") or name in own}
    return [wrong for name, made in files.items() if (wrong := fault(folder / name, made))]


def best_fault(checkpoints: Path, step: int) -> str | None:
    """The fault of a run's best agent of a step; None if it is whole."""
    folder = checkpoints / "best"
    try:
        manifest = Manifest.read(folder, step)
    except ValueError as error:
        return f"best/{error}"
    except OSError:
        return f"best/{path(folder, step).name} is missing"
    wrong = faults(folder, manifest)
    return f"best/{wrong[0]}" if wrong else None


def newest(folder: Path) -> Manifest | None:
    """The newest manifest in a folder of checkpoints that is as it was written."""
    for step in steps(folder):
        try:
            return Manifest.read(folder, step)
        except (OSError, ValueError):
            continue
    return None


def best_steps(checkpoints: Path) -> list[int]:
    """The steps of a run's best agent and of the one before it, whether they are still there or not.

    The best agent is written a little before the checkpoint that tells of it.
    """
    best, manifest = checkpoints / "best", newest(checkpoints)
    if manifest is None:
        return whole_steps(best)
    return [*(step for step in whole_steps(best) if step > manifest.step), *reversed(manifest.bests)]


def rows_in(run: Path) -> dict[str, Digest]:
    """Digests of those of `ROWS` that are in a run's folder."""
    return {name: of_file(run / name, lines=True) for name in ROWS if (run / name).is_file()}


def parts(folder: Path, step: int) -> list[Path]:
    """The files of TensorFlow's that a step's checkpoint consists of."""
    return sorted(
        file for file in folder.glob(f"ckpt-{step}.*") if re.fullmatch(r"ckpt-\d+\.(index|data-.*)", file.name)
    )


def remove(file: Path) -> None:
    """Remove a file, or a folder that took its place, if it is there."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
