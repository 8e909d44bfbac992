"""Input pipelines: every example once an epoch, in an order by seed, from any step on; and images changed as told."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rlkit.supervised.config import MLPConfig
from rlkit.supervised.pipeline import Augmentation, Pipeline, Source, augmentation


def numbers(size: int) -> Source:
    """The numbers from 0, each beside its square."""
    return Source(tf.data.Dataset.range(size), size, load=lambda x: (x, x * x))


def config(**fields: Any) -> MLPConfig:
    return MLPConfig(**{"batch_size": 4, **fields})


def drawn(pipeline: Pipeline, step: int, count: int) -> list[list[int]]:
    return [x.numpy().tolist() for x, _ in itertools.islice(pipeline.stream(step), count)]


# ---- order


@settings(max_examples=15)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 40), st.integers(0, 5))
def test_an_epoch_has_each_example_once_less_what_fills_no_batch(
    size: int, batch: int, shuffle: int, seed: int
) -> None:
    pipeline = Pipeline(numbers(size), config(batch_size=batch, shuffle=shuffle, seed=seed))
    assert pipeline.batch_size == min(batch, size)
    epochs = drawn(pipeline, 0, 3 * pipeline.batches)
    for i in range(3):
        seen = list(itertools.chain(*epochs[i * pipeline.batches : (i + 1) * pipeline.batches]))
        assert len(set(seen)) == len(seen) == pipeline.batches * pipeline.batch_size
        assert set(seen) <= set(range(size))


@settings(max_examples=15)
@given(st.integers(1, 25), st.integers(1, 7), st.integers(0, 30), st.integers(0, 20))
def test_the_stream_from_a_step_is_the_rest_of_the_whole(size: int, batch: int, shuffle: int, step: int) -> None:
    pipeline = Pipeline(numbers(size), config(batch_size=batch, shuffle=shuffle))
    assert drawn(pipeline, step, 4) == drawn(pipeline, 0, step + 4)[step:]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        pipeline = Pipeline(numbers(40), config(seed=seed))
        return list(itertools.chain(*drawn(pipeline, number * pipeline.batches, pipeline.batches)))

    assert epoch(0, 0) == epoch(0, 0)
    assert len({tuple(epoch(seed, number)) for seed in range(3) for number in range(3)}) == 9


def test_without_shuffling_the_order_is_the_datas() -> None:
    assert drawn(Pipeline(numbers(10), config(shuffle=0)), 0, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_an_order_from_few_examples_stays_near() -> None:
    found = list(itertools.chain(*drawn(Pipeline(numbers(400), config(shuffle=10)), 0, 100)))
    assert all(number <= place + 10 for place, number in enumerate(found))
    assert found != sorted(found)


@pytest.mark.parametrize("fields", [{"parallel": False}, {"prefetch": False}, {"cache": "memory"}, {"cache": "disk"}])
def test_settings_change_no_batch(fields: dict[str, Any]) -> None:
    assert drawn(Pipeline(numbers(30), config(**fields)), 3, 20) == drawn(Pipeline(numbers(30), config()), 3, 20)


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_a_cache_decodes_each_example_once(cache: Any) -> None:
    decoded: list[int] = []

    def load(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.numpy_function(lambda n: (decoded.append(n), n)[1], [x], tf.int64), x  # type: ignore[func-returns-value]

    source = Source(tf.data.Dataset.range(12), 12, load=load)
    drawn(Pipeline(source, config(cache=cache, prefetch=False, parallel=False)), 0, 9)
    assert len(decoded) >= 36 if cache == "none" else len(decoded) == 12


def test_once_is_every_example_in_order_with_a_smaller_last_batch() -> None:
    batches = [(x.numpy().tolist(), y.numpy().tolist()) for x, y in Pipeline(numbers(10), config()).once()]
    assert [x for x, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[2][1] == [64, 81]


def test_batches_are_of_a_known_shape() -> None:
    assert Pipeline(numbers(10), config()).stream(0).element_spec[0].shape == (4,)


def test_what_is_skipped_is_not_decoded() -> None:
    decoded: list[int] = []

    def load(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.numpy_function(lambda n: (decoded.append(n), n)[1], [x], tf.int64), x  # type: ignore[func-returns-value]

    pipeline = Pipeline(Source(tf.data.Dataset.range(40), 40, load=load), config(prefetch=False, parallel=False))
    drawn(pipeline, 8, 1)
    assert len(decoded) < 10


# ---- augmentation

IMAGES = np.random.default_rng(0).random((6, 9, 9, 1)).astype(np.float32)


def moved(turn: float = 0, down: float = 0, right: float = 0, scale: float = 0, mirror: float = 1, **most: Any) -> Any:
    """The images by draws that are given, in [-1, 1)."""
    changes = Augmentation(0, **most)
    draws = (tf.fill([6], float(value)) for value in (turn, down, right, scale, mirror))
    return np.asarray(changes._moved(tf.constant(IMAGES), *draws))


def test_a_quarter_turn_is_numpys() -> None:
    np.testing.assert_allclose(moved(turn=1, rotation=90), np.rot90(IMAGES, 1, axes=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("degrees", [17.0, -31.0])
def test_a_turn_is_scipys(degrees: float) -> None:
    found = moved(turn=np.sign(degrees), rotation=abs(degrees))
    for image, turned in zip(IMAGES, found, strict=True):
        expected = ndimage.rotate(image[..., 0], degrees, reshape=False, order=1, mode="constant")
        np.testing.assert_allclose(turned[2:-2, 2:-2, 0], expected[2:-2, 2:-2], atol=1e-4)


def test_a_shift_moves_whole_pixels_and_leaves_black() -> None:
    found = moved(down=-1, right=-1, shift=2 / 9)  # what is read lies 2 pixels up and left: the image moves down, right
    np.testing.assert_allclose(found[:, 2:, 2:], IMAGES[:, :-2, :-2], atol=1e-5)
    assert not found[:, :2].any()
    assert not found[:, :, :2].any()


def test_a_mirrored_image_is_numpys_flip() -> None:
    np.testing.assert_allclose(moved(mirror=-1, flip=True), IMAGES[:, :, ::-1], atol=1e-5)
    np.testing.assert_allclose(moved(mirror=1, flip=True), IMAGES, atol=1e-5)


def test_a_larger_scale_shows_the_middle() -> None:
    found = moved(scale=1, zoom=0.5)
    np.testing.assert_allclose(found[:, 4, 4], IMAGES[:, 4, 4], atol=1e-5)
    np.testing.assert_allclose(found[:, 4, 1], IMAGES[:, 4, 2], atol=1e-5)  # 3 pixels from the middle were 2


def test_brightness_stays_within_black_and_white() -> None:
    changes = Augmentation(0, brightness=0.4)
    found = np.asarray(changes(tf.constant(IMAGES), tf.constant(3, tf.int64)))
    assert found.min() >= 0
    assert found.max() <= 1
    for image, lighter in zip(IMAGES, found, strict=True):
        steps = (lighter - image)[(lighter > 0) & (lighter < 1)]
        assert np.ptp(steps) < 1e-6, "all pixels of an image change by the same"
        assert abs(steps[0]) <= 0.4


def test_each_image_has_draws_of_its_own_by_seed_and_step() -> None:
    same = tf.constant(np.repeat(IMAGES[:1], 6, axis=0))

    def changed(seed: int, step: int) -> np.ndarray:
        return np.asarray(Augmentation(seed, rotation=40.0, shift=0.1)(same, tf.constant(step, tf.int64)))

    np.testing.assert_array_equal(changed(0, 5), changed(0, 5))
    pictures = [image.tobytes() for seed, step in ((0, 5), (0, 6), (1, 5)) for image in changed(seed, step)]
    assert len(set(pictures)) == 18


def test_augmented_streams_go_on_as_they_were_and_leave_labels() -> None:
    fields = config(rotation=30.0, flip=True, brightness=0.1, batch_size=3)
    source = Source(tf.data.Dataset.range(6), 6, collect=lambda i: (tf.gather(tf.constant(IMAGES), i), i))
    pipeline = Pipeline(source, fields, augmentation(fields))
    whole = list(itertools.islice(pipeline.stream(0), 8))
    for (x, y), (again, label) in zip(whole[5:], itertools.islice(pipeline.stream(5), 3), strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, label)
    plain = list(itertools.islice(Pipeline(source, fields).stream(0), 8))
    for (x, y), (untouched, label) in zip(whole, plain, strict=True):
        np.testing.assert_array_equal(y, label)
        assert not np.array_equal(x, untouched)
    assert augmentation(config()) is None


def test_a_disk_cache_goes_with_its_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipeline = Pipeline(numbers(10), config(cache="disk"))
    drawn(pipeline, 0, 2)
    assert len(list(tmp_path.iterdir())) == 1
    del pipeline
    gc.collect()
    assert not list(tmp_path.iterdir())
