"""Greedy and epsilon-greedy actions: how often, how independent, and the same however they are compiled.

The draws are functions of seed and step, so each test's outcome is fixed; its probability of a false alarm is
that of failing for a seed chosen at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from rlkit.learning.exploration import epsilon_greedy, greedy
from rlkit.random_bits import below, draws, fraction
from rlkit.seeding import Purpose

ChiSquare = Callable[[np.ndarray, np.ndarray], float]


def drawn(q: tf.Tensor, epsilon: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    return epsilon_greedy(q, epsilon, draws(seed, Purpose.EXPLORATION, step, [2, q.shape[0]]))


def act(q: np.ndarray, epsilon: float, seed: int = 0, step: int = 0) -> np.ndarray:
    actions = drawn(tf.constant(q, tf.float32), tf.constant(epsilon), seed, tf.constant(step, tf.int64))
    assert actions.dtype == tf.int32
    assert actions.shape == (len(q),)
    return np.asarray(actions)


def prefers_last(envs: int, actions: int) -> np.ndarray:
    return np.tile(np.arange(actions, dtype=np.float32), (envs, 1))


def over_steps(envs: int, actions: int, epsilon: float, steps: int, seed: int = 0) -> np.ndarray:
    """Actions of each step, [steps, N], where the last action is the greedy one."""
    q = tf.constant(prefers_last(envs, actions))

    @tf.function
    def all_steps() -> tf.Tensor:
        return tf.map_fn(
            lambda step: drawn(q, tf.constant(epsilon), seed, step),
            tf.range(steps, dtype=tf.int64),
            fn_output_signature=tf.int32,
        )

    return np.asarray(all_steps())


def test_greedy_takes_the_largest_and_of_equals_the_first() -> None:
    q = tf.constant([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0], [-2.0, -1.0, -1.0], [0.0, -1.0, -2.0]])
    actions = greedy(q)
    assert actions.dtype == tf.int32
    assert actions.numpy().tolist() == [1, 0, 1, 0]


def test_epsilon_zero_is_greedy() -> None:
    q = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32)
    np.testing.assert_array_equal(act(q, 0.0), q.argmax(axis=1))


def test_epsilon_one_is_uniform_over_envs(chi_square: ChiSquare) -> None:
    counts = np.bincount(act(prefers_last(50_000, 5), 1.0), minlength=5)
    assert chi_square(counts, np.full(5, 10_000.0)) > 1e-6  # the probability of a false alarm


def test_epsilon_one_is_uniform_over_steps(chi_square: ChiSquare) -> None:
    counts = np.bincount(over_steps(1, 3, 1.0, 3000)[:, 0], minlength=3)
    assert chi_square(counts, np.full(3, 1000.0)) > 1e-6  # the probability of a false alarm


def test_epsilon_is_the_probability_of_a_uniform_action(chi_square: ChiSquare) -> None:
    # A uniform action may be the greedy one: epsilon / 5 each, and 1 - epsilon more for the last. Were the
    # draw that decides also the one that chooses, only the low actions would be explored.
    counts = np.bincount(act(prefers_last(50_000, 5), 0.3), minlength=5)
    assert chi_square(counts, 50_000 * np.array([0.06, 0.06, 0.06, 0.06, 0.76])) > 1e-6  # of a false alarm


def test_every_env_has_draws_of_its_own(chi_square: ChiSquare) -> None:
    # Of 100,000 actions a uniform one is the greedy one with probability 1e-5, so all others were explored.
    explores = over_steps(2, 100_000, 0.5, 4000) != 99_999
    both = np.bincount(2 * explores[:, 0] + explores[:, 1], minlength=4)
    assert chi_square(both, np.full(4, 1000.0)) > 1e-6  # the probability of a false alarm

    # The number of 16 envs that explore is binomial with variance 4; one draw for all would make it 64. Over
    # 2000 steps the variance is off by 0.8 or more, six standard errors, with probability below 1e-8.
    exploring = (over_steps(16, 100_000, 0.5, 2000) != 99_999).sum(axis=1)
    assert exploring.mean() == pytest.approx(8, abs=0.27)  # six standard errors of 2 / sqrt(2000)
    assert exploring.var() == pytest.approx(4, abs=0.8)


def test_actions_of_envs_that_explore_together_are_independent(chi_square: ChiSquare) -> None:
    actions = over_steps(2, 3, 1.0, 4500)
    both = np.bincount(3 * actions[:, 0] + actions[:, 1], minlength=9)
    assert chi_square(both, np.full(9, 500.0)) > 1e-6  # the probability of a false alarm


def test_consecutive_steps_are_independent(chi_square: ChiSquare) -> None:
    actions = over_steps(1, 3, 1.0, 9000)[:, 0]
    both = np.bincount(3 * actions[0::2] + actions[1::2], minlength=9)
    assert chi_square(both, np.full(9, 500.0)) > 1e-6  # the probability of a false alarm


def test_actions_are_a_function_of_seed_and_step() -> None:
    q = prefers_last(64, 1000)
    first = act(q, 1.0, seed=3, step=17)
    np.testing.assert_array_equal(first, act(q, 1.0, seed=3, step=17))
    others = [act(q, 1.0, seed, step) for seed, step in ((3, 18), (4, 17), (0, 17), (3, 2**40), (2**31 - 1, 17))]
    for other in others:
        # Two of 1000 agree with probability 1e-3, so 64 pairs have 4 agreements or more with 6e-7.
        assert (other == first).sum() < 4


def test_a_smaller_epsilon_explores_in_fewer_of_the_same_steps() -> None:
    often, seldom = (over_steps(1, 100_000, epsilon, 500)[:, 0] for epsilon in (0.5, 0.2))
    explores = seldom != 99_999
    assert 50 < explores.sum() < (often != 99_999).sum()  # 100 +- 9 and 250: false alarm below 1e-7
    np.testing.assert_array_equal(seldom[explores], often[explores])


def test_eager_graph_and_xla_act_the_same() -> None:
    q = tf.constant(np.random.default_rng(1).normal(size=(257, 6)), tf.float32)

    def actions(step: tf.Tensor) -> tf.Tensor:
        return drawn(q, tf.constant(0.5), 2**31 - 1, step)

    graph, xla = tf.function(actions), tf.function(actions, jit_compile=True)
    for step in (0, 1, 999, 2**33 + 5):
        eager = actions(tf.constant(step, tf.int64)).numpy()
        np.testing.assert_array_equal(graph(tf.constant(step, tf.int64)), eager)
        np.testing.assert_array_equal(xla(tf.constant(step, tf.int64)), eager)


def test_the_draws_are_those_of_earlier_runs() -> None:
    # Recorded: another value here means that no earlier run can be repeated or resumed.
    bits = draws(12, Purpose.EXPLORATION, tf.constant(2**33 + 5, tf.int64), [2, 2])
    assert bits.dtype == tf.uint32
    assert bits.numpy().tolist() == [[3834683031, 3465278443], [494078697, 4220758163]]


def test_draws_of_other_purposes_are_other_draws() -> None:
    step = tf.constant(5, tf.int64)
    first, second = (draws(0, p, step, [100]).numpy() for p in (Purpose.EXPLORATION, Purpose.REPLAY))
    assert not np.intersect1d(first, second).size  # a pair is equal with probability 100^2 / 2^32 = 2e-6


BITS = [0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1]


def test_fractions_of_bits_worked_by_hand() -> None:
    # The upper 24 bits: the most that float32 holds, so that none is rounded up to 1.
    fractions = fraction(tf.constant(BITS, tf.uint32))
    assert fractions.dtype == tf.float32
    expected = [0, 0, 0, 2**-24, 0.5 - 2**-24, 0.5, 1 - 2**-24, 1 - 2**-24]
    assert fractions.numpy().tolist() == expected


@pytest.mark.parametrize("n", [1, 2, 6, 1000, 2**31 - 1])
def test_whole_numbers_below_n_of_bits_are_those_of_python(n: int) -> None:
    numbers = below(tf.constant(BITS, tf.uint32), n)
    assert numbers.dtype == tf.int32
    assert numbers.numpy().tolist() == [bits * n // 2**32 for bits in BITS]
