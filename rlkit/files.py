"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlkit.errors import UserError


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


def cache() -> Path:
    """The user's folder for what can be made again; it need not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlkit"
