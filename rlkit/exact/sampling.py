"""A finite process as tables that compiled code can sample: a step takes tens of nanoseconds.

Letters: S states, A actions, W outcomes of the widest row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from rlkit.exact.mdp import FiniteMDP
from rlkit.seeding import Purpose, key

_MASK = 2**64 - 1


def stream(seed: int, purpose: Purpose) -> int:
    """The number that `bits` takes for a seed and a purpose, uint64."""
    z = (key(seed, purpose) * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _MASK
    z = ((z ^ (z >> 32)) * 0xDABA0B6EB09322E3) & _MASK
    return z ^ (z >> 29)


@njit(cache=True, nogil=True, inline="always")
def bits(stream: np.uint64, count: int) -> np.uint64:
    """64 random bits as a function of a stream and an absolute count: SplitMix64 (Steele, Lea and Flood 2014)."""
    z = stream + np.uint64(count) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def fraction(random: np.uint64) -> float:
    """Random bits as a number in [0, 1)."""
    return float(random >> np.uint64(11)) * 2.0**-53


class Simulator(NamedTuple):
    """The tables; rows are padded to W outcomes that never happen."""

    threshold: np.ndarray
    """[S A, W]: outcome k happens where the draw is at least the k-1 st threshold and below the k-th."""
    to: np.ndarray
    """[S A, W] int32."""
    reward: np.ndarray
    """[S A, W]."""
    ends: np.ndarray
    """[S A, W] bool: whether the episode ends with it."""
    start: np.ndarray
    """[S], cumulative probabilities of the first state."""
    limit: int
    """Steps after which an episode is cut off; 0: never."""


WIDEST = 64
"""Most outcomes of a row; wider ones are left to the env itself."""


def simulator(mdp: FiniteMDP, limit: int = 0) -> Simulator | None:
    """The tables of a model; None where they would be too wide, or an action is not available everywhere.

    Args:
        mdp: the model.
        limit: steps after which an episode is cut off, as by a time limit; 0: never.
    """
    if mdp.longest > WIDEST or mdp.masked:
        return None
    rows, width = mdp.states * mdp.actions, max(1, mdp.longest)
    counts = np.diff(mdp.indptr)
    row = np.repeat(np.arange(rows), counts)
    column = np.arange(mdp.nnz) - np.repeat(mdp.indptr[:-1], counts)
    live = ~mdp.terminal[row // mdp.actions] & (column < width)
    row, column = row[live], column[live]
    probability = np.zeros((rows, width))
    probability[row, column] = mdp.probabilities[live]
    to, reward = np.zeros((rows, width), np.int32), np.zeros((rows, width))
    ends = np.zeros((rows, width), np.bool_)
    to[row, column] = mdp.indices[live]
    given = (
        mdp.outcome_rewards
        if mdp.outcome_rewards is not None
        else mdp.rewards.ravel()[np.repeat(np.arange(rows), counts)]
    )
    reward[row, column] = given[live]
    ended = mdp.terminal[mdp.indices] if mdp.terminated is None else mdp.terminal[mdp.indices] | mdp.terminated
    ends[row, column] = ended[live]
    threshold = np.cumsum(probability, axis=1)
    last = np.maximum(counts - 1, 0).clip(max=width - 1)
    threshold[np.arange(width) >= last[:, None]] = 2.0  # rounding must not leave a draw without an outcome
    horizon = mdp.horizon or 0
    limits = [n for n in (limit, horizon) if n]
    return Simulator(threshold, to, reward, ends, np.cumsum(mdp.start), min(limits, default=0))


@njit(cache=True, nogil=True)
def first_state(start: np.ndarray, random: np.uint64) -> int:
    """A state drawn from the start distribution."""
    return min(int(np.searchsorted(start, fraction(random), side="right")), len(start) - 1)
