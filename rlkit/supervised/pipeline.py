"""Input pipelines in tf.data: what comes is a function of (seed, epoch, place), so a run goes on in mid-epoch.

Letters: B batch.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlkit.random_bits import draws, fraction
from rlkit.seeding import Purpose
from rlkit.supervised.config import FitConfig


class Source(NamedTuple):
    """Where examples come from: elements in a fixed order, cheap to skip, and how examples are made of them."""

    elements: tf.data.Dataset
    """Such as indices, file names or serialized records."""
    size: int
    """How many there are."""
    load: Callable[..., Any] | None = None
    """From one element to an example (x, y): reads and decodes."""
    collect: Callable[..., Any] | None = None
    """From a batch of elements, or of what `load` made of them, to a batch of examples (x, y)."""
    diagnose: Callable[[], str | None] = lambda: None
    """The first fault of the data, in one sentence; None if there is none. Asked after an error and a loss of NaN."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images that leave what they show.

    Args:
        seed: of the draws.
        rotation: largest angle, degrees.
        shift: largest move, a share of height and width.
        zoom: largest change of scale, a share.
        flip: mirror, left to right, with probability 1/2.
        brightness: largest change of all pixels, of which white is 1.
    """

    seed: int
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    flip: bool = False
    brightness: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether pixels change places."""
        return bool(self.rotation or self.shift or self.zoom or self.flip)

    def __call__(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Images [B, h, w, c] in [0, 1] as they come at a step: each with draws of its own."""
        bits = draws(self.seed, Purpose.AUGMENTATION, step, [6, int(images.shape[0])])
        turn, down, right, scale, mirror, light = tf.unstack(2.0 * fraction(bits) - 1.0)  # [B] each, in [-1, 1)
        if self.moves:
            images = self._moved(images, turn, down, right, scale, mirror)
        if self.brightness:
            images = tf.clip_by_value(images + self.brightness * light[:, None, None, None], 0.0, 1.0)
        return images

    def _moved(
        self, images: tf.Tensor, turn: tf.Tensor, down: tf.Tensor, right: tf.Tensor, scale: tf.Tensor, mirror: tf.Tensor
    ) -> tf.Tensor:
        """Images under an affine map about their middle; what comes into view is black."""
        height, width = (float(n) for n in images.shape[1:3])
        angle = turn * (self.rotation * 3.141592653589793 / 180.0)
        size = 1.0 / (1.0 + self.zoom * scale)
        sign = tf.where(mirror < 0.0, -1.0, 1.0) if self.flip else tf.ones_like(mirror)
        a, b = size * tf.cos(angle) * sign, -size * tf.sin(angle)
        c, d = size * tf.sin(angle) * sign, size * tf.cos(angle)
        x, y = (width - 1.0) / 2.0, (height - 1.0) / 2.0  # the middle stays, then the image is shifted
        to_x = x - a * x - b * y + right * (self.shift * width)
        to_y = y - c * x - d * y + down * (self.shift * height)
        zero = tf.zeros_like(a)
        transforms = tf.stack([a, b, to_x, c, d, to_y, zero, zero], axis=1)  # [B, 8]: output's places to input's
        return keras.ops.image.affine_transform(images, transforms, interpolation="bilinear", fill_mode="constant")


class Pipeline:
    """Batches of a source, epoch by epoch.

    Args:
        source: of the examples.
        config: batch size, shuffling, and how it is done: parallel, prefetch, cache.
        augmentation: of images, or None.
    """

    def __init__(self, source: Source, config: FitConfig, augmentation: Augmentation | None = None) -> None:
        self.source, self.config, self.augmentation = source, config, augmentation
        self.batch_size = min(config.batch_size, source.size)
        self.batches = source.size // self.batch_size
        self._workers = tf.data.AUTOTUNE if config.parallel else None
        self._elements, self._load = source.elements, source.load
        if config.cache != "none" and source.load:
            cached = source.elements.map(source.load, num_parallel_calls=self._workers)
            self._elements = cached.cache(self._cache_file() if config.cache == "disk" else "")
            self._load = None

    def _cache_file(self) -> str:
        """A file in a folder that goes with the pipeline."""
        folder = tempfile.mkdtemp(prefix="rlkit-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return str(Path(folder) / "cache")

    def stream(self, step: int) -> tf.data.Dataset:
        """Batches (x, y), all of B examples, epoch after epoch without end, from the batch of this step on.

        Each epoch leaves out the few examples that do not fill a batch, others each time.
        """
        first, start = divmod(step, self.batches)
        held, most, size = self.batches * self.batch_size, min(self.config.shuffle, self.source.size), self.batch_size

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            elements = self._elements
            if most:
                bits = draws(self.config.seed, Purpose.SHUFFLE, number, [1])
                elements = elements.shuffle(most, seed=tf.cast(bits[0], tf.int64), reshuffle_each_iteration=False)
            return elements.take(held).skip(tf.where(number == first, tf.cast(start * size, tf.int64), 0))

        epochs = tf.data.Dataset.range(first, 2**62).flat_map(epoch)
        batches = self._batched(epochs, drop_remainder=True)
        if self.augmentation:
            batches = self._augmented(batches, step)
        return self._finished(batches)

    def once(self) -> tf.data.Dataset:
        """Every example once, in order and as it is; the last batch may be smaller."""
        return self._finished(self._batched(self._elements, drop_remainder=False))

    def _finished(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """With prefetching or without; TensorFlow would add what was left out, if it were not told to leave it so."""
        options = tf.data.Options()
        options.experimental_optimization.map_parallelization = self.config.parallel
        options.experimental_optimization.inject_prefetch = self.config.prefetch
        return (batches.prefetch(tf.data.AUTOTUNE) if self.config.prefetch else batches).with_options(options)

    def _batched(self, elements: tf.data.Dataset, *, drop_remainder: bool) -> tf.data.Dataset:
        if self._load:
            elements = elements.map(self._load, num_parallel_calls=self._workers)
        batches = elements.batch(self.batch_size, drop_remainder=drop_remainder)
        if self.source.collect:
            batches = batches.map(self.source.collect, num_parallel_calls=self._workers)
        return batches

    def _augmented(self, batches: tf.data.Dataset, step: int) -> tf.data.Dataset:
        augmentation = self.augmentation
        assert augmentation is not None

        def augment(at: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            return augmentation(batch[0], at), batch[1]

        return batches.enumerate(step).map(augment, num_parallel_calls=self._workers)


def augmentation(config: FitConfig) -> Augmentation | None:
    """What a config asks for; None for nothing."""
    c = config
    found = Augmentation(c.seed, c.rotation, c.shift, c.zoom, c.flip, c.brightness)
    return found if found != Augmentation(c.seed) else None
