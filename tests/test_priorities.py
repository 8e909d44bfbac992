"""Draws by priority against probabilities computed the slow way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.recurrent import make
from rlkit.api.session import make_replay
from rlkit.interaction.vector import Step
from rlkit.learning import td
from rlkit.learning.agent import Clock
from rlkit.replay.priorities import SMALLEST, Priorities, SumTree, importance
from rlkit.replay.uniform import Replay

ZERO = tf.constant(0, tf.int64)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.data())
def test_a_height_falls_to_the_place_that_a_running_sum_says(weights: list[float], data: st.DataObject) -> None:
    tree = SumTree(len(weights))
    order = data.draw(st.permutations(range(len(weights))))
    for place in order:
        tree.assign(np.array([place]), np.array([weights[place]]))
    filled = SumTree(len(weights))
    filled.fill(np.array(weights))
    np.testing.assert_array_equal(tree.sums, filled.sums)  # bit for bit, whatever came first
    if tree.total <= 0:
        return
    heights = np.array(data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))) * tree.total
    found = tree.find(heights)
    assert (tree.weights[found] > 0).all()
    ends = np.cumsum(weights)
    for place, height in zip(found, heights, strict=True):
        slack = 1e-9 * tree.total
        assert ends[place] - weights[place] - slack <= height <= ends[place] + slack


def test_places_are_drawn_as_often_as_equation_1_says(chi_square: Callable[[np.ndarray, np.ndarray], float]) -> None:
    errors = np.array([0.01, 0.5, 1.0, 2.0, 4.0, 0.1, 3.0])
    priorities = Priorities(9, 0.6)
    priorities.open(np.arange(1, 8))
    priorities.update(np.arange(1, 8)[None], errors[None])
    bits = np.random.default_rng(0).integers(2**32, size=(3000, 16), dtype=np.uint32)
    places, probabilities = priorities.draw(bits)
    expected = (errors + SMALLEST) ** 0.6
    expected /= expected.sum()
    assert chi_square(np.bincount(places.ravel(), minlength=9)[1:8], expected * places.size) > 1e-6
    np.testing.assert_allclose(probabilities, expected[places - 1], rtol=1e-6)
    assert not {0, 8} & set(places.ravel().tolist()), "what was never opened is never drawn"


def test_a_batch_is_spread_over_equal_parts_of_the_sum() -> None:
    priorities = Priorities(4, 1.0)
    priorities.open(np.arange(4))
    places, _ = priorities.draw(np.random.default_rng(0).integers(2**32, size=(50, 4), dtype=np.uint32))
    assert (places == np.arange(4)).all()


def test_what_is_new_is_as_likely_as_the_likeliest_ever() -> None:
    priorities = Priorities(4, 1.0)
    priorities.open(np.array([0, 1]))
    priorities.update(np.array([[0, 1]]), np.array([[7.0, 0.25]]))
    priorities.update(np.array([[0]]), np.array([[0.5]]))
    priorities.open(np.array([3]))
    priorities.draw(np.zeros((1, 1), np.uint32))
    np.testing.assert_allclose(priorities.tree.weights, [0.5, 0.25, 0, 7], rtol=1e-5)


def test_what_was_written_over_since_its_draw_gets_no_priority() -> None:
    priorities = Priorities(2, 1.0)
    priorities.open(np.array([0, 1]))
    priorities.draw(np.zeros((1, 1), np.uint32))
    priorities.close(np.array([1]))
    priorities.update(np.array([[0, 1]]), np.array([[2.0, 2.0]]))
    np.testing.assert_allclose(priorities.tree.weights, [2, 0], rtol=1e-5)


def test_weights_worked_by_hand() -> None:
    # M = 4, beta = 1/2: (4 x 1/2)^-1/2 = 0.7071, (4 x 1/8)^-1/2 = 1.4142, (4 x 1/4)^-1/2 = 1; over the largest.
    np.testing.assert_allclose(importance(np.array([[0.5, 0.125, 0.25]]), 4, 0.5), [[0.5, 1.0, 0.70710678]], rtol=1e-6)
    assert importance(np.array([[0.5, 0.125]]), 4, 0.0).tolist() == [[1.0, 1.0]]
    # With beta 1 the expectation of weight times value is the plain mean, up to one factor.
    p, values = np.array([0.1, 0.2, 0.3, 0.4]), np.array([3.0, -1.0, 2.0, 8.0])
    weights = importance(p[None], 4, 1.0)[0]
    assert (p * weights * values).sum() / (p * weights).sum() == pytest.approx(values.mean(), rel=1e-6)


def test_a_replay_draws_what_it_holds_and_its_errors_count() -> None:
    replay = Replay(8, 2, spaces.Discrete(100), 2, 0.9, priority_exponent=1.0)
    none, both = np.zeros(2, np.bool_), np.ones(2, np.bool_)
    bits = np.random.default_rng(0).integers(2**32, size=(1, 400), dtype=np.uint32)
    batch = None
    for t in range(11):
        numbers = np.array([t, 50 + t])
        replay.add(numbers, np.zeros(2, np.int32), Step(numbers + 1, np.ones(2), none, none, both))
        if t == 0:
            continue
        batch = replay.sample(bits)
        held = range(max(0, t - 3), t)  # 4 rows each, the newest waits for its second reward
        assert set(batch.observation[0].tolist()) == {*held, *(50 + k for k in held)}
        np.testing.assert_array_equal(batch.weight, 1.0)
    assert batch is not None
    assert replay.priorities is not None
    replay.priorities.update(replay.drawn, np.where(np.equal(batch.observation, 9), 30.0, 1.0))
    batch = replay.sample(bits, 1.0)
    wrong = np.equal(batch.observation, 9)
    assert wrong.mean() == pytest.approx(30 / 35, abs=0.02)
    np.testing.assert_allclose(np.asarray(batch.weight)[wrong], 1 / 30, rtol=1e-4)


def test_loss_adjusted_draws_worked_by_hand() -> None:
    # max(|error|, 1)^(1/2): 1, 1, 2 and 3; new: the largest so far.
    priorities = Priorities(6, 0.5, least=1.0)
    priorities.open(np.arange(5))
    priorities.update(np.arange(4)[None], np.array([[0.0, -0.5, -4.0, 9.0]]))
    priorities.open(np.array([5]))
    _, probabilities = priorities.draw(np.zeros((1, 1), np.uint32))
    np.testing.assert_allclose(priorities.tree.weights, [1, 1, 2, 3, 1, 3], rtol=1e-6)
    assert probabilities[0, 0] == pytest.approx(1 / 11)


def test_a_corrected_mean_is_that_of_uniform_draws() -> None:
    values = np.arange(1.0, 21.0)
    for lap in (False, True):
        replay = Replay(20, 1, spaces.Discrete(100), priority_exponent=1.0, lap=lap)
        no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
        for t in range(20):
            replay.add(np.array([t]), np.zeros(1, np.int32), Step(np.array([t + 1]), np.ones(1), no, no, yes))
        assert replay.priorities is not None
        replay.priorities.update(np.arange(20)[None], values[None])  # what is worth most is drawn most
        batch = replay.sample(np.random.default_rng(0).integers(2**32, size=(1, 20_000), dtype=np.uint32), 0.4)
        drawn = tf.constant(values[batch.observation[0]], tf.float32)
        assert np.mean(drawn) > 13  # sum of squares over sum: 13.7
        assert not isinstance(batch.correction, tuple)
        assert float(td.corrected_mean(drawn, batch.correction[0])) == pytest.approx(10.5, abs=0.1)
    # 1/2 x 1 and 2 x 2, over 1/2 + 2
    assert float(td.corrected_mean(tf.constant([1.0, 2.0]), tf.constant([0.5, 2.0]))) == pytest.approx(1.8)


# ---- a chain of one state
#
# Of M transitions from the state to itself M p pay R, the others nothing. What is learned is V where the expected
# gradient is 0: with x = (1 - gamma) V, the errors being R - x and -x, each drawn with probability in proportion to
# |error|^alpha and weighted with its power -beta,
#
#   p |R - x|^(alpha (1 - beta)) h(R - x) = (1 - p) x^(alpha (1 - beta)) h(x),    h(e) = e, at most 1 (Huber's loss).
#
# p = 1/40, R = 1, gamma 0.99: the mean, x = 1/40, is V = 2.5. Nothing is above 1, so the loss is half the square, whose
# uniform fixed point is the mean; beta = 1 has it too; and LAP, whose priorities are all 1. With alpha 1/2, beta 0.4 it
# is x / (1 - x) = (1/39)^(1 / 1.3), V = 5.635: more than twice as much.
#
# p = 1/4, R = 4, gamma 0.9: the mean is 10. Huber's loss, uniform or with beta = 1: p = (1 - p) x, x = 1/3, V = 3.333.
# LAP: p (4 - x)^(1/2) = (1 - p) x, 9 x^2 + x - 4 = 0, x = 0.6134, V = 6.134: that of the loss which it is equal to.
RARE, LARGE = (1 / 40, 1.0, 0.99), (1 / 4, 4.0, 0.9)


@pytest.mark.parametrize(
    ("chain", "fields", "expected"),
    [
        (RARE, {}, 2.5),
        (RARE, {"importance_exponent": 1.0}, 2.5),
        (RARE, {"importance_exponent": 0.4, "importance_duration": 10**9}, 5.635),
        (RARE, {"priority_exponent": 0.0}, 2.5),
        (LARGE, {}, 6.134),
        (LARGE, {"importance_exponent": 1.0}, 3.333),
        (LARGE, {"priority_exponent": 0.0}, 3.333),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_what_is_learned_of_a_chain_is_the_fixed_point(
    chain: tuple[float, float, float], fields: dict[str, Any], expected: float
) -> None:
    share, reward, gamma = chain
    updates, rows = 600, 400
    config = DQNConfig(
        **{
            "env": "toy", "hidden": (), "gamma": gamma, "priority_exponent": 0.5, "steps": updates, "batch_size": 1024,
            "buffer_size": 1024, "learning_rate": 0.05, "learning_rate_end": 1e-4, "learning_rate_duration": updates,
            "target": "polyak", "polyak": 1.0, **fields,
        }
    )  # fmt: skip
    agent = make(config, spaces.Discrete(2), spaces.Discrete(1))
    replay = make_replay(config, spaces.Discrete(2))
    no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
    for t in range(rows):
        paid = np.array([reward * (t % round(1 / share) == 0)])
        replay.add(np.zeros(1, np.int32), np.zeros(1, np.int32), Step(np.zeros(1, np.int32), paid, no, no, yes))
    learn = tf.function(agent.learn, autograph=False, jit_compile=True)
    rng = np.random.default_rng(0)
    for step in range(updates):
        batch = replay.sample(rng.integers(2**32, size=(1, 1024), dtype=np.uint32), config.importance(step))
        _, errors = learn(tf.nest.map_structure(tf.constant, batch), Clock(tf.constant(step, tf.int64), ZERO))
        if replay.priorities:
            replay.priorities.update(replay.drawn, errors.numpy())
    assert float(agent.q(tf.constant([0]))[0, 0]) == pytest.approx(expected, rel=0.05)


def test_the_weights_undo_all_at_the_end_of_the_run_that_was_begun() -> None:
    config = DQNConfig(env="toy", steps=1000, importance_exponent=0.4)
    assert [config.importance(step) for step in (0, 500, 1000)] == pytest.approx([0.4, 0.7, 1.0])
    longer = config.replace(steps=3000)  # as a resumed run is given more: what it has done was right, and is not undone
    assert [longer.importance(step) for step in (500, 1000, 3000)] == pytest.approx([0.7, 1.0, 1.0])
    assert DQNConfig(env="toy").importance(7) is None
    others: list[dict[str, Any]] = [{"loss": "squared"}, {"head": "c51"}, {"head": "qr"}, {"head": "iqn"}]
    for fields in others:
        assert DQNConfig(env="toy", steps=10, **fields).importance(0) == 0.4
        assert DQNConfig(env="toy", steps=10, **fields).importance(10) == 1.0
