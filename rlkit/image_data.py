"""Images from folders, from TensorFlow Datasets and from TFRecord files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlkit import images, tfrecord
from rlkit.data import Source
from rlkit.errors import UserError, install
from rlkit.facts import Data, Facts, Say, image_size_of, named_file, scaled, split
from rlkit.fit_config import FitConfig

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
        train, test = (_usable(images.image_folder(where / name), config, say) for name in names)
        if train.classes != test.classes:
            raise UserError(
                f"{where / names[0]} and {where / names[1]} have other classes: {', '.join(train.classes)}, and "
                f"{', '.join(test.classes)}"
            )
        unused = sorted(top.name for top in where.iterdir() if top.is_dir() and top.name not in names)
        more = f"; not used: {', '.join(unused)}" if unused else ""
        notes = (f"learned from: {where / names[0]}; held out: {where / names[1]}{more}", *images.described(train))
        notes += tuple(f"{where / names[1]}: {note}" for note in images.described(test))
    else:
        whole = _usable(images.image_folder(where, labels), config, say)
        held = split(whole.labels, config.holdout)
        train, test, notes = _part(whole, ~held), _part(whole, held), images.described(whole)
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


def _usable(folder: images.ImageFolder, config: FitConfig, say: Say) -> images.ImageFolder:
    """Without damaged images where those are to be skipped; else they are met, and named, while training."""
    return images.usable(folder, "skip", say) if config.on_error == "skip" else folder


def _part(folder: images.ImageFolder, mask: np.ndarray) -> images.ImageFolder:
    paths = tuple(path for path, wanted in zip(folder.paths, mask, strict=True) if wanted)
    return replace(folder, paths=paths, labels=folder.labels[mask])


def _files(folder: images.ImageFolder, size: tuple[int, int, int]) -> Source:
    """A source of image files."""

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images.decode(tf.io.read_file(path), size), label

    def damaged() -> str | None:
        found = images.broken(folder.paths)
        return f"image {found[0][0]} is damaged ({found[0][1]}): --on-error skip leaves such out" if found else None

    elements = tf.data.Dataset.from_tensor_slices((list(folder.paths), folder.labels.astype(np.int32)))
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
        lambda encoded, label: (images.decode(encoded, size), tf.cast(label, tf.int32)),
        Facts(kind="classes", shape=size, classes=tuple(info.features["label"].names), train=0, held_out=0),
    )


def _selected(elements: tf.data.Dataset, held: np.ndarray, load: Callable[..., Any], facts: Facts) -> Data:
    """A source that is read from its beginning, split by the examples' places."""

    def part(mask: np.ndarray) -> Source:
        wanted = tf.constant(mask)
        chosen = elements.enumerate().filter(lambda i, _: wanted[i]).map(lambda _, element: element)
        return Source(chosen, int(mask.sum()), load=load)

    if held.all():
        raise UserError("nothing is left to learn from: a smaller holdout leaves more")
    train, held_out = part(~held), part(held if held.any() else ~held)
    return Data(train, held_out, replace(facts, train=train.size, held_out=int(held.sum())))


def records(config: FitConfig, say: Say) -> Data:
    """What `tfrecord` wrote: images or arrays with a label, in the order of what they were made of."""
    found = tfrecord.open_records(named_file(config))
    damaged = list(tfrecord.damages(found))
    if damaged and config.on_error == "stop":
        raise damaged[0].error()
    for damage in damaged:
        say(f"{damage}: it and what follows in the file are left out")
    features = found.schema.features
    names = [name for name in features if name not in ("label", "file")]
    if "label" not in features or features["label"].kind != "int64" or len(names) != 1:
        raise UserError(f"{config.data_file} has the features {', '.join(features)}, expected label and one other")
    (name,) = names
    encoded = features[name].dtype == "string"
    size = image_size_of(config) if encoded else tuple(features[name].shape)

    def load(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = found.parse(record)
        value = example[name]
        x = images.decode(value, image_size_of(config)) if encoded else scaled(value)
        return x, tf.cast(example["label"], tf.int32)

    elements = found.dataset(damaged)
    labels = np.concatenate(
        [batch.numpy() for batch in elements.batch(1_000).map(lambda record: found.parse(record)["label"])]
    )
    classes = found.schema.classes or tuple(map(str, range(int(labels.max()) + 1)))
    facts = Facts(kind="classes", shape=size, classes=classes, train=0, held_out=0)

    def diagnose() -> str | None:
        damage = tfrecord.first_damage(found)
        return damage and str(damage)

    data = _selected(elements, split(labels, config.holdout), load, facts)
    return data._replace(train=data.train._replace(diagnose=diagnose))
