"""A written-out layer, loss and metric, held to Keras' own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.experiments.studies.custom_parts import Linear, MeanSquaredError, SparseCategoricalAccuracy


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 100))
def test_the_layer_is_a_dense_one(batch: int, inputs: int, units: int, seed: int) -> None:
    own, theirs, x = Linear(units), keras.layers.Dense(units), numbers(seed, batch, inputs)
    for layer in (own, theirs):
        layer.build((None, inputs))
        layer.set_weights([numbers(seed + 1, inputs, units), numbers(seed + 2, units)])
    np.testing.assert_allclose(own(x), theirs(x), rtol=1e-6)
    assert own.count_params() == theirs.count_params()


def test_the_layer_begins_at_its_initializer_and_comes_back_from_its_config() -> None:
    layer = Linear(3, keras.initializers.Constant(0.5), name="line")
    again = Linear.from_config(layer.get_config())
    for one in (layer, again):
        one.build((None, 2))
        np.testing.assert_array_equal(one.get_weights()[0], np.full((2, 3), 0.5))
        np.testing.assert_array_equal(one.get_weights()[1], np.zeros(3))
    assert again.name == "line"


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 5), st.booleans(), st.integers(0, 100))
def test_the_loss_is_keras_mean_squared_error(batch: int, size: int, weighted: bool, seed: int) -> None:
    y, predicted = numbers(seed, batch, size), numbers(seed + 1, batch, size)
    weights = np.abs(numbers(seed + 2, batch)) if weighted else None
    own, theirs = MeanSquaredError(), keras.losses.MeanSquaredError()
    assert float(own(y, predicted, weights)) == pytest.approx(float(theirs(y, predicted, weights)), rel=1e-5)
    if not weighted:
        assert float(own(y, predicted)) == pytest.approx(float(((y - predicted) ** 2).mean()), rel=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(2, 6), st.booleans(), st.integers(0, 100))
def test_the_metric_is_keras_accuracy_over_several_batches(n: int, classes: int, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    own, theirs = SparseCategoricalAccuracy(), keras.metrics.SparseCategoricalAccuracy()
    assert float(own.result()) == 0.0
    for metric in (own, theirs):
        draws = np.random.default_rng(seed)
        for _ in range(3):
            y, logits = draws.integers(0, classes, n), draws.normal(size=(n, classes))
            metric.update_state(y, logits, draws.random(n) if weighted else None)
    assert float(own.result()) == pytest.approx(float(theirs.result()), rel=1e-6)
    own.reset_state()
    own.update_state(rng.integers(0, classes, n), rng.normal(size=(n, classes)))
    assert 0 <= float(own.result()) <= 1
