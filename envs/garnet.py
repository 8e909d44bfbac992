"""Garnets: random finite MDPs of a given size and branching, without ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlkit.envs.finite import FiniteEnv
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.seeding import Purpose, generator


def garnet(
    states: int = 100, actions: int = 4, branching: int = 5, seed: int = 0, gamma: float = 0.99, rewards: str = "normal"
) -> FiniteMDP:
    """A random MDP in which an episode never ends. The same arguments give the same one.

    From each state and action lead `branching` different next states, every set of them with equal chances. Their
    probabilities are the lengths into which as many cuts less one, uniform in [0, 1], divide that interval. Each state
    and action has an expected reward, drawn from the standard normal distribution or uniformly from [0, 1).

    Archibald, McKinnon and Thomas 1995, "On the generation of Markov decision processes"; with normal rewards
    Bhatnagar, Sutton, Ghavamzadeh and Lee 2009, "Natural actor-critic algorithms", section 7.

    >>> garnet(10, 2, 3)
    FiniteMDP(10 states, 2 actions, 60 outcomes, gamma 0.99, 0 terminal)

    Args:
        states: S, at least 1.
        actions: A, at least 1.
        branching: next states of each state and action, 1 to S.
        seed: at least 0.
        gamma: discount, below 1 since nothing ends.
        rewards: "normal" or "uniform".

    Raises:
        UserError: an argument out of its range.
    """
    bounds = {"states": (states, 2**31 - 1), "actions": (actions, 2**31 - 1), "branching": (branching, states)}
    for name, (value, high) in bounds.items():
        _check_whole(name, value, 1, high)
    _check_whole("garnet_seed", seed, 0, 2**57)
    if rewards not in ("normal", "uniform"):
        raise UserError(f"rewards is {rewards!r}, expected 'normal' or 'uniform'")
    rng, rows = generator(seed, Purpose.GARNET), states * actions
    indices = _different(rng, rows, branching, states)
    cuts = np.sort(rng.random((rows, branching - 1)), axis=1)
    probabilities = np.diff(cuts, axis=1, prepend=0.0, append=1.0)  # [S A, branching]
    drawn = rng.standard_normal((states, actions)) if rewards == "normal" else rng.random((states, actions))
    indptr = np.arange(0, indices.size + 1, branching, dtype=np.int32 if indices.size < 2**31 else np.int64)
    return FiniteMDP((indptr, indices.reshape(-1), probabilities.reshape(-1)), drawn, gamma=gamma)


class GarnetEnv(FiniteEnv):
    """A `FiniteEnv` of a `garnet`, whose episodes start in state 0 and never terminate.

    As `rlkit/Garnet-v0` they are truncated after 100 steps.

    ## Arguments
    - `states`, `actions`, `branching`: its size, as `garnet` takes them.
    - `garnet_seed`: of its transitions and rewards.

    Raises:
        UserError: an argument out of its range.
    """

    def __init__(
        self,
        states: int = 100,
        actions: int = 4,
        branching: int = 5,
        garnet_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(garnet(states, actions, branching, garnet_seed), render_mode)


def _different(rng: np.random.Generator, rows: int, count: int, below: int) -> np.ndarray:
    """Sets of different integers in [0, below), ascending: [rows, count] int32.

    Floyd's algorithm on all rows at once (Bentley and Floyd 1987, "A sample of brilliance"): the k-th draw is from
    [0, below - count + k], and stands for the largest of these numbers if it has been drawn before.
    """
    chosen = np.empty((count, rows), np.int32)
    for k in range(count):
        last = below - count + k
        drawn = rng.integers(0, last, rows, np.int32, endpoint=True)
        taken = np.zeros(rows, np.bool_)
        for earlier in chosen[:k]:
            taken |= earlier == drawn
        drawn[taken] = last
        chosen[k] = drawn
    return np.sort(chosen.T, axis=1)


def _check_whole(name: str, value: Any, low: int, high: int) -> None:  # noqa: ANN401 - what a user gave
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise UserError(f"{name} is {value!r}, expected a whole number from {low} to {high}")
