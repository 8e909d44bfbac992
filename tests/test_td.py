"""Targets and losses against values worked by hand, and against plain Python in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from rlkit import td

# Three transitions of three actions.
REWARD = [1.0, -2.0, 0.5]
Q_T = [[1.0, 2.0, 4.0], [3.0, -1.0, 0.0], [-1.0, -2.0, -3.0]]
SELECTOR = [[0.0, 5.0, 1.0], [1.0, 2.0, 2.0], [-7.0, -8.0, 0.0]]
# The largest of each row of Q_T: 4, 3, -1.
# The selector's best actions: 1, then 1 (tied with 2: the lowest wins), then 2; there Q_T has 2, -1, -3.
TARGETS = [
    # A terminated transition is worth its reward.
    ("q-learning", [0.0, 0.0, 0.0], [1.0, -2.0, 0.5]),
    ("double", [0.0, 0.0, 0.0], [1.0, -2.0, 0.5]),
    # 1 + 4/2, -2 + 3/2, 0.5 - 1/2
    ("q-learning", [0.5, 0.5, 0.5], [3.0, -0.5, 0.0]),
    # 1 + 2/2, -2 - 1/2, 0.5 - 3/2
    ("double", [0.5, 0.5, 0.5], [2.0, -2.5, -1.0]),
    # 1 + 4, -2 + 3, 0.5 - 1
    ("q-learning", [1.0, 1.0, 1.0], [5.0, 1.0, -0.5]),
    # 1 + 2, -2 - 1, 0.5 - 3
    ("double", [1.0, 1.0, 1.0], [3.0, -3.0, -2.5]),
    # Each row has a discount of its own: 1, -2 + 3/2, 0.5 - 1.
    ("q-learning", [0.0, 0.5, 1.0], [1.0, -0.5, -0.5]),
    # 1, -2 - 1/2, 0.5 - 3
    ("double", [0.0, 0.5, 1.0], [1.0, -2.5, -2.5]),
]


def target(rule: str, r: object, discount: object, q: object, selector: object) -> np.ndarray:
    r_t, discount_t, q_t, q_t_selector = (tf.constant(x, tf.float32) for x in (r, discount, q, selector))
    if rule == "double":
        return np.asarray(td.double_q_learning_target(r_t, discount_t, q_t, q_t_selector))
    return np.asarray(td.q_learning_target(r_t, discount_t, q_t))


@pytest.mark.parametrize(("rule", "discount", "expected"), TARGETS)
def test_targets_have_the_values_worked_by_hand(rule: str, discount: list[float], expected: list[float]) -> None:
    got = target(rule, REWARD, discount, Q_T, SELECTOR)
    assert got.shape == (3,)
    assert got.dtype == np.float32
    assert got.tolist() == expected  # halves and small whole numbers are exact in float32


def test_double_q_learning_with_one_network_is_q_learning() -> None:
    discount = [0.9, 0.5, 1.0]
    double = target("double", REWARD, discount, Q_T, Q_T)
    assert double.tolist() == target("q-learning", REWARD, discount, Q_T, Q_T).tolist()


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[float], list[float], list[list[float]], list[list[float]]]:
    rows, actions = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    value = st.floats(-100, 100, width=32, allow_subnormal=False)  # TensorFlow takes those for 0

    def table() -> list[list[float]]:
        row = st.lists(value, min_size=actions, max_size=actions)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    reward = draw(st.lists(value, min_size=rows, max_size=rows))
    discount = draw(st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=rows, max_size=rows))
    return reward, discount, table(), table()


@pytest.mark.parametrize("rule", ["q-learning", "double"])
@given(batch=batches())
def test_targets_are_those_of_plain_python(
    rule: str, batch: tuple[list[float], list[float], list[list[float]], list[list[float]]]
) -> None:
    reward, discount, q, selector = batch
    expected = []
    for r, gamma, values, choosing in zip(reward, discount, q, selector, strict=True):
        best = max(values)
        if rule == "double":
            best = values[choosing.index(max(choosing))]  # index finds the first of equals
        expected.append(r + gamma * best)
    # One rounding of the product and one of the sum, of numbers up to 200: 2^-24 x 200 each.
    np.testing.assert_allclose(target(rule, reward, discount, q, selector), expected, rtol=0, atol=2.5e-5)


@pytest.mark.parametrize("actions_dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("values_dtype", [tf.float32, tf.float64])
def test_select_takes_one_value_a_row(actions_dtype: tf.DType, values_dtype: tf.DType) -> None:
    q = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], values_dtype)
    chosen = td.select(q, tf.constant([2, 0], actions_dtype))
    assert chosen.dtype == values_dtype
    assert chosen.numpy().tolist() == [3.0, 4.0]


def test_only_the_selected_values_get_a_gradient() -> None:
    q = tf.Variable([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    with tf.GradientTape() as tape:
        chosen = td.select(q, tf.constant([2, 0]))
    assert tape.gradient(chosen, q).numpy().tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


# (loss, delta, TD error, value, gradient)
LOSSES = [
    ("huber", 1.0, 0.0, 0.0, 0.0),
    ("huber", 1.0, 0.5, 0.125, 0.5),  # 0.5^2 / 2
    ("huber", 1.0, -0.5, 0.125, -0.5),
    ("huber", 1.0, 1.0, 0.5, 1.0),  # the seam: 1 / 2
    ("huber", 1.0, 3.0, 2.5, 1.0),  # 1 / 2 + 1 x (3 - 1)
    ("huber", 1.0, -3.0, 2.5, -1.0),
    ("huber", 2.0, 1.0, 0.5, 1.0),  # 1 / 2
    ("huber", 2.0, -2.0, 2.0, -2.0),  # the seam: 4 / 2
    ("huber", 2.0, 3.0, 4.0, 2.0),  # 4 / 2 + 2 x (3 - 2)
    ("huber", 2.0, -5.0, 8.0, -2.0),  # 4 / 2 + 2 x (5 - 2)
    ("huber", 0.5, 2.0, 0.875, 0.5),  # 0.25 / 2 + 0.5 x (2 - 0.5)
    ("squared", math.inf, 3.0, 4.5, 3.0),  # 9 / 2
    ("squared", math.inf, -0.5, 0.125, -0.5),  # 0.25 / 2
    ("squared", math.inf, 0.0, 0.0, 0.0),
]


def loss_and_gradient(loss: str, delta: float, error: float) -> tuple[float, float]:
    x = tf.Variable(error, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = td.huber(x, delta) if loss == "huber" else td.squared(x)
    return float(value), float(tape.gradient(value, x))


@pytest.mark.parametrize(("loss", "delta", "error", "value", "gradient"), LOSSES)
def test_losses_and_their_gradients_have_the_values_worked_by_hand(
    loss: str, delta: float, error: float, value: float, gradient: float
) -> None:
    assert loss_and_gradient(loss, delta, error) == (value, gradient)


def test_huber_is_elementwise_and_has_delta_one_unless_told() -> None:
    assert td.huber(tf.constant([[0.5, -3.0], [0.0, 1.0]])).numpy().tolist() == [[0.125, 2.5], [0.0, 0.5]]


@given(error=st.floats(-1e3, 1e3, width=32, allow_subnormal=False), delta=st.floats(0.125, 8, width=32))
def test_the_gradient_of_huber_is_the_clipped_error(error: float, delta: float) -> None:
    value, gradient = loss_and_gradient("huber", delta, error)
    size = abs(error)
    expected = size * size / 2 if size <= delta else delta * (size - delta / 2)
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-37)
    # delta is added and subtracted on the way, which rounds to its 2^-24.
    assert gradient == pytest.approx(max(-delta, min(delta, error)), rel=1e-6, abs=delta * 2**-23)
