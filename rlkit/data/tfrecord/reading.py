"""TFRecord files with a schema beside them: read in order, parsed by the schema, damage named by its record.

A set of N files is NAME.tfrecord, or NAME-00000-of-0000N.tfrecord and so on, and NAME.schema.json.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rlkit.data.tfrecord.schema import MOST_RECORD, Compression, Feature, Schema, outsized
from rlkit.errors import UserError

ENDING = ".tfrecord"
SCHEMA_ENDING = ".schema.json"

BATCH = 256
"""Records that are parsed at once where all of them are wanted."""


class Damage(NamedTuple):
    """The first record of a file that cannot be read.

    Attributes:
        file: where it is.
        number: which of that file's records, counted from 1.
        reason: what is wrong.
    """

    file: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: record {self.number} is damaged ({self.reason})"

    def error(self) -> UserError:
        """The error that tells it, and what can be done."""
        before = f"the {self.number - 1} before it" if self.number > 2 else "the one before it"
        way = f"{before} can be read with --on-error skip" if self.number > 1 else "nothing in this file can be read"
        return UserError(f"{self}: {way}")


@dataclass(frozen=True)
class Records:
    """A set of TFRecord files.

    Attributes:
        schema: what they hold.
        files: in their order.
    """

    schema: Schema
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Number of records, as the schema says."""
        return sum(self.schema.records)

    def dataset(self, damaged: Iterable[Damage] = ()) -> tf.data.Dataset:
        """Serialized examples, [] string, in the order in which they were written, file after file.

        Args:
            damaged: what `damages` found: of those files, only the records before the damage are read.

        Raises:
            tf.errors.DataLossError: when it runs, a record is damaged.
            tf.errors.FailedPreconditionError: when it runs, there are fewer or more records than the schema says, as
                in a file that was cut between two.
        """
        kept = {damage.file: damage.number - 1 for damage in damaged}
        counts = [kept.get(file, -1) for file in self.files]  # -1: all
        size = sum(n if count < 0 else count for n, count in zip(self.schema.records, counts, strict=True))
        names = tf.constant([os.fsencode(file) for file in self.files])
        files = tf.data.Dataset.from_tensor_slices((names, tf.constant(counts, tf.int64)))
        records = files.flat_map(lambda name, count: _open(name, self.schema.compression).take(count))
        return records.apply(tf.data.experimental.assert_cardinality(size))

    def place(self, index: int, damaged: Iterable[Damage] = ()) -> str:
        """The file and the number, counted from 1, of a record of `dataset`, for people."""
        readable = {damage.file: damage.number - 1 for damage in damaged}
        for file, size in zip(self.files, self.schema.records, strict=True):
            count = readable.get(file, size)
            if index < count:
                return f"{file}: record {index + 1}"
            index -= count
        raise IndexError(index)

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """The features of one serialized example, [] string, or of a batch of them, [B] string.

        Returns:
            each feature by its name, of the schema's type and shape, after B if there is one.

        Raises:
            tf.errors.InvalidArgumentError: when it runs, an example is not as the schema says.
        """
        spec = {name: _spec(feature) for name, feature in self.schema.features.items()}
        read = tf.io.parse_example(serialized, spec)
        return {name: _restore(read[name], feature) for name, feature in self.schema.features.items()}


def _open(name: tf.Tensor | bytes, compression: Compression) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(name, "" if compression == "none" else compression.upper())


def _spec(feature: Feature) -> tf.io.FixedLenFeature:
    """What TensorFlow's parser is told."""
    if feature.kind == "bytes":
        return tf.io.FixedLenFeature(feature.shape if feature.dtype == "string" else (), tf.string)
    return tf.io.FixedLenFeature(feature.shape, tf.float32 if feature.kind == "float" else tf.int64)


def _restore(values: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Parsed values with the feature's type and shape."""
    if feature.dtype == "string":
        return values
    if feature.kind != "bytes":
        return tf.cast(values, feature.dtype)
    raw = tf.io.decode_raw(values, tf.int64 if feature.dtype == "uint64" else feature.dtype)
    # Said outright: in a pipeline, TensorFlow may leave out a reshape, and with it the check of the size.
    raw = tf.ensure_shape(raw, [*values.shape, math.prod(feature.shape)])
    shaped = tf.reshape(raw, tf.concat([tf.shape(values), tf.constant(feature.shape, tf.int32)], 0))
    shaped.set_shape([*values.shape, *feature.shape])
    return tf.bitcast(shaped, tf.uint64) if feature.dtype == "uint64" else shaped  # which decode_raw does not know


def shard_names(stem: str, count: int) -> list[str]:
    """File names of a set.

    >>> shard_names("mnist", 1), shard_names("mnist", 2)
    (['mnist.tfrecord'], ['mnist-00000-of-00002.tfrecord', 'mnist-00001-of-00002.tfrecord'])
    """
    if count == 1:
        return [stem + ENDING]
    return [f"{stem}-{i:05d}-of-{count:05d}{ENDING}" for i in range(count)]


def open_records(path: Path) -> Records:
    """The set that a path names: the file's name given at writing, one of its files, or its schema.

    Raises:
        UserError: there is no such file, no schema beside it, or a file of the set is missing.
    """
    if path.name.endswith(SCHEMA_ENDING):
        stems = [path.name.removesuffix(SCHEMA_ENDING)]
    elif path.name.endswith(ENDING):
        stem = path.name.removesuffix(ENDING)
        stems = [stem, re.sub(r"-\d{5,}-of-\d{5,}$", "", stem)]
    else:
        raise UserError(f"{path} is no TFRecord file by its name: expected one that ends in {ENDING}")
    schemas = [path.with_name(stem + SCHEMA_ENDING) for stem in stems]
    schema = next((file for file in schemas if file.is_file()), None)
    if schema is None:
        if not path.exists():
            raise UserError(f"{path} does not exist")
        raise UserError(f"{path} has no schema: {schemas[-1].name} is not beside it")
    read = Schema.load(schema)
    names = shard_names(schema.name.removesuffix(SCHEMA_ENDING), len(read.records))
    files = tuple(schema.with_name(name) for name in names)
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f" ({len(missing)} of {len(files)} files are)" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]} is missing, which {schema.name} names{more}")
    return Records(read, files)


def damages(records: Records) -> Iterator[Damage]:
    """The first damaged record of each file that has one; every record is read and parsed.

    Damage is also an example that is not as the schema says, and a file with fewer or more records. In a gzip file
    it may be named early, as TensorFlow unpacks 256 KB at once and gives none of them if one is wrong.

    Raises:
        UserError: a file cannot be opened.
    """
    for file, size in zip(records.files, records.schema.records, strict=True):
        damage = _damage(records, file, size)
        if damage:
            yield damage


def first_damage(records: Records) -> Damage | None:
    """The first record that cannot be read, as (file, number from 1, reason), such as after a tf.errors.DataLossError.

    Raises:
        UserError: a file cannot be opened.
    """
    return next(damages(records), None)


def _damage(records: Records, file: Path, size: int) -> Damage | None:
    """The first damaged record of one file that should hold `size`."""
    try:
        long = outsized(file, records.schema.compression)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None

    def longer(count: tf.Tensor, element: tuple[tf.Tensor, dict[str, tf.Tensor]]) -> tf.Tensor:
        return tf.where(element[0] == count, count + 1, count)  # only while no record is left out

    rows = _open(os.fsencode(file), records.schema.compression).take(-1 if long is None else long - 1)
    parsed = rows.enumerate().map(lambda index, row: (index, records.parse(row)), tf.data.AUTOTUNE)
    good = int(parsed.ignore_errors().reduce(np.int64(0), longer))
    if good > size:
        return Damage(file, size + 1, f"the schema says {size:,} records")
    try:
        for serialized in rows.skip(good).take(1):  # the one that ended the pass above, if any
            records.parse(serialized)
    except tf.errors.DataLossError as error:
        return Damage(file, good + 1, _reason(str(error.message), good))
    except tf.errors.InvalidArgumentError as error:
        return Damage(file, good + 1, f"not as the schema says: {_short(str(error.message))}")
    if long == good + 1:
        return Damage(file, long, f"it is to have more than {MOST_RECORD:,} bytes")
    return Damage(file, good + 1, "truncated") if good < size else None


def _reason(message: str, good: int) -> str:
    """TensorFlow's reason in other words."""
    if "truncated record" in message:
        return "truncated"
    if "inflate()" in message:
        return "no gzip file" if "header check" in message and not good else "its gzip block is corrupted"
    if "corrupted record" in message:
        return "corrupted" if good else "corrupted, or this is no TFRecord file"
    return _short(message)


def _short(message: str) -> str:
    """The core of a message of TensorFlow's."""
    return " ".join(message.rpartition("}} ")[2].partition(" [Op:")[0].split())[:120]


def batches(records: Records, damaged: Iterable[Damage] = ()) -> Iterator[dict[str, np.ndarray]]:
    """All records in order, parsed, in batches: [B, ...] a feature, as NumPy arrays; strings as objects."""
    parsed = records.dataset(damaged).batch(BATCH).map(records.parse, tf.data.AUTOTUNE)
    rows: Iterator[dict[str, np.ndarray]] = parsed.prefetch(1).as_numpy_iterator()
    return rows


def class_counts(records: Records, damaged: Iterable[Damage] = ()) -> dict[str, int]:
    """How many records each class has, in the classes' order; by number where they have no names.

    Empty if there is no feature `label` that is a single whole number.
    """
    feature = records.schema.features.get("label")
    if feature is None or feature.kind != "int64" or feature.shape:
        return {}
    read = records.dataset(damaged).batch(BATCH).map(lambda batch: records.parse(batch)["label"])
    counts: Counter[int] = Counter()
    for batch in read.as_numpy_iterator():
        counts.update(batch.tolist())
    labels = sorted({*counts, *range(len(records.schema.classes))})
    return {records.schema.class_name(label): counts[label] for label in labels}
