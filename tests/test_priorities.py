"""Draws by priority against probabilities computed the slow way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rlkit.priorities import SMALLEST, Priorities, SumTree, importance
from rlkit.replay import Replay
from rlkit.vector import Step


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
