"""Policy iteration: evaluate a policy, improve it, until it is its own improvement.

Howard 1960; Puterman 1994, sections 6.4 and 6.5.

Letters: S states, A actions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit, prange

from rlkit.agents.planning.goal import Goal, Progress
from rlkit.errors import UserError, unknown
from rlkit.exact import backups, bounds, policy_evaluation, rows
from rlkit.exact.backups import following
from rlkit.exact.mdp import FiniteMDP

Evaluation = Literal["exact", "iterative"]
EVALUATIONS = ("exact", "iterative")


def policy_iteration(mdp: FiniteMDP, v: np.ndarray, goal: Goal, *, evaluation: Evaluation = "exact") -> Progress:
    """Evaluate and improve until no state has a better action; each iteration is one of both.

    An action is kept unless another is better by more than rounding, so that ties cannot make it go round.

    Args:
        mdp: S states.
        v: changed; its greedy policy is the first one, undiscounted made to end from everywhere.
        goal: when to stop.
        evaluation: "exact" solves the policy's linear system; "iterative" sweeps until its residual is a tenth of
            what the improvement gained.
    """
    if evaluation not in EVALUATIONS:
        raise unknown("evaluation", evaluation, EVALUATIONS)
    states = np.arange(mdp.states)
    policy = _first_policy(mdp, v)
    for iteration in range(goal.iterations):
        reward = np.where(mdp.terminal, 0.0, mdp.rewards[states, policy])
        if evaluation == "exact":
            v[:] = policy_evaluation.solve(backups.restrict(mdp, policy), mdp.gamma, reward)
            if not np.isfinite(v).all():
                raise UserError("policy-iteration came to a policy that never ends: its values are infinite")
        else:
            q = mdp.q_values(v)
            gain = float(np.abs(q[states, policy] - v).max(initial=0.0))
            _sweep_policy(*backups.restrict(mdp, policy), mdp.gamma, reward, v, max(0.1 * gain, 0.5 * goal.threshold))
        q = mdp.q_values(v)
        best = q.max(axis=1)
        rounding = bounds.rounding(mdp, float(np.abs(v).max(initial=0.0)))
        better = best > q[states, policy] + max(rounding / max(1 - mdp.gamma, 1e-3), 1e-14)
        if evaluation == "exact":
            if not better.any():
                return Progress(v, iteration + 1)
        elif float(np.abs(best - v).max(initial=0.0)) <= goal.threshold:
            return Progress(v, iteration + 1)
        policy = np.where(better, q.argmax(axis=1), policy)
    return Progress(v, goal.iterations)


def _first_policy(mdp: FiniteMDP, v: np.ndarray) -> np.ndarray:
    if mdp.gamma < 1.0:
        return np.asarray(mdp.q_values(v).argmax(axis=1))
    policy = bounds.ending_policy(mdp, mdp.available)
    assert policy is not None  # the model was checked for that
    return policy


@njit(cache=True, nogil=True)
def _sweep_policy(
    begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float, reward: np.ndarray, v: np.ndarray,
    threshold: float,
) -> None:  # fmt: skip
    """Gauss-Seidel sweeps of a policy's equations until no value changes by the threshold."""
    for _ in range(100_000):
        change = 0.0
        for s in range(len(v) - 1, -1, -1):
            total = 0.0
            for k in range(begin[s], begin[s + 1]):
                total += share[k] * v[to[k]]
            new = reward[s] + gamma * total
            change = max(change, abs(new - v[s]))
            v[s] = new
        if change <= threshold:
            return


def modified_policy_iteration(mdp: FiniteMDP, v: np.ndarray, goal: Goal, *, sweeps: int | None = None) -> Progress:
    """Back up all actions, then sweep the greedy policy alone some times. Puterman and Shin 1978.

    Each iteration solves for a correction x of the values: x = d + gamma P x with d = T v - v, by `sweeps` sweeps in
    float32, half the memory traffic, which costs no accuracy as d is taken in float64 each time. Where episodes do
    not end, what is left is corrected by the middle of its span (MacQueen 1966): exact for a constant. It stops by
    the span too.

    Args:
        mdp: S states.
        v: where to begin, [S]; changed.
        goal: when to stop.
        sweeps: of the policy alone, an iteration; if not given, the more, the fewer states the policy changed in: it
            does not pay to evaluate well what will not stay.
    """
    if sweeps is not None and sweeps < 0:
        raise UserError(f"sweeps is {sweeps}, expected at least 0")
    if mdp.gamma == 1.0:
        return _modified_undiscounted(mdp, v, goal, 6 if sweeps is None else sweeps)
    x, e, spare = (np.empty(mdp.states, np.float32) for _ in range(3))
    backup, chosen, before = None, None, np.full(mdp.states, -1, np.int32)
    carry = 0.0 if mdp.ends else mdp.gamma / (1 - mdp.gamma)
    for iteration in range(goal.iterations):
        backup = backups.back_up(mdp, v, goal.margin, backup)
        if goal.met(mdp, backup):
            return Progress(v, iteration + 1, backup)
        chosen = backups.restrict(mdp, backup.policy, np.float32, chosen)
        middle = 0.0 if mdp.ends else (backup.low + backup.high) / 2
        _begin(backup.new, v, middle, mdp.terminal, e, x)
        low, high = backup.low - middle, backup.high - middle
        changed = np.count_nonzero(backup.policy != before) / mdp.states
        before[:] = backup.policy
        for _ in range(_sweeps(changed) if sweeps is None else sweeps):
            low, high = backups.propagate(mdp, chosen, e, spare, x)
            e, spare = spare, e
        _correct(v, x, middle * (1 + carry) + carry * (low + high) / 2, mdp.terminal)
    return Progress(v, goal.iterations)


def _sweeps(changed: float) -> int:
    """How many sweeps pay, by the share of states in which the policy has just changed; tuned on Garnet processes."""
    return 2 if changed > 0.1 else 4 if changed > 0.005 else 10


@njit(cache=True, nogil=True)
def _begin(new: np.ndarray, v: np.ndarray, middle: float, terminal: np.ndarray, e: np.ndarray, x: np.ndarray) -> None:
    for s in range(len(v)):
        d = 0.0 if terminal[s] else new[s] - v[s] - middle
        e[s] = d
        x[s] = d


@njit(cache=True, nogil=True)
def _correct(v: np.ndarray, x: np.ndarray, shift: float, terminal: np.ndarray) -> None:
    for s in range(len(v)):
        if not terminal[s]:
            v[s] += x[s] + shift


def _modified_undiscounted(mdp: FiniteMDP, v: np.ndarray, goal: Goal, sweeps: int) -> Progress:
    """In float64 and from the values themselves: what is left has no known span."""
    states = np.arange(mdp.states)
    for iteration in range(goal.iterations):
        backup = backups.back_up(mdp, v, goal.margin)
        if goal.met(mdp, backup):
            return Progress(v, iteration + 1, backup)
        v = backup.new
        begin, to, share = backups.restrict(mdp, backup.policy)
        reward = np.where(mdp.terminal, 0.0, mdp.rewards[states, backup.policy])
        for _ in range(sweeps):
            v = reward + policy_evaluation.product(begin, to, share, 1.0, v)
    return Progress(v, goal.iterations)


LONGEST = 1e8
"""Steps of an episode beyond which a policy is taken not to end."""

BLOCK = 1_024
"""Fewest states that are taken up or left out together."""

BLOCKS = 1_024
"""Most blocks."""


SAMPLE = 16
"""One state in so many is looked at for where its block leads; what that misses, the certificate finds."""


def inexact_policy_iteration(mdp: FiniteMDP, v: np.ndarray, goal: Goal, *, forcing: float = 0.1) -> Progress:
    """Newton steps v += x, (I - gamma P) x = T v - v, solved to a share of the residual by BiCGSTAB, where they matter.

    Gargiani, Liao-McPherson, Zanelli and Lygeros 2022, "Inexact GMRES policy iteration for large-scale MDPs". A policy
    spreads by one step an iteration, so each begins with sweeps in place, which carry it along their whole way; and
    only blocks of states take part whose values change, or those that lead to them: with a discount, rewards that are
    far away do not count. If a step does not bring the residual down, sweeps alone do.

    Args:
        mdp: S states.
        v: where to begin, [S]; changed.
        goal: when to stop.
        forcing: share of the residual's 2-norm that a step may leave.

    Returns:
        How far it came; a step and the sweeps before some steps count as an iteration each.
    """
    if not 0 < forcing < 1:
        raise UserError(f"forcing is {forcing:g}, expected above 0 and below 1")
    size = max(BLOCK, -(-mdp.states // BLOCKS))
    arrays = (backups.unrolled(mdp), mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma)
    if mdp.nnz < rows.SERIAL_BELOW:  # one block
        size, active, graph = mdp.states, np.ones(1, np.bool_), np.ones((1, 1), np.bool_)
    else:
        active = _unsettled(*arrays, v, size, goal.threshold)
        graph = _block_graph(mdp.indptr, mdp.indices, mdp.states, mdp.actions, size)
    threshold, rounds, used = 0.5 * goal.threshold, 8, 0
    place, policy = np.full(mdp.states, -1, np.int32), np.full(mdp.states, -1, np.int32)
    while used < goal.iterations:
        change = _relax(*arrays, v, size, active, graph, threshold, rounds)
        used += 1
        if change <= threshold:
            break
        live = _live(v, active, mdp.terminal, size)
        place[live] = np.arange(len(live), dtype=np.int32)
        steps, settled = _newton(mdp, v, live, place, policy, threshold, forcing, goal.iterations - used)
        used += steps
        rounds = 4 if settled else min(2 * rounds, 256)
        place[live] = -1
        active |= graph[:, active].any(axis=1)  # what leads to states that a step has moved
    return Progress(v, used)


def _newton(
    mdp: FiniteMDP, v: np.ndarray, live: np.ndarray, place: np.ndarray, policy: np.ndarray, threshold: float,
    forcing: float, limit: int,
) -> tuple[int, bool]:  # fmt: skip
    """Newton steps on the live states, the others held; how many, and whether the residual came below the threshold.

    Undiscounted, a policy that never ends can bring values any distance off while the residual is but its cycle's cost.
    So steps that did not settle are taken back there, unless rounding alone kept them from it.
    """
    arrays = (backups.unrolled(mdp), mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.gamma)
    even = (0,) * mdp.longest if mdp.longest <= backups.WIDEST else ()  # rows are filled up to one length
    begin, d = np.empty(len(live) + 1, np.int64), np.empty(len(live))
    to, share = np.empty(len(live) * mdp.longest, np.int32), np.empty(len(live) * mdp.longest)
    residual = least = np.inf
    before = kept = v[live]
    steps = worse = 0
    while steps < min(limit, 200):
        residual = _improve(*arrays, v, live, place, policy, d, len(even), begin, to, share)
        if residual > 10 * least:  # worse than without the last step
            v[live] = kept
            break
        worse = worse + 1 if residual > 0.9 * least else 0
        least = min(least, residual)
        if residual <= threshold or worse == 5:
            break
        enough = min(0.9, 0.5 * threshold / float(np.sqrt(np.square(d).sum())))  # the last step need not go further
        x, _ = policy_evaluation.bicgstab(even, begin, to, share, mdp.gamma, d, max(forcing, enough), 200)
        if not float(np.abs(x).max(initial=0.0)) <= LONGEST * residual:
            break
        kept = v[live]
        v[live] += x
        steps += 1
    exact = max(threshold, bounds.rounding(mdp, float(np.abs(before).max(initial=0.0))))
    if mdp.gamma == 1.0 and residual > exact:
        v[live] = before
    return steps, residual <= threshold


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _unsettled(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray,
    terminal: np.ndarray, gamma: float, v: np.ndarray, size: int, threshold: float,
) -> np.ndarray:  # fmt: skip
    """[blocks] bool: which have a state whose backup would change it by more than the threshold."""
    states, actions = rewards.shape
    blocks = (states + size - 1) // size
    active = np.zeros(blocks, np.bool_)
    zero = not v.any()
    for block in prange(blocks):
        for s in range(block * size, min(states, (block + 1) * size)):
            if not terminal[s]:
                best = -np.inf
                for a in range(actions):
                    q = rewards[s, a]
                    if not zero:
                        q += gamma * following(unroll, indptr, indices, weights, v, s * actions + a)
                    best = max(best, q)
                if abs(best - v[s]) > threshold:
                    active[block] = True
                    break
    return active


@njit(cache=True, nogil=True, parallel=True)
def _block_graph(indptr: np.ndarray, indices: np.ndarray, states: int, actions: int, size: int) -> np.ndarray:
    """[blocks, blocks] bool: (b, c) where a state of block b, of a sample, can lead to one of block c."""
    blocks = (states + size - 1) // size
    graph = np.zeros((blocks, blocks), np.bool_)
    for block in prange(blocks):
        for s in range(block * size, min(states, (block + 1) * size), SAMPLE):
            for k in range(indptr[s * actions], indptr[(s + 1) * actions]):
                graph[block, indices[k] // size] = True
    return graph


@njit(cache=True, nogil=True, error_model="numpy")
def _relax(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray,
    terminal: np.ndarray, gamma: float, v: np.ndarray, size: int, active: np.ndarray, graph: np.ndarray,
    threshold: float, rounds: int,
) -> float:  # fmt: skip
    """Gauss-Seidel sweeps of the active blocks, down and up; blocks that lead to a changed one become active."""
    states, actions = rewards.shape
    blocks = len(active)
    change = 0.0
    for sweep in range(rounds):
        change = 0.0
        for j in range(blocks):
            block = blocks - 1 - j if sweep % 2 == 0 else j
            if not active[block]:
                continue
            first, last = block * size, min(states, (block + 1) * size)
            moved = 0.0
            for i in range(last - first):
                s = last - 1 - i if sweep % 2 == 0 else first + i
                if not terminal[s]:
                    best = -np.inf
                    for a in range(actions):
                        q = rewards[s, a] + gamma * following(unroll, indptr, indices, weights, v, s * actions + a)
                        best = max(best, q)
                    moved = max(moved, abs(best - v[s]))
                    v[s] = best
            if moved > threshold:
                for other in range(blocks):
                    active[other] |= graph[other, block]
            change = max(change, moved)
        if change <= threshold:
            break
    return change


@njit(cache=True, nogil=True)
def _live(v: np.ndarray, active: np.ndarray, terminal: np.ndarray, size: int) -> np.ndarray:
    """The states of active blocks that are neither terminal nor still 0."""
    live = np.empty(len(v), np.int32)
    n = 0
    for block in range(len(active)):
        if active[block]:
            for s in range(block * size, min(len(v), (block + 1) * size)):
                if not terminal[s] and v[s] != 0.0:
                    live[n] = s
                    n += 1
    return live[:n].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def _improve(
    unroll: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray,
    gamma: float, v: np.ndarray, live: np.ndarray, place: np.ndarray, policy: np.ndarray,
    d: np.ndarray, even: int, begin: np.ndarray, to: np.ndarray, share: np.ndarray,
) -> float:  # fmt: skip
    """d = T v - v of the live states, their greedy policy and its rows among them; the largest |d|.

    Rows are filled up to `even` entries, or follow each other if that is 0.
    """
    actions = rewards.shape[1]
    residual = 0.0
    begin[0] = 0
    for i in range(len(live)):
        s = live[i]
        best, arg, held = -np.inf, 0, -np.inf
        for a in range(actions):
            q = rewards[s, a] + gamma * following(unroll, indptr, indices, weights, v, s * actions + a)
            held = q if a == policy[s] else held
            arg = a if q > best else arg
            best = max(best, q)
        if held < best:
            policy[s] = arg
        d[i] = best - v[s]
        residual = max(residual, abs(d[i]))
        row = s * actions + policy[s]
        at = begin[i]
        for k in range(indptr[row], indptr[row + 1]):
            if place[indices[k]] >= 0:
                to[at] = place[indices[k]]
                share[at] = weights[k]
                at += 1
        while at < begin[i] + even:
            to[at] = i
            share[at] = 0.0
            at += 1
        begin[i + 1] = at
    return residual
