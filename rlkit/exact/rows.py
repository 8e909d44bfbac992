"""Sparse rows of a model, compiled by Numba: checks, expectations, distances to the end.

Letters: S states, A actions, nnz outcomes. Row ``s A + a`` of (indptr [S A + 1], indices [nnz], weights [nnz])
holds the outcomes of action a in state s; weights are probabilities, 0 where the outcome ends the episode.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from rlkit.exact.model import Model

SUM_TOLERANCE = 1e-9
"""How far from 1 a row's sum may be."""

SERIAL_BELOW = 100_000
"""Outcomes below which starting threads costs more than they save."""

CHUNKS = 64
"""Parts that a parallel pass is divided into."""


class Shape(NamedTuple):
    """What one pass over a model's outcomes finds; rows of terminal states do not count."""

    bad: int
    """The first row that is no distribution or has a reward that is not finite; the number of rows if there is none."""
    deviation: float
    """Largest distance of a row's sum from 1."""
    shortest: int
    """Fewest outcomes of a row that has any."""
    longest: int
    """Most outcomes of a row."""
    back: int
    """Outcomes that do not lead to a state of a higher number."""
    empty: int
    """Rows without outcomes."""
    uneven: int
    """Rows, those of terminal states too, with another number of outcomes than the average."""


@njit(cache=True, nogil=True, error_model="numpy")
def _check_rows(
    indptr: np.ndarray, indices: np.ndarray, probabilities: np.ndarray, terminal: np.ndarray, actions: int,
    rewards: np.ndarray, by_outcome: bool, first: int, last: int,
) -> tuple[int, float, int, int, int, int, int]:  # fmt: skip
    rows, states, nnz = len(indptr) - 1, len(terminal), len(indices)
    worst, least, most, back, none, uneven = 0.0, nnz + 1, 0, 0, 0, 0
    state, action = first // actions, first % actions
    for row in range(first, last):
        lo, hi = indptr[row], indptr[row + 1]
        if lo > hi or lo < 0 or hi > nnz:
            return row, worst, least, most, back, none, uneven
        uneven += hi - lo != nnz // rows
        if not terminal[state]:
            total, wrong = 0.0, False
            for k in range(lo, hi):
                p, to = probabilities[k], indices[k]
                total += p
                wrong |= not (p >= 0.0) or to < 0 or to >= states
                back += to <= state
            if by_outcome:
                for k in range(lo, hi):
                    wrong |= not np.isfinite(rewards[k])
            elif hi > lo:
                wrong |= not np.isfinite(rewards[row])
            if hi == lo:
                none += 1
            else:
                gap = abs(total - 1.0)
                worst = max(worst, gap)
                wrong |= not (gap <= SUM_TOLERANCE)
                least, most = min(least, hi - lo), max(most, hi - lo)
            if wrong:
                return row, worst, least, most, back, none, uneven
        action += 1
        if action == actions:
            state, action = state + 1, 0
    return rows, worst, least, most, back, none, uneven


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _check_all(
    indptr: np.ndarray, indices: np.ndarray, probabilities: np.ndarray, terminal: np.ndarray, actions: int,
    rewards: np.ndarray, by_outcome: bool,
) -> tuple[int, float, int, int, int, int, int]:  # fmt: skip
    rows = len(indptr) - 1
    worst, counts = np.zeros(CHUNKS), np.zeros((6, CHUNKS), np.int64)
    for chunk in prange(CHUNKS):
        first, last = rows * chunk // CHUNKS, rows * (chunk + 1) // CHUNKS
        bad, worst[chunk], least, most, back, none, uneven = _check_rows(
            indptr, indices, probabilities, terminal, actions, rewards, by_outcome, first, last
        )
        counts[0, chunk], counts[1, chunk], counts[2, chunk] = bad if bad < last else rows, least, most
        counts[3, chunk], counts[4, chunk], counts[5, chunk] = back, none, uneven
    return (
        counts[0].min(), worst.max(), counts[1].min(), counts[2].max(), counts[3].sum(), counts[4].sum(),
        counts[5].sum(),
    )  # fmt: skip


def check(
    indptr: np.ndarray, indices: np.ndarray, probabilities: np.ndarray, terminal: np.ndarray, actions: int,
    rewards: np.ndarray,
) -> Shape:  # fmt: skip
    """Read a model once; rewards are [S, A] or [nnz]."""
    arrays = (indptr, indices, probabilities, terminal, actions, rewards.reshape(-1), rewards.ndim == 1)
    found = _check_rows(*arrays, 0, len(indptr) - 1) if len(indices) < SERIAL_BELOW else _check_all(*arrays)
    return Shape(*found)


@njit(cache=True, nogil=True, error_model="numpy")
def _expected_rows(
    indptr: np.ndarray, weights: np.ndarray, values: np.ndarray, sums: np.ndarray, first: int, last: int
) -> None:
    for row in range(first, last):
        total = 0.0
        for k in range(indptr[row], indptr[row + 1]):
            total += weights[k] * values[k]
        sums[row] = total


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _expected_all(indptr: np.ndarray, weights: np.ndarray, values: np.ndarray, sums: np.ndarray) -> None:
    rows = len(sums)
    for chunk in prange(CHUNKS):
        _expected_rows(indptr, weights, values, sums, rows * chunk // CHUNKS, rows * (chunk + 1) // CHUNKS)


def expected(indptr: np.ndarray, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum of weight x value over each row's outcomes: [nnz] and [nnz] to [rows]."""
    sums = np.empty(len(indptr) - 1)
    if len(weights) < SERIAL_BELOW:
        _expected_rows(indptr, weights, values, sums, 0, len(sums))
    else:
        _expected_all(indptr, weights, values, sums)
    return sums


@njit(cache=True, nogil=True)
def predecessors(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, terminal: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The graph of allowed actions [S, A] backwards, as CSR: [S + 1], and the states that can lead to each."""
    states, actions = allowed.shape
    begin = np.zeros(states + 1, np.int64)
    for s in range(states):
        for a in range(actions):
            if allowed[s, a] and not terminal[s]:
                for k in range(indptr[s * actions + a], indptr[s * actions + a + 1]):
                    begin[indices[k] + 1] += weights[k] > 0
    for s in range(states):
        begin[s + 1] += begin[s]
    place = begin[:-1].copy()
    origin = np.empty(begin[-1], np.int32)
    for s in range(states):
        for a in range(actions):
            if allowed[s, a] and not terminal[s]:
                for k in range(indptr[s * actions + a], indptr[s * actions + a + 1]):
                    if weights[k] > 0:
                        origin[place[indices[k]]] = s
                        place[indices[k]] += 1
    return begin, origin


@njit(cache=True, nogil=True)
def _distance(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, terminal: np.ndarray, ending: np.ndarray,
    allowed: np.ndarray,
) -> np.ndarray:  # fmt: skip
    states, actions = allowed.shape
    begin, origin = predecessors(indptr, indices, weights, terminal, allowed)
    distance = np.full(states, -1, np.int32)
    queue = np.empty(states, np.int32)
    size = 0
    for s in range(states):
        near = terminal[s]
        for a in range(actions):
            near |= allowed[s, a] and ending[s * actions + a] > 0
        if near:
            distance[s] = 0 if terminal[s] else 1
    for wanted in range(2):
        for s in range(states):
            if distance[s] == wanted:
                queue[size] = s
                size += 1
    at = 0
    while at < size:
        s = queue[at]
        at += 1
        for k in range(begin[s], begin[s + 1]):
            if distance[origin[k]] < 0:
                distance[origin[k]] = distance[s] + 1
                queue[size] = origin[k]
                size += 1
    return distance


def distance_to_end(mdp: Model, allowed: np.ndarray) -> np.ndarray:
    """The fewest steps to the end of the episode by allowed actions, at best luck; -1 where they never end it.

    Args:
        mdp: S states, A actions.
        allowed: [S, A] bool.

    Returns:
        [S] int32. If none is -1, some policy of allowed actions ends from everywhere with probability 1.
    """
    arrays = (mdp.indptr, mdp.indices, mdp.weights, mdp.terminal, mdp.ending)
    return np.asarray(_distance(*arrays, np.ascontiguousarray(allowed)))


@njit(cache=True, nogil=True)
def _towards(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, ending: np.ndarray, allowed: np.ndarray,
    distance: np.ndarray,
) -> np.ndarray:  # fmt: skip
    states, actions = allowed.shape
    policy = np.zeros(states, np.int64)
    for s in range(states):
        found = distance[s] <= 0
        for a in range(actions):
            row = s * actions + a
            if found or not allowed[s, a]:
                continue
            nearer = ending[row] > 0
            for k in range(indptr[row], indptr[row + 1]):
                nearer |= weights[k] > 0 and distance[indices[k]] < distance[s]
            if nearer:
                policy[s] = a
                found = True
    return policy


def towards_end(mdp: Model, allowed: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The lowest allowed action of each state that can lead nearer to the end, [S] int64; distance as above."""
    arrays = (mdp.indptr, mdp.indices, mdp.weights, mdp.ending)
    return np.asarray(_towards(*arrays, np.ascontiguousarray(allowed), distance))


@njit(cache=True, nogil=True, error_model="numpy")
def _q_rows(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray, terminal: np.ndarray,
    gamma: float, v: np.ndarray, q: np.ndarray, first: int, last: int,
) -> None:  # fmt: skip
    actions = rewards.shape[1]
    for s in range(first, last):
        for a in range(actions):
            q[s, a] = 0.0
            if not terminal[s]:
                total = 0.0
                for k in range(indptr[s * actions + a], indptr[s * actions + a + 1]):
                    if not terminal[indices[k]]:
                        total += weights[k] * v[indices[k]]
                q[s, a] = rewards[s, a] + gamma * total


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _q_all(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray, terminal: np.ndarray,
    gamma: float, v: np.ndarray, q: np.ndarray,
) -> None:  # fmt: skip
    states = len(v)
    for chunk in prange(CHUNKS):
        first, last = states * chunk // CHUNKS, states * (chunk + 1) // CHUNKS
        _q_rows(indptr, indices, weights, rewards, terminal, gamma, v, q, first, last)


def q_values(mdp: Model, values: np.ndarray) -> np.ndarray:
    """See FiniteMDP.q_values."""
    q = np.empty((mdp.states, mdp.actions))
    arrays = (mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma, values, q)
    if mdp.nnz < SERIAL_BELOW:
        _q_rows(*arrays, 0, mdp.states)
    else:
        _q_all(*arrays)
    return q
