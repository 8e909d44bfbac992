"""Draws are functions of seed, purpose and count, and stay what they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.seeding import Purpose, env_seed, evaluation_seed, generator, key

SEEDS = st.integers(0, 2**31 - 1)
PURPOSES = st.sampled_from(list(Purpose))


def test_the_purposes_keep_their_numbers() -> None:
    known = ["PARAMETERS", "EXPLORATION", "REPLAY", "TRAINING_ENV", "EVALUATION_ENV", None, "ACTIONS"]
    known += ["TRIANGLE", "GARNET", "OUTCOMES", "COIN"]
    assert {p.name: p.value for p in Purpose if p < len(known)} == {name: i for i, name in enumerate(known) if name}


def test_no_two_pairs_of_neighbouring_seeds_and_purposes_share_a_key() -> None:
    seeds = [*range(300), *range(2**31 - 300, 2**31)]
    keys = {key(seed, purpose) for seed, purpose in itertools.product(seeds, Purpose)}
    assert len(keys) == len(seeds) * len(Purpose)
    assert max(keys) < 2**63  # an int64 to TensorFlow


@given(SEEDS, PURPOSES, SEEDS, PURPOSES)
def test_a_key_belongs_to_one_seed_and_purpose(a: int, p: Purpose, b: int, q: Purpose) -> None:
    assert (key(a, p) == key(b, q)) == ((a, p) == (b, q))


def test_no_two_streams_share_a_number() -> None:
    counts = [(), (1,), (2,), (0, 1), (0, 2), (1, 1), (0, 0, 1), (1, 2, 3), (2**40,), (0, 2**40)]
    streams = list(itertools.product((0, 1, 2**31 - 1), Purpose, counts))
    numbers = [generator(s, p, *c).integers(2**64, size=50, dtype=np.uint64).tolist() for s, p, c in streams]
    # Chance makes two of 10,500 numbers of 64 bits equal with probability 10,500^2 / 2^65 = 3e-12.
    assert len(set(itertools.chain.from_iterable(numbers))) == 50 * len(streams)


def test_a_stream_is_the_same_each_time() -> None:
    first, second = (generator(7, Purpose.ACTIONS, 3).random(100) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@given(SEEDS, st.integers(0, 100_000), st.integers(0, 2**40), st.integers(0, 2**40))
def test_training_and_evaluation_never_share_an_env_seed(seed: int, env: int, episode: int, step: int) -> None:
    assert 0 <= env_seed(seed, env, episode) < 2**30
    assert 2**30 <= evaluation_seed(seed, episode, step) < 2**31


def test_env_seeds_are_spread_over_their_range() -> None:
    training = np.array([env_seed(0, e, k) for e in range(40) for k in range(50)])
    evaluation = np.array([evaluation_seed(0, k, step) for step in range(40) for k in range(50)])
    for seeds, low in ((training, 0), (evaluation, 2**30)):
        # 2000 of 2^30 numbers: a pair is equal with probability 0.2%; two pairs with 2e-6.
        assert len(set(seeds.tolist())) >= 1999
        # The smallest of 2000 is above 1% of the range with probability 0.99^2000 = 2e-9; so is the largest
        # below 99%.
        assert seeds.min() < low + 0.01 * 2**30
        assert seeds.max() > low + 0.99 * 2**30


@pytest.mark.parametrize("purpose", [Purpose.TRAINING_ENV, Purpose.EVALUATION_ENV])
def test_each_env_episode_occasion_and_run_has_a_seed_of_its_own(purpose: Purpose) -> None:
    draw = env_seed if purpose is Purpose.TRAINING_ENV else evaluation_seed
    assert len({draw(5, 0, 0), draw(6, 0, 0), draw(5, 1, 0), draw(5, 0, 1), draw(5, 2, 0), draw(5, 1, 1)}) == 6


def test_the_streams_are_those_that_earlier_runs_drew() -> None:
    # Recorded: another value here means that no earlier run can be repeated or resumed.
    assert generator(0, Purpose.ACTIONS).integers(2**32, size=3).tolist() == [
        896541492,
        2942580184,
        3267607786,
    ]
    assert generator(12, Purpose.REPLAY, 3, 4, 5).integers(2**32, size=3).tolist() == [
        1466073227,
        2461541868,
        1075378341,
    ]
    training = [env_seed(0, 0, 0), env_seed(0, 1, 0), env_seed(0, 0, 1), env_seed(1, 0, 0)]
    assert training == [925628210, 593431212, 997970991, 58823181]
    evaluation = [evaluation_seed(0, 0), evaluation_seed(0, 1), evaluation_seed(0, 0, 500)]
    assert evaluation == [1414841877, 1965742467, 1214248866]
