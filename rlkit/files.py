"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlkit.errors import UserError


def home(path: str | Path) -> Path:
    """A path whose leading ~ is the user's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user that is not there: a folder of that name, as in a shell
        return Path(path)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside a path to write to: renamed to the path at the end, removed after any exception."""
    beside = path.with_name(f".{path.name}.part")
    try:
        yield beside
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, then rename it there: whole or not at all."""
    with whole(path) as beside, beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def whole_folder(target: Path, mark: str) -> Iterator[Path]:
    """An empty folder beside a target to fill: it takes its place at the end, and is removed after any exception.

    Args:
        target: a folder that is new, empty, or one that was made so before.
        mark: the file by which such a folder is known.

    Raises:
        UserError: the target is something else, or cannot be written; then it is left as it was.
    """
    beside, before = (target.with_name(f".{target.name}.{word}") for word in ("part", "before"))
    try:
        if target.exists() and not (target / mark).is_file() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} is there already and has no {mark}: name an empty or a new folder with --out")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        if target.exists():
            target.rename(before)
        beside.rename(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        if before.exists() and not target.exists():
            before.rename(target)
        for folder in (beside, before):
            shutil.rmtree(folder, ignore_errors=True)


def check_output(path: Path, *endings: str) -> None:
    """Refuse a file that cannot be written, before any work is done for it; a missing folder is made.

    Args:
        path: the file.
        endings: those that its name may have, such as ".png".

    Raises:
        UserError: another ending, a folder that neither exists nor has a parent, or no leave to write there.
    """
    if path.suffix.lower() not in endings:
        raise UserError(f"{path} must end in {' or '.join(endings)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it")
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: folder {path.parent}: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: no leave to write in folder {path.parent}")


def numbers(directory: Path, pattern: str) -> list[int]:
    """The numbers in the names of a folder's files that match."""
    if not directory.is_dir():
        return []
    return [int(m[1]) for f in directory.iterdir() if (m := re.fullmatch(pattern, f.name))]


def steps_in(directory: Path) -> list[int]:
    """The steps of a folder's checkpoints, newest first."""
    return sorted(numbers(directory, r"ckpt-(\d+)\.index"), reverse=True)


def reason(error: BaseException) -> str:
    """The first line of what an error says, or the system's own words for a full disk in it."""
    if os.strerror(errno.ENOSPC) in str(error):
        return os.strerror(errno.ENOSPC)
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    return (str(text).strip() or type(error).__name__).splitlines()[0][:200]


def cache() -> Path:
    """The user's folder for what can be made again; it need not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlkit"
