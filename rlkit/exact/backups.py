"""Bellman backups on sparse rows, compiled by Numba. Puterman 1994, chapter 6.

Letters: S states, A actions, nnz outcomes. Row ``s A + a`` of (indptr [S A + 1], indices [nnz], weights [nnz]) holds
the outcomes of action a in state s; weights are probabilities, 0 where the outcome ends the episode. Terminal states
keep the value 0. Where all rows have the same number of outcomes, the width, it is part of the compiled code, so that
the sum over a row is unrolled: twice as fast on random graphs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from rlkit.exact.model import Model
from rlkit.exact.rows import CHUNKS, SERIAL_BELOW

WIDEST = 8
"""Largest width that is compiled for; wider rows are long enough for a loop."""


WORTH_UNROLLING = 2_000
"""Outcomes below which compiling for one more width takes longer than it will ever save."""


def unrolled(mdp: Model) -> tuple[int, ...]:
    """A tuple as long as the model's rows are wide, empty where they differ or are long.

    Compiled code knows the length of a tuple, and unrolls a loop over it. Rows that follow each other without a gap
    have one entry more, so that `following` knows where each begins.
    """
    if not 0 < mdp.width <= WIDEST or mdp.nnz < WORTH_UNROLLING:
        return ()
    return (0,) * mdp.width if mdp.packed else (0,) * (mdp.width + UNEVEN)


UNEVEN = 64
"""What is added to the length of `unrolled` where the rows of terminal states have another width."""


@njit(cache=True, nogil=True, error_model="numpy")
def following(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, v: np.ndarray, row: int
) -> float:
    """The sum of weight x v over a row's outcomes."""
    total = 0.0
    if len(unroll) == 0:
        for k in range(indptr[row], indptr[row + 1]):
            total += weights[k] * v[np.uint32(indices[k])]
    elif len(unroll) < UNEVEN:
        at = np.uint64(row) * np.uint64(len(unroll))  # unsigned, so that no index can count from the end
        for k in range(len(unroll)):
            i = at + np.uint64(k)
            total += weights[i] * v[np.uint32(indices[i])]
    else:
        first = np.uint64(indptr[row])
        for k in range(len(unroll) - UNEVEN):
            i = first + np.uint64(k)
            total += weights[i] * v[np.uint32(indices[i])]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _back_up(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray,
    terminal: np.ndarray, gamma: float, v: np.ndarray, new: np.ndarray, policy: np.ndarray, lowest: np.ndarray,
    margin: float, first: int, last: int,
) -> tuple[float, float, float]:  # fmt: skip
    low, high, size, actions = np.inf, -np.inf, 0.0, rewards.shape[1]
    for s in range(first, last):
        if terminal[s]:
            new[s], policy[s], lowest[s] = 0.0, 0, 0
            continue
        best, arg, tied, q_tied = -np.inf, 0, 0, -np.inf
        for a in range(actions):
            q = rewards[s, a] + gamma * following(unroll, indptr, indices, weights, v, s * actions + a)
            arg = a if q > best else arg
            best = max(best, q)
            behind = best - margin > q_tied
            tied = a if behind else tied
            q_tied = q if behind else q_tied
        low, high, size = min(low, best - v[s]), max(high, best - v[s]), max(size, abs(best))
        new[s], policy[s], lowest[s] = best, arg, tied
    return low, high, size


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _sweep(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray,
    terminal: np.ndarray, gamma: float, v: np.ndarray, new: np.ndarray, policy: np.ndarray, lowest: np.ndarray,
    margin: float,
) -> tuple[float, float, float]:  # fmt: skip
    states = len(v)
    lows, highs, sizes = np.empty(CHUNKS), np.empty(CHUNKS), np.empty(CHUNKS)
    for chunk in prange(CHUNKS):
        first, last = states * chunk // CHUNKS, states * (chunk + 1) // CHUNKS
        lows[chunk], highs[chunk], sizes[chunk] = _back_up(
            unroll, indptr, indices, weights, rewards, terminal, gamma, v, new, policy, lowest, margin, first, last
        )
    return lows.min(), highs.max(), sizes.max()


class Backup(NamedTuple):
    """What a Bellman backup T v of all states found."""

    new: np.ndarray
    """T v, [S] float64."""
    policy: np.ndarray
    """Greedy actions, [S]; the lowest of those with exactly the largest value."""
    lowest: np.ndarray
    """The lowest of the actions whose values are within a margin of the largest, [S]."""
    low: float
    """Lowest T v - v over the states that are not terminal; inf if there are none."""
    high: float
    """Highest T v - v over them."""
    size: float
    """Largest |T v|."""

    @property
    def residual(self) -> float:
        """Sup-norm of T v - v."""
        return max(0.0, self.high, -self.low)


def back_up(mdp: Model, v: np.ndarray, margin: float = 0.0, into: Backup | None = None) -> Backup:
    """One Bellman backup of every state from the same values (Jacobi).

    Args:
        mdp: S states.
        v: values, [S] float64; 0 in terminal states.
        margin: actions whose values differ by less are tied for `lowest`.
        into: a backup whose arrays are used again.
    """
    if into is None:
        small = np.int8 if mdp.actions < 128 else np.int32
        new, policy, lowest = np.empty(mdp.states), np.empty(mdp.states, small), np.empty(mdp.states, small)
    else:
        new, policy, lowest = into.new, into.policy, into.lowest
    model = (unrolled(mdp), mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma)
    arrays = (*model, v, new, policy, lowest, margin)
    low, high, size = _back_up(*arrays, 0, mdp.states) if mdp.nnz < SERIAL_BELOW else _sweep(*arrays)
    return Backup(new, policy, lowest, low, high, size)


@njit(cache=True, nogil=True, error_model="numpy")
def _gauss_seidel(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray,
    terminal: np.ndarray, gamma: float, v: np.ndarray, threshold: float, sweeps: int, done: int,
) -> tuple[int, float]:  # fmt: skip
    states, actions = rewards.shape
    change = np.inf
    for sweep in range(sweeps):
        change = 0.0
        for i in range(states):
            s = i if (done + sweep) % 2 else states - 1 - i
            if not terminal[s]:
                best = -np.inf
                for a in range(actions):
                    q = rewards[s, a] + gamma * following(unroll, indptr, indices, weights, v, s * actions + a)
                    best = max(best, q)
                change = max(change, abs(best - v[s]))
                v[s] = best
        if change <= threshold:
            return sweep + 1, change
    return sweeps, change


def gauss_seidel(mdp: Model, v: np.ndarray, threshold: float, sweeps: int, done: int = 0) -> tuple[int, float]:
    """Bellman backups in place, from the last state to the first, then back, and so on.

    Args:
        mdp: S states.
        v: values, [S]; changed.
        threshold: stop once no value has changed by more than this in a sweep.
        sweeps: do at most so many.
        done: how many were done before, which says the direction.

    Returns:
        Sweeps that were done, and the largest change in the last one.
    """
    model = (unrolled(mdp), mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma, v)
    done_now, change = _gauss_seidel(*model, threshold, sweeps, done)
    return done_now, change


@njit(cache=True, nogil=True, error_model="numpy")
def _copy_rows(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, policy: np.ndarray,
    actions: int, begin: np.ndarray, to: np.ndarray, share: np.ndarray, first: int, last: int,
) -> None:  # fmt: skip
    for s in range(first, last):
        row = s * actions + policy[s]
        if 0 < len(unroll) < UNEVEN:
            for k in range(len(unroll)):
                to[s * len(unroll) + k] = indices[row * len(unroll) + k]
                share[s * len(unroll) + k] = weights[row * len(unroll) + k]
        else:
            for k in range(begin[s + 1] - begin[s]):
                to[begin[s] + k] = indices[indptr[row] + k]
                share[begin[s] + k] = weights[indptr[row] + k]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _restrict(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, policy: np.ndarray,
    actions: int, begin: np.ndarray, to: np.ndarray, share: np.ndarray,
) -> None:  # fmt: skip
    states = len(policy)
    for chunk in prange(CHUNKS):
        first, last = states * chunk // CHUNKS, states * (chunk + 1) // CHUNKS
        _copy_rows(unroll, indptr, indices, weights, policy, actions, begin, to, share, first, last)


@njit(cache=True, nogil=True, error_model="numpy")
def _begin_rows(
    indptr: np.ndarray, terminal: np.ndarray, policy: np.ndarray, actions: int,
    begin: np.ndarray,
) -> None:  # fmt: skip
    begin[0] = 0
    for s in range(len(policy)):
        row = s * actions + policy[s]
        begin[s + 1] = begin[s] + (0 if terminal[s] else indptr[row + 1] - indptr[row])


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A policy's transitions between states that are not terminal, CSR: begin [S + 1], to, share."""


def restrict(mdp: Model, policy: np.ndarray, dtype: type = np.float64, into: Rows | None = None) -> Rows:
    """The transitions that a policy chooses, one state after the other; terminal states have none.

    Args:
        mdp: S states.
        policy: [S] integers.
        dtype: of the probabilities, float64 or float32.
        into: rows whose arrays are used again.
    """
    unroll = unrolled(mdp) if not mdp.terminal.any() else ()
    if into is None:
        most = min(mdp.nnz, mdp.states * mdp.longest)
        begin, to = np.empty(mdp.states + 1, np.int64), np.empty(most, np.int32)
        share: np.ndarray = np.empty(most, dtype)
        if 0 < len(unroll) < UNEVEN:
            begin = np.arange(0, most + 1, len(unroll))
    else:
        begin, to, share = into
    if not 0 < len(unroll) < UNEVEN:
        _begin_rows(mdp.indptr, mdp.terminal, policy, mdp.actions, begin)
    arrays = (unroll, mdp.indptr, mdp.indices, mdp.weights, policy, mdp.actions, begin, to, share)
    if mdp.nnz < SERIAL_BELOW * mdp.actions:
        _copy_rows(*arrays, 0, mdp.states)
    else:
        _restrict(*arrays)
    return begin, to, share


@njit(cache=True, nogil=True, error_model="numpy")
def _pass_on(
    unroll: tuple[int, ...], begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float,
    e: np.ndarray, new: np.ndarray, x: np.ndarray, first: int, last: int,
) -> tuple[float, float]:  # fmt: skip
    low, high = e.dtype.type(np.inf), e.dtype.type(-np.inf)
    for s in range(first, last):
        total = e.dtype.type(0)
        if len(unroll) == 0 or len(unroll) >= UNEVEN:
            for k in range(begin[s], begin[s + 1]):
                total += share[k] * e[np.uint32(to[k])]
        else:
            at = np.uint64(s) * np.uint64(len(unroll))
            for k in range(len(unroll)):
                i = at + np.uint64(k)
                total += share[i] * e[np.uint32(to[i])]
        total *= e.dtype.type(gamma)
        new[s] = total
        x[s] += total
        low, high = min(low, total), max(high, total)
    return low, high


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _propagate(
    unroll: tuple[int, ...], begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float,
    e: np.ndarray, new: np.ndarray, x: np.ndarray,
) -> tuple[float, float]:  # fmt: skip
    states = len(e)
    lows, highs = np.empty(CHUNKS), np.empty(CHUNKS)
    for chunk in prange(CHUNKS):
        first, last = states * chunk // CHUNKS, states * (chunk + 1) // CHUNKS
        lows[chunk], highs[chunk] = _pass_on(unroll, begin, to, share, gamma, e, new, x, first, last)
    return lows.min(), highs.max()


def propagate(mdp: Model, rows: Rows, e: np.ndarray, new: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """new = gamma P e and x += new for a policy's rows; the lowest and highest of new. All [S], float32 or float64."""
    unroll = unrolled(mdp) if not mdp.terminal.any() else ()
    arguments = (unroll, *rows, mdp.gamma, e, new, x)
    small = mdp.nnz < SERIAL_BELOW * mdp.actions
    low, high = _pass_on(*arguments, 0, mdp.states) if small else _propagate(*arguments)
    return float(low), float(high)


@njit(cache=True, nogil=True)
def nearness(indptr: np.ndarray, indices: np.ndarray, states: int, actions: int, reach: int) -> float:
    """Share of outcomes, in a sample of states, whose state's number is at most `reach` away."""
    near, seen = 0, 0
    step = max(1, states // 512)
    for s in range(0, states, step):
        for k in range(indptr[s * actions], indptr[(s + 1) * actions]):
            near += abs(indices[k] - s) <= reach
            seen += 1
    return near / max(1, seen)
