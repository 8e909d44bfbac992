"""Images from folders, from TensorFlow Datasets and from TFRecord files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlkit.data import image_folders
from rlkit.data.tfrecord import reading
from rlkit.data.tfrecord.schema import Feature
from rlkit.errors import UserError, install
from rlkit.supervised.config import FitConfig
from rlkit.supervised.description import Data, Facts, Say, image_size_of, named_file, scaled, split
from rlkit.supervised.pipeline import Source

LARGE = 1e4
"""Size of an input from which on it is named where the loss is not finite."""

TRAIN = re.compile(r"(seg)?train(ing)?(set|data|images)?")
TESTS = (
    re.compile(r"(seg)?test(ing)?(set|data|images)?"),
    re.compile(r"(val|valid|validation|dev|eval)(set|data|images)?"),
)
"""Names of folders for a data set's parts, without capital letters, digits and signs; a test part is held out first."""


def folder(config: FitConfig, say: Say) -> Data:
    """Images in folders, a folder a class or with a file of labels, split by folders or by their number."""
    if not config.data_dir:
        raise UserError(f"the data set {config.data} is read from a folder: name it with --data-dir")
    where, labels = Path(config.data_dir), Path(config.labels) if config.labels else None
    names = parts(where) if labels is None else None
    if names:
        train, test = (_usable(image_folders.image_folder(where / name), config, say) for name in names)
        if train.classes != test.classes:
            raise UserError(
                f"{where / names[0]} and {where / names[1]} have other classes: {', '.join(train.classes)}, and "
                f"{', '.join(test.classes)}"
            )
        unused = sorted(top.name for top in where.iterdir() if top.is_dir() and top.name not in names)
        more = f"; not used: {', '.join(unused)}" if unused else ""
        notes = (
            f"learned from: {where / names[0]}; held out: {where / names[1]}{more}",
            *image_folders.described(train),
        )
        notes += tuple(f"{where / names[1]}: {note}" for note in image_folders.described(test))
    else:
        whole = _usable(image_folders.image_folder(where, labels), config, say)
        held = split(whole.labels, config.holdout)
        train, test, notes = _part(whole, ~held), _part(whole, held), image_folders.described(whole)
    size = image_size_of(config)
    facts = Facts(
        kind="classes",
        shape=size,
        classes=train.classes,
        train=len(train.paths),
        held_out=len(test.paths),
        notes=(*notes, f"each image is resized to {size[1]} x {size[0]} pixels"),
    )
    return Data(_files(train, size), _files(test if test.paths else train, size), facts)


def parts(where: Path) -> tuple[str, str] | None:
    """The folders to learn from and to hold out, by their names, such as train and test; None where there are none.

    Raises:
        UserError: two folders are named for the same part.
    """
    if not where.is_dir():
        return None
    plain = {top.name: re.sub("[^a-z]", "", top.name.lower()) for top in sorted(where.iterdir()) if top.is_dir()}
    alike = [[name for name, word in plain.items() if pattern.fullmatch(word)] for pattern in (TRAIN, *TESTS)]
    train, test = alike[0], alike[1] or alike[2]
    if not train or not test:
        return None
    for names in (train, test):
        if len(names) > 1:
            raise UserError(f"{where} has the folders {' and '.join(names)} for one part: leave one of them in it")
    return train[0], test[0]


def _usable(folder: image_folders.ImageFolder, config: FitConfig, say: Say) -> image_folders.ImageFolder:
    """Without damaged images where those are to be skipped; else they are met, and named, while training."""
    return image_folders.usable(folder, "skip", say) if config.on_error == "skip" else folder


def _part(folder: image_folders.ImageFolder, mask: np.ndarray) -> image_folders.ImageFolder:
    paths = tuple(path for path, wanted in zip(folder.paths, mask, strict=True) if wanted)
    return replace(folder, paths=paths, labels=folder.labels[mask])


def _files(folder: image_folders.ImageFolder, size: tuple[int, int, int]) -> Source:
    """A source of image files."""

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return image_folders.decode(tf.io.read_file(path), size), label

    def damaged() -> str | None:
        found = image_folders.broken(folder.paths)
        return f"image {found[0][0]} is damaged ({found[0][1]}): --on-error skip leaves such out" if found else None

    names = [os.fsencode(path) for path in folder.paths]  # which need not be UTF-8
    elements = tf.data.Dataset.from_tensor_slices((names, folder.labels.astype(np.int32)))
    return Source(elements, len(folder.paths), load=read, diagnose=damaged)


def flowers(config: FitConfig, say: Say) -> Data:
    """Photographs of daisies, dandelions, roses, sunflowers and tulips. The TensorFlow team 2019."""
    if config.data_dir:
        return folder(config, say)
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError(
            f"flowers needs a folder of images, --data-dir, or TensorFlow Datasets: {install('data')}"
        ) from None
    builder = tfds.builder("tf_flowers")
    say("flowers: from TensorFlow Datasets' cache, or downloaded to it")
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(
            f"flowers cannot be downloaded ({str(error).splitlines()[0]}): name a folder of images with --data-dir"
        ) from None
    size, info = image_size_of(config), builder.info
    whole = builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    labels = np.array([int(example["label"]) for example in whole])
    return _selected(
        whole.map(lambda example: (example["image"], example["label"])),
        split(labels, config.holdout),
        lambda encoded, label: (image_folders.decode(encoded, size), tf.cast(label, tf.int32)),
        Facts(kind="classes", shape=size, classes=tuple(info.features["label"].names), train=0, held_out=0),
    )


def _selected(
    elements: tf.data.Dataset, held: np.ndarray, load: Callable[..., Any], facts: Facts, good: np.ndarray | bool = True
) -> Data:
    """A source that is read from its beginning, split by the examples' places; without those that are not good."""

    def part(mask: np.ndarray) -> Source:
        wanted = tf.constant(mask)
        chosen = elements.enumerate().filter(lambda i, _: wanted[i]).map(lambda _, element: element)
        return Source(chosen, int(mask.sum()), load=load)

    learned = ~held & good
    if not learned.any():
        raise UserError("nothing is left to learn from: a smaller holdout leaves more")
    train, held_out = part(learned), part(held if held.any() else learned)
    return Data(train, held_out, replace(facts, train=train.size, held_out=int(held.sum())))


def records(config: FitConfig, say: Say) -> Data:
    """What `tfrecord` wrote: images or arrays with a label, in the order of what they were made of."""
    found = reading.open_records(named_file(config))
    damaged = list(reading.damages(found))
    if damaged and config.on_error == "stop":
        raise damaged[0].error()
    for damage in damaged:
        say(f"{damage}: it and what follows in the file are left out")
    name, feature = _input(found)
    encoded = feature.dtype == "string"
    size = image_size_of(config) if encoded else feature.shape

    def load(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = found.parse(record)
        value = example[name]
        x = image_folders.decode(value, image_size_of(config)) if encoded else scaled(value)
        return x, tf.cast(example["label"], tf.int32)

    elements = found.dataset(damaged)
    labels, sizes = _measured(found, elements, name)
    classes = found.schema.classes or tuple(map(str, range(min(int(labels.max(initial=0)) + 1, len(labels)))))
    bad = _faults(labels, sizes, classes, name)
    good = np.isin(np.arange(len(labels)), [index for index, _ in bad], invert=True)
    notes: tuple[str, ...] = ()
    if bad:
        first, fault = bad[0]
        many = f"{int((~good).sum()):,} such"
        if config.on_error == "stop":
            raise UserError(f"{found.place(first, damaged)} {fault} ({many}); --on-error skip leaves such records out")
        notes = (f"left out: {found.place(first, damaged)} {fault} ({many})",)
    held = np.zeros(len(labels), np.bool_)
    held[good] = split(labels[good], config.holdout)
    absent = [name for i, name in enumerate(classes) if not np.any(labels[good] == i)]
    notes += tuple(f"no record is of the class {name}" for name in absent)
    facts = Facts(kind="classes", shape=size, classes=classes, train=0, held_out=0, notes=notes)

    def diagnose() -> str | None:
        damage = reading.first_damage(found)
        if damage:
            return str(damage)
        largest = int(np.argmax(np.where(good, sizes, 0.0)))
        if sizes[largest] < LARGE:
            return None
        value = f"a value of size {sizes[largest]:.3g} in {name}"
        return f"{found.place(largest, damaged)} has {value}: values of about 1 are learned best"

    data = _selected(elements, held, load, facts, good)
    return data._replace(train=data.train._replace(diagnose=diagnose))


def _input(found: reading.Records) -> tuple[str, Feature]:
    """The feature to learn from; UserError where there is not one beside a label that is the index of a class."""
    features, file = found.schema.features, found.files[0]
    names = [name for name in features if name not in ("label", "file")]
    if "label" not in features or len(names) != 1:
        raise UserError(f"{file} has the features {', '.join(features)}, expected label and one other")
    label = features["label"]
    if label.kind != "int64" or label.shape:
        shape = f" of shape {list(label.shape)}" if label.shape else ""
        raise UserError(
            f"{file}: label is {label.dtype}{shape}, expected one whole number, the index of a class (of one-hot "
            "labels the place of the 1)"
        )
    return names[0], features[names[0]]


def _measured(found: reading.Records, elements: tf.data.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Each record's label, [n] int64, and the size of its largest input, [n] float32; of images 1, of NaN NaN."""

    def measure(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = found.parse(records)
        value, label = example[name], tf.cast(example["label"], tf.int64)
        if value.dtype == tf.string:
            return label, tf.ones_like(label, tf.float32)
        rows = tf.abs(tf.reshape(scaled(value), [tf.shape(label)[0], -1]))
        finite = tf.reduce_all(tf.math.is_finite(rows), axis=1)
        return label, tf.where(finite, tf.reduce_max(rows, axis=1), math.nan)

    parts = [(label.numpy(), size.numpy()) for label, size in elements.batch(1_000).map(measure)]
    labels, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return labels, sizes


def _faults(labels: np.ndarray, sizes: np.ndarray, classes: tuple[str, ...], name: str) -> list[tuple[int, str]]:
    """The records with a label of no class or an input that is not finite, in order, each with its fault."""
    outside, infinite = (labels < 0) | (labels >= len(classes)), ~np.isfinite(sizes)
    expected = f"expected 0 to {len(classes) - 1}, the index of a class"
    number = f"has a value in {name} that is no finite number of 32 bits"
    return [
        (i, f"has the label {labels[i]}, {expected}" if outside[i] else number)
        for i in np.flatnonzero(outside | infinite).tolist()
    ]
