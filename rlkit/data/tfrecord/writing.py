"""TFRecord files made from a folder of images or from arrays, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rlkit import npz
from rlkit.data.image_folders import ImageFolder, OnError, image_folder, usable
from rlkit.data.tfrecord.reading import ENDING, SCHEMA_ENDING, Records, open_records, shard_names
from rlkit.data.tfrecord.schema import TYPES, Compression, Feature, Schema
from rlkit.errors import UserError
from rlkit.files import MOST_DATA, check_output, read_bytes, whole, write_whole


@dataclass(frozen=True)
class Source:
    """What records are made from.

    Attributes:
        features: of each record, by name.
        size: number of records.
        record: the values of one, by its index: bytes, or an array of the feature's type and shape.
        classes: names of what `label` counts, if it counts any.
    """

    features: Mapping[str, Feature]
    size: int
    record: Callable[[int], Mapping[str, bytes | np.ndarray]]
    classes: tuple[str, ...] = field(default=())


def open_source(
    path: Path, labels: Path | None = None, on_error: OnError = "stop", say: Callable[[str], None] = print
) -> Source:
    """The source that a path names: a folder of images, or an .npz file of arrays.

    Args:
        path: the folder, as `image_folder` reads it, or the file.
        labels: a CSV file of the images' labels, in place of class subfolders.
        on_error: what happens at an image that cannot be decoded.
        say: is told of each file that is left out.

    Raises:
        UserError: the path is neither, or what it holds cannot be used.
    """
    if path.is_dir():
        found = usable(image_folder(path, labels), on_error, say)
        for note in found.notes:
            say(note)
        return from_images(found, path)
    if not path.exists():
        raise UserError(f"source {path} does not exist")
    if path.suffix.lower() != ".npz":
        raise UserError(f"source {path} is neither a folder of images nor an .npz file of arrays")
    if labels is not None:
        raise UserError(f"--labels belongs to a folder of images, and {path} is an .npz file")
    try:
        return from_arrays(read_npz(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def from_images(images: ImageFolder, folder: Path) -> Source:
    """Images as their files are: `image`, `label`, and `file`, the name relative to the folder."""

    def record(index: int) -> dict[str, bytes | np.ndarray]:
        path = Path(images.paths[index])
        try:
            content = read_bytes(path, MOST_DATA)
        except OSError as error:
            raise UserError(f"image {path} cannot be read: {error.strerror}") from None
        name = os.fsencode(path.relative_to(folder).as_posix())
        return {"image": content, "label": images.labels[index], "file": name}

    text, number = Feature("bytes", "string", ()), Feature("int64", "int64", ())
    return Source({"image": text, "label": number, "file": text}, len(images.paths), record, images.classes)


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Source:
    """One record a row, [n, ...] each.

    Values come back bit for bit, but for float32's signalling NaNs, which become quiet.

    Raises:
        UserError: there are no rows, not the same number of them in each array, or a type that is not kept.
    """
    for name, array in arrays.items():
        if array.dtype.name not in TYPES:
            kinds = ", ".join(name for name in TYPES if name != "string")
            raise UserError(f"array {name!r} is of type {array.dtype}: those that can be kept are {kinds}")
        if array.ndim == 0:
            raise UserError(f"array {name!r} is a single number: each array needs a row a record")
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise UserError(f"the arrays differ in their numbers of rows: {told}")
    if not any(sizes.values()):
        raise UserError("there are no rows to make records of")
    features = {name: _feature(array) for name, array in arrays.items()}
    return Source(features, max(sizes.values()), lambda i: {name: array[i] for name, array in arrays.items()})


def _feature(array: np.ndarray) -> Feature:
    """How the rows of an array are kept."""
    dtype, shape = array.dtype.name, array.shape[1:]
    return Feature("int64" if dtype == "uint8" and not shape else TYPES[dtype], dtype, shape)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; UserError if it is none."""
    try:
        return npz.read(path)
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror or error}") from None
    except UserError as error:
        what = "" if str(error).startswith(("this", "it holds")) else "its arrays cannot be read: "
        raise UserError(f"{what}{error}") from None


class Targets(NamedTuple):
    """The files that a set will be.

    Attributes:
        schema: its schema.
        files: of records.
        replaced: those of an earlier set, its schema first.
    """

    schema: Path
    files: tuple[Path, ...]
    replaced: tuple[Path, ...]


def targets(path: Path, shards: int, force: bool) -> Targets:
    """The files of a set, if they may be written.

    Raises:
        UserError: they exist and are not to be replaced, or cannot be written.
    """
    check_output(path, ENDING)
    stem = path.name[: -len(ENDING)]
    schema = path.with_name(stem + SCHEMA_ENDING)
    files = tuple(path.with_name(name) for name in shard_names(stem, shards))
    there = [file for file in (schema, *files) if file.exists()]
    if there and not force:
        raise UserError(f"{there[0]} exists: choose another name, or replace what is there with --force")
    if schema in there:
        with suppress(UserError):  # of files that are missing, or of a schema that is none
            there += open_records(schema).files
    return Targets(schema, files, tuple(there))


def write(
    source: Source, path: Path, shards: int = 1, compression: Compression = "none", force: bool = False
) -> Records:
    """Write a source's records in its order, in contiguous runs over the files, with their schema.

    Args:
        source: what the records are made from.
        path: NAME.tfrecord.
        shards: number of files.
        compression: of each.
        force: replace a set of the same name.

    Raises:
        UserError: the files exist, cannot be written, or would be more than the records. Nothing has changed then.
    """
    if shards > source.size:
        raise UserError(f"--shards is {shards:,}, expected at most {source.size:,}, the number of records")
    schema_file, files, replaced = targets(path, shards, force)
    runs = np.array_split(np.arange(source.size), shards)
    schema = Schema(dict(source.features), tuple(len(run) for run in runs), compression, source.classes)
    try:
        with ExitStack() as stack:
            # Left in the opposite order: the schema gets its name last, when all that it tells of is there.
            besides = [stack.enter_context(whole(file)) for file in (schema_file, *files)]
            for beside, run in zip(besides[1:], runs, strict=True):
                _write_file(beside, source, run, compression)
            write_whole(besides[0], schema.to_json().encode())
            for file in replaced:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    except tf.errors.OpError as error:
        raise UserError(f"{path} cannot be written: {str(error.message).rpartition('; ')[2]}") from None
    return Records(schema, files)


def _write_file(path: Path, source: Source, run: np.ndarray, compression: Compression) -> None:
    """One file, with the records of these indices, safe on the disk."""
    options = tf.io.TFRecordOptions("" if compression == "none" else compression.upper())
    with tf.io.TFRecordWriter(os.fsencode(path), options) as writer:
        for index in run.tolist():
            writer.write(serialize(source.record(index), source.features))
    with path.open("rb") as file:
        os.fsync(file.fileno())


def serialize(values: Mapping[str, bytes | np.ndarray], features: Mapping[str, Feature]) -> bytes:
    """A tf.train.Example of one record."""
    kept = {name: _kept(values[name], feature) for name, feature in features.items()}
    example = tf.train.Example(features=tf.train.Features(feature=kept))
    return bytes(example.SerializeToString(deterministic=True))


def _kept(value: bytes | np.ndarray, feature: Feature) -> tf.train.Feature:
    """A value as the feature's kind keeps it."""
    if feature.kind == "bytes":
        if not isinstance(value, bytes):
            value = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if feature.kind == "float":
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value).tolist()))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(value).astype(np.int64).tolist()))
