"""What a set of TFRecord files holds: the features of a record, their types and shapes, and how many there are."""

from __future__ import annotations

import gzip
import json
import math
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rlkit.errors import UserError, short
from rlkit.files import open_bytes, read_json

FORMAT = 1
"""Version of the schema's layout; a later one is refused."""

MOST_FEATURES, MOST_AXES, MOST_CLASSES, MOST_RECORDS = 10_000, 32, 100_000, 10**12
"""Limits of a schema: features, lengths of a shape, names of classes, and records of one file."""

MOST_RECORD = 2**30
"""Bytes of a record, and of a feature in it."""

Kind = Literal["bytes", "float", "int64"]
Compression = Literal["none", "gzip"]
TYPES: Mapping[str, Kind] = {
    "string": "bytes",
    "uint8": "bytes",  # a single one is an int64 feature
    "bool": "int64",
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint16", "uint32"), "int64"),
    "uint64": "bytes",  # half of its values are no int64
    "float32": "float",
    "float16": "bytes",
    "float64": "bytes",  # a float feature keeps only 32 bits
}
"""How values of each type are kept; "string" is a file's content or text, and bytes of others are little-endian."""


class Feature(NamedTuple):
    """What a record has under a name: how it is kept, and the type and shape that it is restored to."""

    kind: Kind
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Schema:
    """What the files of a set hold.

    Attributes:
        features: by name.
        records: how many are in each file.
        compression: of each file.
        classes: names of what the feature `label` counts, if it counts any.
    """

    features: Mapping[str, Feature]
    records: tuple[int, ...]
    compression: Compression = "none"
    classes: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The text of a schema's file."""
        features = {name: feature._asdict() for name, feature in self.features.items()}
        return json.dumps({"format": FORMAT, **asdict(self), "features": features}, indent=2) + "\n"

    def class_name(self, label: int) -> str:
        """A label's class, or its number if it has no name."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a schema's file; UserError if it is none."""
        try:
            kept = _content(path)
            _expect(isinstance(kept["format"], int), "format")
            if kept["format"] > FORMAT:
                raise UserError(f"schema {path} is of a newer version of rlkit: update rlkit")
            features = {name: _feature(**values) for name, values in kept["features"].items()}
            _expect(isinstance(kept["records"], list) and isinstance(kept["classes"], list), "records or classes")
            records, classes = tuple(kept["records"]), tuple(kept["classes"])
            _expect(0 < len(features) <= MOST_FEATURES, f"number of features, {len(features):,}")
            _expect(bool(records) and all(type(n) is int and 0 <= n <= MOST_RECORDS for n in records), "records")
            _expect(all(isinstance(name, str) for name in classes), "classes")
            _expect(len(classes) <= MOST_CLASSES, f"number of classes, {len(classes):,}, of {MOST_CLASSES:,} at most")
            _expect(kept["compression"] in ("none", "gzip"), "compression")
        except OSError as error:
            raise UserError(f"schema {path} cannot be read: {error.strerror}") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no schema of TFRecord files: {error}") from None
        return cls(features, records, kept["compression"], classes)


def _content(path: Path) -> Any:  # noqa: ANN401 - JSON's types
    """The value of a schema's file; ValueError where it is none."""
    try:
        return read_json(path)
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"{path} ")) from None


def outsized(path: Path, compression: Compression = "none") -> int | None:
    """The number, from 1, of the first record that is to have more than `MOST_RECORD` bytes; None if none is.

    TensorFlow would take as much memory as the record's head says before it reads the record. Where the head's own
    checksum is wrong, it reads no further by itself.

    Raises:
        UserError: the path leads to no file.
        OSError: it cannot be opened.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c  # noqa: PLC0415 - for damage alone

    with open_bytes(path) as raw, gzip.open(raw) if compression == "gzip" else raw as file:
        number = 0
        try:
            while len(head := file.read(8)) == 8:  # the length; behind it its checksum, the record, and its checksum
                (length,) = struct.unpack("<Q", head)
                number += 1
                if length > MOST_RECORD:
                    return number if file.read(4) == struct.pack("<I", masked_crc32c(head)) else None
                file.seek(4 + length + 4, os.SEEK_CUR)
        except (EOFError, zlib.error, gzip.BadGzipFile):  # cut or damaged there, and TensorFlow tells how
            return None
    return None


def _feature(kind: Kind, dtype: str, shape: list[Any]) -> Feature:
    """A feature from a file, checked."""
    _expect(dtype in TYPES and (kind == TYPES[dtype] or (kind == "int64" and dtype == "uint8")), f"{kind} of {dtype}")
    _expect(len(shape) <= MOST_AXES, "shape")
    _expect(all(type(n) is int and n >= 0 for n in shape), f"shape {short(shape)}")
    size = math.prod(shape) * (1 if dtype == "string" else np.dtype(dtype).itemsize)
    _expect(size <= MOST_RECORD, f"shape {short(shape)}: {size:,} bytes, of {MOST_RECORD:,} at most")
    return Feature(kind, dtype, tuple(shape))


def _expect(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"unexpected {what}")
