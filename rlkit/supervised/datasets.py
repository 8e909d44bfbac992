"""Data sets by name: real ones that a package carries or that are downloaded, drawn ones, and a user's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from rlkit.data import tables
from rlkit.errors import UserError, install, unknown
from rlkit.seeding import Purpose, generator
from rlkit.supervised import image_sets, mnist
from rlkit.supervised.config import FitConfig, LSTMConfig
from rlkit.supervised.description import (
    Data,
    Facts,
    Pair,
    Say,
    arrays,
    classified,
    in_order,
    named_file,
    own_size,
    split,
)
from rlkit.supervised.mnist import DIGITS
from rlkit.supervised.text import encode, read_text, windows


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


def _digits(config: FitConfig, say: Say) -> Data:
    del say
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError(f"digits needs scikit-learn: {install('data')}") from None
    found = load_digits()
    x = (found.images[..., None] / 16).astype(np.float32)
    return classified(*in_order(x, found.target, config.holdout), DIGITS)


def _shapes(config: FitConfig, say: Say) -> Data:
    del say
    x, y = draw_shapes(1_500, config.image_size or own_size(config, 32))
    return classified(*in_order(x, y, config.holdout), SHAPES)


SHAPES = ("circle", "square", "triangle")


def draw_shapes(count: int, size: int, seed: int = 0) -> Pair:
    """Drawn images of bright circles, squares and triangles in random places, sizes and colours, with noise.

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
    bright, dark = rng.integers(140, 256, (count, 1, 1, 3)), rng.integers(0, 110, (count, 1, 1, 3))
    pictures = np.where(inside[..., None], bright, dark) + rng.normal(0, 12, (count, size, size, 1))
    return np.clip(pictures, 0, 255).astype(np.uint8), labels


def _house_prices(config: FitConfig, say: Say) -> Data:
    del say
    x, y = (a[:, None] for a in (np.arange(2013.0, 2018.0), np.array([12000.0, 14000.0, 15000.0, 16500.0, 17500.0])))
    x, y = ((a - a.min()) / (a.max() - a.min()) for a in (x, y))
    train, held_out = in_order(x.astype(np.float32), y.astype(np.float32), config.holdout)
    facts = Facts(kind="numbers", shape=(1,), train=len(train[0]), held_out=len(held_out[0]))
    return arrays(train, held_out, facts)


def _csv(config: FitConfig, say: Say) -> Data:
    del say
    table = tables.read(named_file(config), config.target, config.task, config.on_error)
    labels = table.targets if table.classes else np.zeros(len(table.targets), np.int64)
    held = split(labels, config.holdout)
    dtype: Literal["float32", "float64"] = "float64" if tables.merged(table.inputs) else "float32"
    inputs = table.inputs.astype(dtype)
    train, held_out = (inputs[~held], table.targets[~held]), (inputs[held], table.targets[held])
    if not len(train[0]):
        raise UserError("nothing is left to learn from: a smaller holdout leaves more")
    mean, deviation = moments(table.inputs[~held])
    facts = Facts(
        kind="classes" if table.classes else "numbers",
        shape=inputs.shape[1:],
        classes=table.classes,
        train=len(train[0]),
        held_out=len(held_out[0]),
        mean=mean,
        deviation=deviation,
        dtype=dtype,
        notes=table.notes,
    )
    if not table.classes:
        (middle,), (unit,) = moments(train[1][:, None])
        unit = unit or 1.0
        facts = replace(facts, target_mean=middle, target_deviation=unit)
        train, held_out = ((x, ((y - middle) / unit)[:, None]) for x, y in (train, held_out))
    return arrays(train, held_out, facts)


def moments(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column of [n, columns] float64; 0 exactly for one that does not change."""
    deviation = np.where(np.ptp(values, axis=0) > 0, values.std(axis=0), 0.0)
    return tuple(map(float, values.mean(axis=0))), tuple(map(float, deviation))


def _text(config: FitConfig, say: Say) -> Data:
    del say
    assert isinstance(config, LSTMConfig)
    path, length = named_file(config), config.length
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
    held = held_out.size if first < len(codes) else 0
    facts = Facts(kind="text", shape=(length,), vocabulary=vocabulary, train=train.size, held_out=held)
    return Data(train, held_out, facts)


LOADERS: dict[str, Callable[[FitConfig, Say], Data]] = {
    "mnist": mnist.load,
    "digits": _digits,
    "flowers": image_sets.flowers,
    "cats-vs-dogs": image_sets.folder,
    "images": image_sets.folder,
    "tfrecord": image_sets.records,
    "shapes": _shapes,
    "house-prices": _house_prices,
    "csv": _csv,
    "text": _text,
}
"""What loads each of config.DATA."""
