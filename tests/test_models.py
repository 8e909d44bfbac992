"""Supervised models: the three styles make one model, and bad input is told in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from rlkit.errors import UserError
from rlkit.supervised import models
from rlkit.supervised.config import MODELS, CNNConfig, FitConfig, LinearConfig, LSTMConfig, MLPConfig, MobileNetConfig
from rlkit.supervised.description import Facts

DIGITS = Facts(kind="classes", shape=(8, 8, 1), classes=tuple("0123456789"), train=100, held_out=10)
TABLE = Facts(kind="numbers", shape=(3,), train=100, held_out=10)
TEXT = Facts(kind="text", shape=(5,), vocabulary="abcd", train=100, held_out=10)
PHOTOS = Facts(kind="classes", shape=(32, 32, 3), classes=("cat", "dog"), train=100, held_out=10)

SMALL: list[tuple[FitConfig, Facts]] = [
    (LinearConfig(initial="random"), DIGITS),
    (LinearConfig(initial="random"), TABLE),
    (MLPConfig(hidden=(7, 5)), DIGITS),
    (MLPConfig(hidden=(7,), dropout=0.5), TABLE),
    (CNNConfig(filters=(3, 4), kernel_size=3, hidden=(6,)), DIGITS),
    (LSTMConfig(units=6, dropout=0.5), TEXT),
]


def inputs(facts: Facts, count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    if facts.kind == "text":
        return rng.integers(0, len(facts.vocabulary), (count, *facts.shape)).astype(np.int32)
    return rng.random((count, *facts.shape), np.float32)


@pytest.mark.parametrize(("config", "facts"), SMALL)
def test_the_three_styles_make_the_same_model(config: FitConfig, facts: Facts) -> None:
    built = [models.build(config.replace(style=style), facts) for style in ("functional", "sequential", "subclass")]
    assert [type(model) for model in built] == [keras.src.models.Functional, keras.Sequential, models.Stack]
    first = built[0]
    for other in built[1:]:
        assert [w.shape for w in other.weights] == [w.shape for w in first.weights]
        for mine, theirs in zip(first.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_allclose(other(inputs(facts)), first(inputs(facts)), atol=1e-6)


@pytest.mark.parametrize(("config", "facts"), SMALL)
def test_weights_are_a_function_of_the_seed(config: FitConfig, facts: Facts) -> None:
    def kernels(seed: int) -> list[np.ndarray]:
        return [np.asarray(w) for w in models.build(config.replace(seed=seed), facts).trainable_weights if w.ndim > 1]

    for a, again, other in zip(kernels(1), kernels(1), kernels(2), strict=True):
        np.testing.assert_array_equal(a, again)
        assert not np.array_equal(a, other)
    assert len({k.tobytes() for k in kernels(1)}) == len(kernels(1))


@pytest.mark.parametrize(
    ("config", "facts", "shape", "parameters"),
    [
        (LinearConfig(), TABLE, (4, 1), 3 + 1),
        (MLPConfig(hidden=(100,)), DIGITS, (4, 10), 64 * 100 + 100 + 100 * 10 + 10),
        # 5 x 5 x 1 x 32 + 32, 5 x 5 x 32 x 64 + 64, then 2 x 2 x 64 places into 1,024, and 10 classes
        (CNNConfig(), DIGITS, (4, 10), 832 + 51_264 + 256 * 1024 + 1024 + 10_250),
        # an LSTM has four gates of inputs 4, state 256 and a bias
        (LSTMConfig(), TEXT, (4, 5, 4), 4 * 256 * (4 + 256 + 1) + 256 * 4 + 4),
    ],
)
def test_shapes_and_sizes_are_those_worked_out_by_hand(
    config: FitConfig, facts: Facts, shape: tuple[int, ...], parameters: int
) -> None:
    model = models.build(config, facts)
    assert model(inputs(facts)).shape == shape
    assert model.count_params() == parameters


def test_a_table_is_brought_to_one_scale_by_the_model_itself() -> None:
    facts = Facts(kind="numbers", shape=(2,), train=3, held_out=0, mean=(10.0, -1.0), deviation=(5.0, 0.0))
    model = models.build(LinearConfig(), facts)
    model.get_layer("logits").set_weights([np.array([[1.0], [0.0]]), np.array([0.5])])
    np.testing.assert_allclose(model(np.array([[20.0, -1.0]], np.float32)), [[2.5]], rtol=1e-6)


@pytest.mark.parametrize(("config", "facts"), SMALL)
def test_nothing_in_a_model_is_drawn_from_a_hidden_generator(config: FitConfig, facts: Facts) -> None:
    first, again = (models.build(config, facts) for _ in range(2))
    for a, b in zip(first.variables, again.variables, strict=True):  # weights, and the state of dropout
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)


def test_an_lstm_reads_sequences_of_any_length_and_sees_only_the_past() -> None:
    model, codes = models.build(LSTMConfig(units=6), TEXT), inputs(TEXT)
    np.testing.assert_allclose(model(codes[:, :3]), model(codes)[:, :3], atol=1e-6)


def test_a_mobilenet_takes_any_classes_and_its_seed_decides_every_kernel() -> None:
    config = MobileNetConfig(width=0.35)
    first, again, other = (models.build(config.replace(seed=seed), PHOTOS) for seed in (0, 0, 1))
    assert first(inputs(PHOTOS)).shape == (4, 2)
    for a, b, c in zip(first.get_weights(), again.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim < 2 or not np.array_equal(a, c)


def test_a_mobilenet_takes_given_weights_of_the_whole_or_of_all_but_the_classes(tmp_path: Path) -> None:
    config = MobileNetConfig(width=0.35, seed=3)
    whole = models.build(config, PHOTOS)
    whole.save_weights(tmp_path / "whole.weights.h5")
    given = models.build(MobileNetConfig(width=0.35, weights=str(tmp_path / "whole.weights.h5")), PHOTOS)
    for a, b in zip(whole.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    base = next(layer for layer in whole.layers if isinstance(layer, keras.Model))
    base.save_weights(tmp_path / "base.weights.h5")
    five = Facts(kind="classes", shape=(32, 32, 3), classes=tuple("abcde"), train=10, held_out=1)
    given = models.build(MobileNetConfig(width=0.35, weights=str(tmp_path / "base.weights.h5"), train_base=False), five)
    taken = next(layer for layer in given.layers if isinstance(layer, keras.Model))
    for a, b in zip(base.get_weights(), taken.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [w.name for w in given.trainable_weights] == ["kernel", "bias"]


@pytest.mark.parametrize(
    ("config", "facts", "sentence"),
    [
        (CNNConfig(), TABLE, r"examples are 3, expected images of 4 x 4 pixels"),
        (CNNConfig(filters=(1, 1, 1, 1)), DIGITS, r"8 x 8 x 1, expected images of 16 x 16"),
        (MobileNetConfig(), DIGITS, r"8 x 8 x 1, expected images of 32 x 32"),
        (MobileNetConfig(weights="nowhere.h5"), PHOTOS, r"weights is 'nowhere.h5', expected random, imagenet or"),
    ],
)
def test_data_that_a_model_cannot_take_are_refused(config: FitConfig, facts: Facts, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        models.build(config, facts)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    models.build(MLPConfig(hidden=(3,)), DIGITS).save_weights(tmp_path / "mlp.weights.h5")
    config = MobileNetConfig(width=0.35, weights=str(tmp_path / "mlp.weights.h5"))
    with pytest.raises(UserError, match=r"mlp.weights.h5 is of another model"):
        models.build(config, PHOTOS)


@pytest.mark.parametrize(("config", "facts"), SMALL)
@pytest.mark.parametrize("style", ["functional", "sequential", "subclass"])
def test_a_saved_model_comes_back_equal(config: FitConfig, facts: Facts, style: Any, tmp_path: Path) -> None:
    model = models.build(config.replace(style=style), facts)
    model.save(tmp_path / "model.keras")
    back = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(back(inputs(facts)), model(inputs(facts)))


def test_each_model_has_a_config_and_a_sentence() -> None:
    for name, entry in MODELS.items():
        assert issubclass(entry.config, FitConfig), name
        assert entry.summary.endswith("."), name
