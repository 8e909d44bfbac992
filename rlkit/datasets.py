"""Data sets by name: real ones that a package carries or that are downloaded, generated ones, and a user's files."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from rlkit import images, tables, tfrecord
from rlkit.data import Source
from rlkit.errors import UserError, unknown
from rlkit.fit_config import FitConfig, LSTMConfig, MobileNetConfig
from rlkit.seeding import Purpose, generator
from rlkit.text import encode, read_text, windows

Say = Callable[[str], None]
Pair = tuple[np.ndarray, np.ndarray]
"""Inputs and targets, row by row."""


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

    def to_json(self) -> str:
        """As text, for a file."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """The inverse of `to_json`; ValueError, TypeError or KeyError for anything else."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(text).items()})


class Data(NamedTuple):
    """A data set, split."""

    train: Source
    held_out: Source
    facts: Facts


def load(config: FitConfig, say: Say) -> Data:
    """The data set that a config names.

    Raises:
        UserError: there is no such data set, its files are missing or wrong, or it is nothing for the model.
    """
    if config.data not in LOADERS:
        raise unknown("data set", config.data, LOADERS)
    if config.data == "text" and not isinstance(config, LSTMConfig):
        raise UserError("the data set text is for the lstm model")
    data = LOADERS[config.data](config, say)
    if isinstance(config, LSTMConfig) and data.facts.kind != "text":
        raise UserError(f"the lstm model is for text, and the data set {config.data} is none")
    return data


def split(labels: np.ndarray, share: float) -> np.ndarray:
    """Which examples are held out, [n] bool: the same share of each class, the same ones each time."""
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = generator(0, Purpose.SPLIT, int(label)).permutation(len(members))
        held[members[order[: round(share * len(members))]]] = True
    return held


def _classes(train: Pair, held_out: Pair, classes: tuple[str, ...]) -> Data:
    """Classified arrays: inputs uint8, of which 255 becomes 1, or float; labels from 0."""
    sizes = {"train": len(train[0]), "held_out": len(held_out[0])}
    facts = Facts(kind="classes", shape=train[0].shape[1:], classes=classes, **sizes)
    return _arrays(train, held_out, facts)


def _arrays(train: Pair, held_out: Pair, facts: Facts) -> Data:
    if not len(train[0]):
        raise UserError("nothing is left to learn from: a smaller holdout leaves more")
    return Data(_held(*train), _held(*(held_out if len(held_out[0]) else train)), facts)


def _held(inputs: np.ndarray, targets: np.ndarray) -> Source:
    """A source of arrays in memory."""
    x, y = tf.constant(inputs), tf.constant(targets, tf.int32 if targets.dtype.kind in "iu" else tf.float32)

    def collect(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _scaled(tf.gather(x, places)), tf.gather(y, places)

    return Source(tf.data.Dataset.range(len(inputs)), len(inputs), collect=collect)


def _scaled(inputs: tf.Tensor) -> tf.Tensor:
    """As float32, in which 255 of uint8 is 1."""
    return tf.cast(inputs, tf.float32) / (255.0 if inputs.dtype == tf.uint8 else 1.0)


def _in_order(inputs: np.ndarray, targets: np.ndarray, share: float) -> tuple[Pair, Pair]:
    """The end of the arrays is held out."""
    first = len(inputs) - round(share * len(inputs))
    return (inputs[:first], targets[:first]), (inputs[first:], targets[first:])


DIGITS = tuple(map(str, range(10)))


def _mnist(config: FitConfig, say: Say) -> Data:
    if config.data_dir:
        train, test = _idx_folder(Path(config.data_dir))
    elif config.data_file:
        train, test = _npz(Path(config.data_file))
    else:
        import keras  # noqa: PLC0415 - the other data sets need none

        say("mnist: from Keras' cache, or downloaded to it")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                train, test = keras.datasets.mnist.load_data()
        except Exception as error:
            raise UserError(
                f"mnist cannot be downloaded ({str(error).splitlines()[0]}): name a copy with --data-file mnist.npz, "
                "or a folder of its idx files with --data-dir"
            ) from None
    if test is None:
        train, test = _in_order(*train, config.holdout)
    (x, y), (x_test, y_test) = train, test
    return _classes((x[..., None], y), (x_test[..., None], y_test), DIGITS)


def _npz(path: Path) -> tuple[Pair, Pair | None]:
    """x_train, y_train and, where they are there, x_test and y_test of an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UserError(f"data file {path} does not exist") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"data file {path} cannot be read as .npz: {error}") from None
    if not {"x_train", "y_train"} <= set(arrays):
        raise UserError(f"data file {path} has no x_train and y_train: it has {', '.join(sorted(arrays)) or 'nothing'}")
    pairs = [_digits_of(path, *(arrays.get(f"{part}_{name}") for part in "xy")) for name in ("train", "test")]
    assert pairs[0] is not None
    return pairs[0], pairs[1]


def _digits_of(path: Path, x: np.ndarray | None, y: np.ndarray | None) -> Pair | None:
    """Checked images and labels; None where there are none."""
    if x is None or y is None:
        return None
    if x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or x.dtype != np.uint8 or y.dtype.kind not in "iu":
        raise UserError(
            f"{path} holds arrays of shapes {x.shape} {x.dtype} and {y.shape} {y.dtype}, expected images "
            "(n, 28, 28) uint8 and n whole labels"
        )
    if y.size and (y.min() < 0 or y.max() > 9):
        raise UserError(f"{path} has a label {y.min() if y.min() < 0 else y.max()}, expected 0 to 9")
    return x, y


def _idx_folder(folder: Path) -> tuple[Pair, Pair | None]:
    """The idx files of the original data, compressed or not: both parts, or one of them."""
    if not folder.is_dir():
        raise UserError(f"data folder {folder} does not exist")
    parts = [
        _digits_of(folder, _idx(folder, f"{part}-images-idx3-ubyte"), _idx(folder, f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    ]
    first, second = parts if parts[0] else (parts[1], None)
    if first is None:
        raise UserError(f"data folder {folder} has neither train-images-idx3-ubyte(.gz) nor t10k-images-idx3-ubyte(.gz)")
    return first, second


def _idx(folder: Path, name: str) -> np.ndarray | None:
    """An array of bytes in the idx format: two zeros, the type, the number of axes, their lengths, the values."""
    for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if not path.exists():
            continue
        try:
            with opened(path, "rb") as file:  # type: ignore[operator] # both take these
                raw: bytes = file.read()
            axes = raw[3]
            shape = tuple(np.frombuffer(raw, ">u4", axes, 4))
            return np.frombuffer(raw, np.uint8, int(np.prod(shape)), 4 + 4 * axes).reshape(shape)
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise UserError(f"data file {path} cannot be read: {error}") from None
    return None


def _digits(config: FitConfig, say: Say) -> Data:
    del say
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError("digits needs scikit-learn: pip install 'rlkit[data]'") from None
    found = load_digits()
    x = (found.images[..., None] / 16).astype(np.float32)
    return _classes(*_in_order(x, found.target, config.holdout), DIGITS)


def _shapes(config: FitConfig, say: Say) -> Data:
    del say
    x, y = draw_shapes(1_500, config.image_size or _own_size(config, 32))
    return _classes(*_in_order(x, y, config.holdout), SHAPES)


SHAPES = ("circle", "square", "triangle")


def draw_shapes(count: int, size: int, seed: int = 0) -> Pair:
    """Drawn images of circles, squares and triangles in random places, sizes and colours on noise.

    Returns:
        Images [count, size, size, 3] uint8, and their places in `SHAPES`, [count] int64.
    """
    rng = generator(seed, Purpose.SHAPES)
    labels = np.arange(count) % len(SHAPES)
    grid = (np.arange(size) + 0.5) / size
    x, y = (part[None] for part in np.meshgrid(grid, grid))  # [1, size, size] each, from 0 to 1
    reach = rng.uniform(0.15, 0.3, (count, 1, 1))
    across, down = (part - rng.uniform(0.32, 0.68, (count, 1, 1)) for part in (x, y))
    inside = np.select(
        [labels[:, None, None] == i for i in range(3)],
        [
            across**2 + down**2 < reach**2,
            np.maximum(abs(across), abs(down)) < 0.85 * reach,
            (down < 0.75 * reach) & (2 * abs(across) < down + reach),
        ],
    )
    colours = rng.integers(0, 256, (2, count, 1, 1, 3))
    pictures = np.where(inside[..., None], colours[0], colours[1]) + rng.normal(0, 12, (count, size, size, 1))
    return np.clip(pictures, 0, 255).astype(np.uint8), labels


def _house_prices(config: FitConfig, say: Say) -> Data:
    del say
    x, y = (a[:, None] for a in (np.arange(2013.0, 2018.0), np.array([12000.0, 14000.0, 15000.0, 16500.0, 17500.0])))
    x, y = ((a - a.min()) / (a.max() - a.min()) for a in (x, y))
    train, held_out = _in_order(x.astype(np.float32), y.astype(np.float32), config.holdout)
    facts = Facts(kind="numbers", shape=(1,), train=len(train[0]), held_out=len(held_out[0]))
    return _arrays(train, held_out, facts)


def _csv(config: FitConfig, say: Say) -> Data:
    del say
    table = tables.read(_file(config), config.target, config.task)
    labels = table.targets if table.classes else np.zeros(len(table.targets), np.int64)
    held = split(labels, config.holdout)
    train, held_out = (table.inputs[~held], table.targets[~held]), (table.inputs[held], table.targets[held])
    facts = Facts(
        kind="classes" if table.classes else "numbers",
        shape=table.inputs.shape[1:],
        classes=table.classes,
        train=len(train[0]),
        held_out=len(held_out[0]),
        mean=tuple(map(float, train[0].mean(axis=0))),
        deviation=tuple(map(float, train[0].std(axis=0))),
    )
    if not table.classes:
        mean, deviation = float(train[1].mean()), float(train[1].std()) or 1.0
        facts = replace(facts, target_mean=mean, target_deviation=deviation)
        train, held_out = ((x, ((y - mean) / deviation)[:, None]) for x, y in (train, held_out))
    return _arrays(train, held_out, facts)


def _text(config: FitConfig, say: Say) -> Data:
    del say
    assert isinstance(config, LSTMConfig)
    path, length = _file(config), config.length
    text = read_text(path)
    text = text.lower() if config.lowercase else text
    vocabulary = "".join(sorted(set(text)))
    codes = encode(text, vocabulary)
    first = len(codes) - round(config.holdout * len(codes))
    parts = [codes[:first], codes[first:] if first < len(codes) else codes]
    short = min(map(len, parts))
    if short <= length:
        raise UserError(
            f"text file {path} is too short: one part has {short} characters, expected more than length, {length}"
        )
    train, held_out = windows(parts[0], length, 1), windows(parts[1], length, length)
    counts = {"train": train.size, "held_out": held_out.size if first < len(codes) else 0}
    return Data(train, held_out, Facts(kind="text", shape=(length,), vocabulary=vocabulary, **counts))


def _images(config: FitConfig, say: Say) -> Data:
    if not config.data_dir:
        raise UserError(f"the data set {config.data} is read from a folder: name it with --data-dir")
    folder, labels = Path(config.data_dir), Path(config.labels) if config.labels else None
    tests = [name for name in ("test", "validation", "valid", "val") if (folder / name).is_dir()]
    if (folder / "train").is_dir() and tests and labels is None:
        parts = [images.image_folder(folder / name) for name in ("train", tests[0])]
        if parts[0].classes != parts[1].classes:
            raise UserError(
                f"{folder / 'train'} and {folder / tests[0]} have other classes: {', '.join(parts[0].classes)}, and "
                f"{', '.join(parts[1].classes)}"
            )
        train, test = (_usable(part, config, say) for part in parts)
    else:
        whole = _usable(images.image_folder(folder, labels), config, say)
        held = split(whole.labels, config.holdout)
        train, test = _part(whole, ~held), _part(whole, held)
    size = _size(config)
    facts = Facts(
        kind="classes", shape=size, classes=train.classes, train=len(train.paths), held_out=len(test.paths)
    )
    return Data(_files(train, size), _files(test if test.paths else train, size), facts)


def _usable(folder: images.ImageFolder, config: FitConfig, say: Say) -> images.ImageFolder:
    """Without damaged images where those are to be skipped; else they are met, and named, while training."""
    return images.usable(folder, "skip", say) if config.on_error == "skip" else folder


def _part(folder: images.ImageFolder, mask: np.ndarray) -> images.ImageFolder:
    paths = tuple(path for path, wanted in zip(folder.paths, mask, strict=True) if wanted)
    return images.ImageFolder(paths, folder.labels[mask], folder.classes)


def _files(folder: images.ImageFolder, size: tuple[int, int, int]) -> Source:
    """A source of image files."""

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images.decode(tf.io.read_file(path), size), label

    def damaged() -> str | None:
        found = images.broken(folder.paths)
        return f"image {found[0][0]} is damaged ({found[0][1]}): --on-error skip leaves such out" if found else None

    elements = tf.data.Dataset.from_tensor_slices((list(folder.paths), folder.labels.astype(np.int32)))
    return Source(elements, len(folder.paths), load=read, diagnose=damaged)


def _flowers(config: FitConfig, say: Say) -> Data:
    if config.data_dir:
        return _images(config, say)
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError(
            "flowers needs a folder of images, --data-dir, or TensorFlow Datasets: pip install 'rlkit[data]'"
        ) from None
    builder = tfds.builder("tf_flowers")
    say("flowers: from TensorFlow Datasets' cache, or downloaded to it")
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(
            f"flowers cannot be downloaded ({str(error).splitlines()[0]}): name a folder of images with --data-dir"
        ) from None
    size, info = _size(config), builder.info
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
        unpack = (lambda element: load(*element)) if isinstance(elements.element_spec, tuple) else load
        size = int(mask.sum())
        return Source(chosen, size, load=lambda *e: unpack(e if len(e) > 1 else e[0]))

    if held.all():
        raise UserError("nothing is left to learn from: a smaller holdout leaves more")
    train, held_out = part(~held), part(held if held.any() else ~held)
    return Data(train, held_out, replace(facts, train=train.size, held_out=int(held.sum())))


def _tfrecord(config: FitConfig, say: Say) -> Data:
    records = tfrecord.open_records(_file(config))
    damaged = list(tfrecord.damages(records))
    if damaged and config.on_error == "stop":
        raise damaged[0].error()
    for damage in damaged:
        say(f"{damage}: it and what follows in the file are left out")
    features = records.schema.features
    names = [name for name in features if name not in ("label", "file")]
    if "label" not in features or features["label"].kind != "int64" or len(names) != 1:
        raise UserError(f"{config.data_file} has the features {', '.join(features)}, expected label and one other")
    (name,) = names
    encoded = features[name].dtype == "string"
    size = _size(config) if encoded else features[name].shape

    def load(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = records.parse(record)
        value = example[name]
        x = images.decode(value, size) if encoded else _scaled(value)
        return x, tf.cast(example["label"], tf.int32)

    elements = records.dataset(damaged)
    labels = np.concatenate(
        [batch.numpy() for batch in elements.batch(1_000).map(lambda record: records.parse(record)["label"])]
    )
    classes = records.schema.classes or tuple(map(str, range(int(labels.max()) + 1)))
    facts = Facts(kind="classes", shape=tuple(size), classes=classes, train=0, held_out=0)
    return _selected(elements, split(labels, config.holdout), load, facts)


def _file(config: FitConfig) -> Path:
    if not config.data_file:
        raise UserError(f"the data set {config.data} is read from a file: name it with --data-file")
    return Path(config.data_file)


def _own_size(config: FitConfig, otherwise: int) -> int:
    return 96 if isinstance(config, MobileNetConfig) else otherwise


def _size(config: FitConfig) -> tuple[int, int, int]:
    """Height, width and channels that images from files get."""
    side = config.image_size or _own_size(config, 64)
    return side, side, 3


LOADERS: dict[str, Callable[[FitConfig, Say], Data]] = {
    "mnist": _mnist,
    "digits": _digits,
    "flowers": _flowers,
    "cats-vs-dogs": _images,
    "images": _images,
    "tfrecord": _tfrecord,
    "shapes": _shapes,
    "house-prices": _house_prices,
    "csv": _csv,
    "text": _text,
}
"""What loads each of fit_config.DATA."""
