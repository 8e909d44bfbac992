"""The room that a run takes on disk, and what is said where there is too little."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rlkit.config import Config
from rlkit.errors import UserError
from rlkit.reporting import size_text

FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
"""How a system says that there is no room left."""


def with_room(why: str, where: Path, needed: int) -> str:
    """Why something of a size in bytes cannot be written, with the room that there is where a disk is full."""
    if why in FULL:
        with suppress(OSError):
            return f"{why}: {size_text(needed)} needed, {size_text(shutil.disk_usage(where).free)} free"
    return why


ROW = 600
"""Bytes about of a row of metrics, in the CSV files and as TensorBoard has it."""


def room_for(config: Config, agent: int) -> float:
    """Bytes of disk about that a run takes beside its replay.

    The newest checkpoints with the one that is being written, as many best agents, and the metrics.

    Args:
        config: of the run.
        agent: bytes of an agent in a checkpoint.
    """
    return 2.0 * (config.keep_checkpoints + 1) * agent + ROW * config.steps / config.log_interval


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
