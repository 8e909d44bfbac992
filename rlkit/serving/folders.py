"""Folders of SavedModels, as far as they are known without TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path

from rlkit.errors import UserError

SHARD = re.compile(r"variables/variables\.data-([0-9]{5})-of-([0-9]{5})")
"""A file of a SavedModel's variables: which it is, and of how many."""

Listing = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file in a version's folder."""


def versions_in(path: Path) -> dict[int, Path]:
    """The versions in a base folder by number: sub-folders whose names are numbers, or itself if it is a SavedModel."""
    if (path / "saved_model.pb").is_file():
        return {int(path.name) if _number(path.name) else 1: path}
    return {int(child.name): child for child in path.iterdir() if _number(child.name) and child.is_dir()}


def _number(name: str) -> bool:
    return name.isascii() and name.isdigit() and int(name) < 2**63


def listing(folder: Path) -> Listing | None:
    """What lies in a version's folder; None while a SavedModel is not there whole.

    Whole: saved_model.pb, and if there is a folder of variables its index and each data file that it speaks of by name.
    """
    try:
        files = [(p, p.stat()) for p in sorted(folder.rglob("*")) if p.is_file()]
    except OSError:
        return None  # written to or removed just now
    names = {str(p.relative_to(folder)) for p, _ in files}
    if "saved_model.pb" not in names:
        return None
    if (folder / "variables").is_dir():
        shards = [found.groups() for found in map(SHARD.fullmatch, names) if found]  # a copying tool has other names
        wanted = {(f"{i:05}", of) for _, of in shards for i in range(int(of))}
        if "variables/variables.index" not in names or not shards or set(shards) != wanted:
            return None
    return tuple((str(p), found.st_size, found.st_mtime_ns) for p, found in files)


def check_folder(path: Path) -> None:
    """UserError unless the path holds a version that may be served."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder: rlkit serve takes a run, a folder of versions or a SavedModel")
    found = versions_in(path)
    if not found:
        raise UserError(
            f"{path} has no SavedModel version; expected a run, or sub-folders such as {path.name}/1 with a SavedModel "
            "in each"
        )
    if all(listing(folder) is None for folder in found.values()):
        raise UserError(f"{path}: none of its versions {', '.join(map(str, sorted(found)))} is a whole SavedModel")
