"""Arrays of .npz files, whose sizes are looked at before anything is unpacked; never a pickle."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rlkit.errors import UserError
from rlkit.files import open_bytes

FREE = 2**30
"""Bytes that the arrays of any file may take in memory."""

RATIO = 100
"""Times its own size that the arrays of a larger one may take: more is no compression of data."""

MOST_ARRAYS = 10_000
"""In one file."""

ERRORS = (
    OSError,
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    SyntaxError,
    RuntimeError,  # of a member with a password, or brackets in brackets
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
)
"""Raised by zipfile and NumPy for what is no .npz file."""


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name.

    Raises:
        UserError: it is no .npz file of plain arrays, or they would take more memory than its size justifies; the
            message has no name of the file.
        OSError: it cannot be opened.
    """
    with open_bytes(path) as file:
        try:
            return unpack(file)
        except ERRORS as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"it is no whole .npz file ({words[:120]})") from None


def unpack(file: BinaryIO, names: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an open file, all or those of some names; as `read`, and raises UserError and any of `ERRORS`."""
    if not zipfile.is_zipfile(file):
        raise UserError("this is no .npz file")
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(FREE, RATIO * size):
            raise UserError(
                f"its arrays take {unpacked:,} bytes and the file has {size:,}: more than {RATIO} times its size is "
                f"not unpacked beyond {FREE:,} bytes"
            )
        if len(members) > MOST_ARRAYS:
            raise UserError(f"it has {len(members):,} arrays, expected at most {MOST_ARRAYS:,}")
        for member in members:
            if not member.filename.endswith(".npy"):
                raise UserError(f"it holds {member.filename!r}, which is no array")
        wanted = [m for m in members if not names or m.filename.removesuffix(".npy") in names]
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in wanted}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, if its header does not claim more than the file holds."""
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as content:
        begin = content.read(HEADER)
    start = io.BytesIO(begin)
    version = np.lib.format.read_magic(start)
    if version not in READERS:
        raise UserError(f"array {name!r} is of version {version[0]}.{version[1]} of the format, expected 1.0 or 2.0")
    shape, _, dtype = READERS[version](start)
    if dtype.hasobject:
        raise UserError(f"Object arrays such as {name!r} are not read, as they could run code: expected numbers")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize > member.file_size:
        raise UserError(f"array {name!r} is to have the shape {shape}, and has {member.file_size:,} bytes")
    with archive.open(member) as content:
        array: np.ndarray = np.lib.format.read_array(content, allow_pickle=False)
    return array


HEADER = 2**15
"""Bytes within which an array's header ends; NumPy reads no longer ones."""

READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
