"""Bellman backups on sparse rows, compiled by Numba. Puterman 1994, chapter 6.

Letters: S states, A actions, nnz outcomes. Row ``s A + a`` of (indptr [S A + 1], indices [nnz], weights [nnz]) holds
the outcomes of action a in state s; weights are probabilities, 0 where the outcome ends the episode. Terminal states
keep the value 0. Where all rows have the same number of outcomes, the width, it is part of the compiled code, so that
the sum over a row is unrolled: twice as fast on random graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit, prange

if TYPE_CHECKING:
    from rlkit.mdp import FiniteMDP

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


def distance_to_end(mdp: FiniteMDP, allowed: np.ndarray) -> np.ndarray:
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


def towards_end(mdp: FiniteMDP, allowed: np.ndarray, distance: np.ndarray) -> np.ndarray:
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


def q_values(mdp: FiniteMDP, values: np.ndarray) -> np.ndarray:
    """See FiniteMDP.q_values."""
    q = np.empty((mdp.states, mdp.actions))
    arrays = (mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma, values, q)
    if mdp.nnz < SERIAL_BELOW:
        _q_rows(*arrays, 0, mdp.states)
    else:
        _q_all(*arrays)
    return q


WIDEST = 8
"""Largest width that is compiled for; wider rows are long enough for a loop."""


WORTH_UNROLLING = 2_000
"""Outcomes below which compiling for one more width takes longer than it will ever save."""


def unrolled(mdp: FiniteMDP) -> tuple[int, ...]:
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


def back_up(mdp: FiniteMDP, v: np.ndarray, margin: float = 0.0, into: Backup | None = None) -> Backup:
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


def gauss_seidel(mdp: FiniteMDP, v: np.ndarray, threshold: float, sweeps: int, done: int = 0) -> tuple[int, float]:
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


def restrict(mdp: FiniteMDP, policy: np.ndarray, dtype: type = np.float64, into: Rows | None = None) -> Rows:
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


def propagate(mdp: FiniteMDP, rows: Rows, e: np.ndarray, new: np.ndarray, x: np.ndarray) -> tuple[float, float]:
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
