"""What a model must know of its data, how examples are held out, and arrays as a source of examples."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from rlkit.config import coerce
from rlkit.errors import UserError, short
from rlkit.seeding import Purpose, generator
from rlkit.supervised.config import FitConfig, MobileNetConfig
from rlkit.supervised.pipeline import Source

Say = Callable[[str], None]
Pair = tuple[np.ndarray, np.ndarray]
"""Inputs and targets, row by row."""


MOST_INPUTS = 2**28
"""Numbers of one input at most."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a model must know of its data, and what tells them from others."""

    kind: Literal["classes", "numbers", "text"]
    """What is predicted: one of some classes, a number, or the next character."""
    shape: tuple[int, ...]
    """Of an input; of text, the length that is trained on."""
    train: int
    """Examples to learn from."""
    held_out: int
    """Examples to evaluate on; 0: the ones learned from."""
    classes: tuple[str, ...] = ()
    vocabulary: str = ""
    """Of text: its characters, sorted."""
    mean: tuple[float, ...] = ()
    """Of a table's inputs, which the model itself brings to mean 0 and standard deviation 1."""
    deviation: tuple[float, ...] = ()
    target_mean: float = 0.0
    """Of a table's targets, which are learned at mean 0 and standard deviation 1."""
    target_deviation: float = 1.0
    dtype: Literal["float32", "float64"] = "float32"
    """Dtype of the model's inputs; float64 for a table with numbers that float32 does not tell apart."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """How the files were understood: a sentence each."""

    @property
    def task(self) -> str:
        """The prediction to learn, for people."""
        if self.kind == "numbers":
            return "regression"
        if self.kind == "text":
            return f"the next character, one of {len(self.vocabulary)}"
        more = f" and {len(self.classes) - 10} more" if len(self.classes) > 10 else ""
        return f"classification into {len(self.classes)} classes: {', '.join(self.classes[:10])}{more}"

    def to_json(self) -> str:
        """As text, for a file."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """The inverse of `to_json`; UserError, ValueError, TypeError or RecursionError for anything else."""
        values, hints = json.loads(text), typing.get_type_hints(cls)
        if not isinstance(values, dict) or (odd := [name for name in values if name not in hints]):
            raise ValueError(f"{short(values if not isinstance(values, dict) else odd[0])} is no fact")
        return cls(**{name: coerce(name, value, hints[name]) for name, value in values.items()})

    def check(self) -> None:
        """ValueError where facts, as those of a file, are none of data, or do not fit each other."""
        columns = self.shape[0] if self.shape else 0
        numbers = (*self.mean, *self.deviation, self.target_mean, self.target_deviation)
        right = {
            "shape": 0 < len(self.shape) <= 3 and min(self.shape) > 0 and math.prod(self.shape) <= MOST_INPUTS,
            "train": self.train > 0,
            "held_out": self.held_out >= 0,
            "mean": len(self.mean) in (0, columns) and len(self.mean) == len(self.deviation),
            "target_mean": all(map(math.isfinite, numbers)),
            "classes": bool(self.classes) == (self.kind == "classes"),
            "vocabulary": bool(self.vocabulary) == (self.kind == "text"),
        }
        for name, fits in right.items():
            if not fits:
                raise ValueError(f"{name} is {short(getattr(self, name))}, which the other facts do not allow")


class Data(NamedTuple):
    """A data set, split."""

    train: Source
    held_out: Source
    facts: Facts


def split(labels: np.ndarray, share: float) -> np.ndarray:
    """Which examples are held out, [n] bool: the same share of each class, the same ones each time."""
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = generator(0, Purpose.SPLIT, int(label)).permutation(len(members))
        held[members[order[: round(share * len(members))]]] = True
    return held


def classified(train: Pair, held_out: Pair, classes: tuple[str, ...]) -> Data:
    """Classified arrays: inputs uint8, of which 255 becomes 1, or float; labels from 0."""
    shape, sizes = train[0].shape[1:], (len(train[0]), len(held_out[0]))
    facts = Facts(kind="classes", shape=shape, classes=classes, train=sizes[0], held_out=sizes[1])
    return arrays(train, held_out, facts)


def arrays(train: Pair, held_out: Pair, facts: Facts) -> Data:
    """Arrays in memory; UserError if none are left to learn from."""
    if not len(train[0]):
        raise UserError("nothing is left to learn from: a smaller holdout leaves more")
    return Data(held(*train), held(*(held_out if len(held_out[0]) else train)), facts)


def held(inputs: np.ndarray, targets: np.ndarray) -> Source:
    """A source of arrays in memory."""
    x, y = tf.constant(inputs), tf.constant(targets, tf.int32 if targets.dtype.kind in "iu" else tf.float32)

    def collect(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.gather(x, places)
        return rows if rows.dtype == tf.float64 else scaled(rows), tf.gather(y, places)

    return Source(tf.data.Dataset.range(len(inputs)), len(inputs), collect=collect)


def scaled(inputs: tf.Tensor) -> tf.Tensor:
    """As float32, in which 255 of uint8 is 1."""
    return tf.cast(inputs, tf.float32) / (255.0 if inputs.dtype == tf.uint8 else 1.0)


def in_order(inputs: np.ndarray, targets: np.ndarray, share: float) -> tuple[Pair, Pair]:
    """The end of the arrays is held out."""
    first = len(inputs) - round(share * len(inputs))
    return (inputs[:first], targets[:first]), (inputs[first:], targets[first:])


def named_file(config: FitConfig) -> Path:
    """The data set's file; UserError if none is named."""
    if not config.data_file:
        raise UserError(f"the data set {config.data} is read from a file: name it with --data-file")
    return Path(config.data_file)


def own_size(config: FitConfig, otherwise: int) -> int:
    """Height and width that a model takes where no other is asked for."""
    return 96 if isinstance(config, MobileNetConfig) else otherwise


def image_size_of(config: FitConfig) -> tuple[int, int, int]:
    """Height, width and channels that images from files get."""
    side = config.image_size or own_size(config, 64)
    return side, side, 3
