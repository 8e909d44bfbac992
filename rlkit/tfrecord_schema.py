"""What a set of TFRecord files holds: the features of a record, their types and shapes, and how many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rlkit.errors import UserError

FORMAT = 1
"""Version of the schema's layout; a later one is refused."""

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
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["format"] > FORMAT:
                raise UserError(f"schema {path} is of a newer version of rlkit: update rlkit")
            features = {name: _feature(**values) for name, values in kept["features"].items()}
            records, classes = tuple(kept["records"]), tuple(kept["classes"])
            _expect(bool(features), "features: there are none")
            _expect(bool(records) and all(isinstance(n, int) and n >= 0 for n in records), "records")
            _expect(all(isinstance(name, str) for name in classes), "classes")
            _expect(kept["compression"] in ("none", "gzip"), "compression")
        except OSError as error:
            raise UserError(f"schema {path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no schema of TFRecord files: {error}") from None
        return cls(features, records, kept["compression"], classes)


def _feature(kind: Kind, dtype: str, shape: list[Any]) -> Feature:
    """A feature from a file, checked."""
    _expect(dtype in TYPES and (kind == TYPES[dtype] or (kind == "int64" and dtype == "uint8")), f"{kind} of {dtype}")
    _expect(all(isinstance(n, int) and n >= 0 for n in shape), f"shape {shape}")
    return Feature(kind, dtype, tuple(shape))


def _expect(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"unexpected {what}")
