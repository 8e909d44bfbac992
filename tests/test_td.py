"""Targets and losses against values worked by hand, and against plain Python in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from rlkit.learning import td

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


def test_select_returns_takes_what_describes_one_action() -> None:
    returns = tf.reshape(tf.range(12.0), [2, 3, 2])
    assert td.select_returns(returns, tf.constant([2, 0])).numpy().tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_weights_scale_losses_where_there_are_any() -> None:
    losses = tf.constant([1.0, 2.0])
    assert td.weighted(losses, ()) is losses
    assert td.weighted(losses, tf.constant([0.5, 0.25])).numpy().tolist() == [0.5, 0.5]


# Atoms -1, 0, 1, 2 with probabilities 1/8, 1/8, 1/4, 1/2.
# (reward, discount, target's probabilities)
PROJECTIONS = [
    (0.0, 1.0, [0.125, 0.125, 0.25, 0.5]),  # as they are
    (1.0, 1.0, [0.0, 0.125, 0.125, 0.75]),  # one atom up; 3 is cut to 2
    (-5.0, 1.0, [1.0, 0.0, 0.0, 0.0]),  # all below the lowest
    (0.0, 0.0, [0.0, 1.0, 0.0, 0.0]),  # terminated: the reward alone
    (0.25, 0.0, [0.0, 0.75, 0.25, 0.0]),  # a quarter of the way from 0 to 1
    # -1/2, 0, 1/2 and 1: of 1/8 half to -1 and half to 0; 1/8 to 0; of 1/4 half to 0 and half to 1; 1/2 to 1
    (0.0, 0.5, [0.0625, 0.0625 + 0.125 + 0.125, 0.125 + 0.5, 0.0]),
]


def test_categorical_targets_have_the_values_worked_by_hand() -> None:
    reward, discount, expected = (tf.constant(part) for part in zip(*PROJECTIONS, strict=True))
    probabilities = tf.constant([[0.125, 0.125, 0.25, 0.5]] * len(PROJECTIONS))
    target = td.categorical_target(reward, discount, probabilities, tf.constant([-1.0, 0.0, 1.0, 2.0]))
    assert target.numpy().tolist() == expected.numpy().tolist()


@given(
    reward=st.floats(-30, 30, width=32),
    discount=st.floats(0, 1, width=32, allow_subnormal=False),
    logits=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=60),
    low=st.floats(-10, 9, width=32),
    width=st.floats(0.5, 20, width=32),
)
def test_a_categorical_target_is_that_of_algorithm_1(
    reward: float, discount: float, logits: list[float], low: float, width: float
) -> None:
    atoms = np.linspace(low, low + width, len(logits)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum()
    target = np.asarray(
        td.categorical_target(
            tf.constant([reward]), tf.constant([discount]), tf.constant(p[None], tf.float32), tf.constant(atoms)
        )
    )[0]
    z, expected = atoms.astype(np.float64), np.zeros(len(logits))
    distance = (z[-1] - z[0]) / (len(z) - 1)
    for j, mass in enumerate(p):  # Bellemare et al. 2017, algorithm 1
        place = (min(max(reward + discount * z[j], z[0]), z[-1]) - z[0]) / distance
        lower, upper = math.floor(place), min(math.ceil(place), len(z) - 1)
        expected[lower] += mass * (upper - place if upper > lower else 1)
        expected[upper] += mass * (place - lower)
    # Returns up to 60 are rounded to 2^-19 of them, which is 2^-12 of the least distance, 0.5 / 59.
    np.testing.assert_allclose(target, expected, atol=2e-3)
    assert target.sum() == pytest.approx(1, abs=1e-3)
    assert (target >= 0).all()


# log 2 = 0.693147, log 4 = 1.386294. Predicted 1/4, 1/4, 1/2:
#   a certain first atom: -log 1/4; half and half of the first two: log 4 - log 2; as predicted: 0
@pytest.mark.parametrize(
    ("target", "loss"), [([1.0, 0.0, 0.0], 1.386294), ([0.5, 0.5, 0.0], 0.693147), ([0.25, 0.25, 0.5], 0.0)]
)
def test_categorical_losses_have_the_values_worked_by_hand(target: list[float], loss: float) -> None:
    logits = tf.Variable([[3.0, 3.0, 3.0 + math.log(2)]])  # what is added to all of them makes no difference
    with tf.GradientTape() as tape:
        found = td.categorical_loss(logits, tf.constant([target]))
    assert found.shape == (1,)
    assert float(found[0]) == pytest.approx(loss, abs=1e-5)
    # the gradient of a cross-entropy: predicted less target probabilities
    np.testing.assert_allclose(tape.gradient(found, logits), [np.array([0.25, 0.25, 0.5]) - target], atol=1e-6)


# Quantiles 0 and 2 of fractions 1/4 and 3/4, target's samples -1/2 and 4. Pairs (u, |tau - [u < 0]|, huber):
#   0: -1/2 (3/4, 1/8), 4 (1/4, 7/2): mean (3/32 + 28/32) / 2 = 31/64
#   2: -5/2 (1/4, 2), 2 (3/4, 3/2): mean (1/2 + 9/8) / 2 = 13/16
def test_a_quantile_loss_has_the_value_worked_by_hand() -> None:
    quantiles = tf.Variable([[0.0, 2.0]])
    with tf.GradientTape() as tape:
        loss = td.quantile_loss(quantiles, tf.constant([0.25, 0.75]), tf.constant([[-0.5, 4.0]]))
    assert loss.numpy().tolist() == [31 / 64 + 13 / 16]
    # minus the mean of the weighted errors cut to [-1, 1]: -(-3/8 + 1/4) / 2 and -(-1/4 + 3/4) / 2
    assert tape.gradient(loss, quantiles).numpy().tolist() == [[0.0625, -0.25]]


@pytest.mark.parametrize("each", [False, True])
def test_quantile_losses_are_those_of_plain_python(each: bool) -> None:
    rng = np.random.default_rng(int(each))
    theta, target = rng.normal(0, 2, (4, 5)), rng.normal(0, 2, (4, 3))
    fractions = rng.uniform(size=(4, 5) if each else 5)
    expected = np.zeros(4)
    for b, i, j in np.ndindex(4, 5, 3):
        u = target[b, j] - theta[b, i]
        tau = fractions[b, i] if each else fractions[i]
        inner = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
        expected[b] += abs(tau - float(u < 0)) * inner / 3
    found = td.quantile_loss(*(tf.constant(part, tf.float32) for part in (theta, fractions, target)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---- ranks

B, COLUMN = tf.ones([2]), tf.ones([2, 1])
Q, ACTIONS, RETURNS = tf.ones([2, 3]), tf.zeros([2], tf.int32), tf.ones([2, 3, 4])


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (td.select, (Q, ACTIONS[:, None]), "q"),
        (td.select, (RETURNS, ACTIONS), "q"),
        (td.select_returns, (Q, ACTIONS), "returns"),
        (td.q_learning_target, (COLUMN, B, Q), "discount_t"),
        (td.q_learning_target, (B, COLUMN, Q), "discount_t"),
        (td.q_learning_target, (B, B, B), "q_t"),
        (td.double_q_learning_target, (COLUMN, B, Q, Q), "discount_t"),
        (td.double_q_learning_target, (B, B, Q, RETURNS), "q_t_selector"),
        (td.categorical_target, (B, COLUMN, Q, tf.linspace(0.0, 1.0, 3)), "discount_t"),
        (td.categorical_target, (B, B, RETURNS, tf.linspace(0.0, 1.0, 3)), "probabilities_t"),
        (td.categorical_loss, (Q, Q[:, None]), "target"),
        (td.quantile_loss, (Q, B, RETURNS), "target"),
        (td.weighted, (B, COLUMN), "weight"),
        (td.corrected_mean, (COLUMN, B), "correction"),
        (td.lambda_returns, (Q, Q, RETURNS, Q > 0, 0.5), "v_t"),
    ],
)
def test_another_rank_is_refused(function: Any, arguments: tuple[Any, ...], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} has shape \(.*\); expected \d dimensions, as "):
        function(*arguments)


def test_a_column_of_actions_is_refused_while_a_function_is_traced() -> None:
    signature = [tf.TensorSpec([None, 3]), tf.TensorSpec([None, 1], tf.int32)]
    traced = tf.function(td.select, input_signature=signature, autograph=False)
    with pytest.raises(
        ValueError, match=r"^q has shape \(None, 3\); expected 3 dimensions, as actions has shape \(None, 1\)$"
    ):
        traced.get_concrete_function()
