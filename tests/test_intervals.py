"""The interval of a mean, against tables and against draws whose mean is known, and its digits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlkit.intervals import decimals, interval, mean_texts
from rlkit.seeding import evaluation_seed, run_evaluation_seed


@pytest.mark.parametrize(
    ("n", "quantile"), [(2, 12.7062), (3, 4.3027), (4, 3.1824), (5, 2.7764), (10, 2.2622), (30, 2.0452), (100, 1.9842)]
)
def test_quantiles_are_those_of_the_tables(n: int, quantile: float) -> None:
    # Table of Student's t, Fisher and Yates 1938: two-sided 5%.
    values = np.random.default_rng(n).normal(7.0, 3.0, size=n)
    half = quantile * values.std(ddof=1) / math.sqrt(n)
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-4 * half)


def test_an_interval_worked_by_hand() -> None:
    # Student 1908, section IX: additional hours of sleep by the first drug; mean 0.75, s 1.789, so 0.75 -+ 1.280.
    low, high = interval(np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
    assert (low, high) == pytest.approx((-0.530, 2.030), abs=1e-3)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_it_covers_the_mean_as_often_as_it_says(n: int) -> None:
    # Of 20,000 intervals a share that is 0.01 off has probability 9e-11, being 6.5 standard errors.
    low, high = interval(np.random.default_rng(n).normal(size=(n, 20_000)))
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(0.95, abs=0.01)


def test_runs_on_episodes_of_their_own_give_an_interval_that_covers_the_true_mean() -> None:
    """Five runs of equally good agents, five episodes each: what differs is the luck of the episodes alone.

    On the same five episodes all runs would have one mean, and the interval, of no width, would never cover. Of 600 a
    share that is 0.04 off has probability 7e-6, being 4.5 standard errors.
    """
    covered = []
    for seed in range(600):
        drawn = [[evaluation_seed(run_evaluation_seed(seed, run), e) for e in range(5)] for run in range(5)]
        returns = np.array(drawn) / 2**30 - 1.5  # uniform in [-0.5, 0.5), as the env would draw them
        low, high = interval(returns.mean(axis=1))
        covered.append(low < 0 < high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)


def test_one_value_has_none() -> None:
    assert np.isnan(interval(np.array([5.0]))).all()
    assert np.isnan(interval(np.zeros((1, 3)))).all()
    assert mean_texts(np.array([5.0])) == ("5.000", "no interval from one")


@pytest.mark.parametrize(
    ("mean", "half", "digits"),
    [
        (0.74, 0.027, 3), (0.74, 0.5, 3), (497.4, 2.5, 1), (497.4, 35.0, 1), (499.98, 0.02, 3), (-187.26, 4.0, 1),
        (12_345.6, 170.0, 0), (0.0, 0.27, 2), (0.0, 0.0, 0), (500.0, 0.0, 1), (1.0, 0.0, 3), (2e-4, 3e-5, 6),
        (1e30, 0.0, 0), (7.5, 1e-300, 3),
    ],
)  # fmt: skip
def test_digits_by_the_scale_and_the_width(mean: float, half: float, digits: int) -> None:
    assert decimals(mean, mean - half, mean + half) == digits


def test_means_in_words() -> None:
    lake = np.repeat([1.0, 0.0], [74, 26])  # s = 0.4408, 1.9842 s / 10 = 0.0875
    assert mean_texts(lake) == ("0.740", "95% interval 0.653 to 0.827")
    assert mean_texts(np.full(20, 500.0)) == ("500.0", "all alike")
    assert mean_texts(np.array([13_000.0, 12_000.0, 12_500.0]))[0] == "12,500"
