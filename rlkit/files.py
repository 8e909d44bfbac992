"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from rlkit.errors import UserError

MOST = 64 * 2**20
"""Bytes of a file of words and settings at most; a run's own have some thousands."""

MOST_DATA = 2**30
"""Bytes at most of a file of numbers or text that is read as a whole, such as a CSV file, a triangle, or metrics."""

PART = ".part"
"""Ending of a file or a folder that is being made."""

PARTS = re.compile(r"\..+\.[0-9a-f]{16}\.part")
"""Names of such files and folders, which are hidden and random."""

BEFORE = re.compile(r"\..+\.[0-9a-f]{16}\.before")
"""Names of folders that are being replaced."""

LEFT = 60.0
"""Seconds after which a part that nobody has written to is nobody's."""

KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
"""Things at a path that are no file, and tests of a mode for each."""


def home(path: str | Path) -> Path:
    """A path whose leading ~ is the user's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user that is not there: a folder of that name, as in a shell
        return Path(path)


def check_file(path: Path) -> None:
    """Refuse a path to anything but a file: opened, it could block or never end.

    Raises:
        UserError: the path leads to a pipe, a socket or a device.
        OSError: there is nothing or a folder, or it cannot be reached.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a zero byte in it
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((kind for test, kind in KINDS if test(mode)), None)
    if kind:
        raise UserError(f"{path} is {kind}, expected a file")


def open_bytes(path: Path) -> BinaryIO:
    """A file, open to read; raises as `check_file`."""
    check_file(path)
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: PTH123 - by its number


def read_bytes(path: Path, limit: int = MOST) -> bytes:
    """A file's content; links are followed.

    Raises:
        UserError: the path leads to no file, or to one of more than `limit` bytes.
        OSError: it cannot be opened or read.
    """
    with open_bytes(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UserError(f"{path} has more than {limit:,} bytes, the most that is read of such a file")
    return content


def read_text(path: Path, limit: int = MOST) -> str:
    """A file of UTF-8 as text; raises as `read_bytes`, and UserError where it is of another encoding."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: byte {error.start} cannot be read") from None


def read_json(path: Path, limit: int = MOST) -> Any:  # noqa: ANN401 - JSON's types
    """The value of a JSON file; raises as `read_text`, and UserError where it is none or nested too deeply."""
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def opener(path: str, flags: int) -> int:
    """The opener, for `open`, of a file to write to that is there or new: never by a link, nor anything but a file.

    Raises:
        UserError: a link, a file with other names (hard links), a pipe, a socket or a device is at the path.
        OSError: a folder is there, or it cannot be opened.
    """
    with suppress(FileNotFoundError):
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            raise UserError(f"{path} is a link, expected a file: nothing is written by a link")
        if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
            raise UserError(
                f"{path} is also a file elsewhere, by a hard link, which would be changed too: put a copy in its place"
            )
        check_file(Path(path))
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def check_folder(folder: Path) -> None:
    """UserError where a folder holds, at any depth, something else than files and folders, such as a link.

    What TensorFlow writes below it or reads has names that are known before, and would go where a link leads.
    """
    for place, folders, files in os.walk(folder):  # which follows no link
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink():
                raise UserError(f"{path} is a link: put in its place a copy of what it leads to")
            if path.name in files:
                with suppress(FileNotFoundError):  # a process that holds the run has replaced it
                    check_file(path)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new file beside the path to write to: renamed to the path at the end, removed after any exception.

    Its name has a random part, so that nothing can lie there before.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    remove_parts(path.parent, path.name)
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    try:
        yield beside
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def remove_parts(folder: Path, name: str = "", seconds: float = LEFT) -> None:
    """Remove the parts of files, or of those of one name, that killed processes left beside them.

    Args:
        folder: with the files.
        name: of the file; empty for all of them.
        seconds: since a part was last written to, before which it may still be somebody's.
    """
    start = f".{name}." if name else "."
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(start) and PARTS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > seconds:
                        Path(entry.path).unlink()


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
    beside, before = (target.with_name(f".{target.name}.{secrets.token_hex(8)}{end}") for end in (PART, ".before"))
    try:
        if target.is_symlink():
            raise UserError(f"{target} is a link: name the folder that it leads to with --out")
        if target.exists() and not (target / mark).is_file() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} is there already and has no {mark}: name an empty or a new folder with --out")
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_folders(target)
        beside.mkdir()
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


def _remove_folders(target: Path) -> None:
    """Remove what killed processes left beside a folder; one that they had moved away goes back to its place."""
    for path in sorted(target.parent.iterdir()):
        part, before = PARTS.fullmatch(path.name), BEFORE.fullmatch(path.name)
        if not (part or before) or not path.name.startswith(f".{target.name}.") or path.is_symlink():
            continue
        if not path.is_dir() or time.time() - path.stat().st_mtime <= LEFT:
            continue
        if before and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


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
    return sorted(numbers(directory, r"ckpt-([0-9]+)\.index"), reverse=True)


def reason(error: BaseException) -> str:
    """The first line of what an error says, or the system's own words for a full disk in it."""
    if os.strerror(errno.ENOSPC) in str(error):
        return os.strerror(errno.ENOSPC)
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    return (str(text).strip() or type(error).__name__).splitlines()[0][:200]


def cache() -> Path:
    """The user's folder for what can be made again; it need not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlkit"
