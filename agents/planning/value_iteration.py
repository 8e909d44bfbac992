"""Value iteration: Bellman backups until nothing changes. Bellman 1957; Puterman 1994, sections 6.3 and 6.6.

Letters: S states.
"""

from __future__ import annotations

import heapq
from typing import Literal

import numpy as np
from numba import njit

from rlkit.agents.planning.goal import Goal, Progress
from rlkit.errors import unknown
from rlkit.exact.backups import Backup, back_up, following, gauss_seidel
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.rows import predecessors

METHODS = ("jacobi", "gauss-seidel", "prioritized")
Method = Literal["jacobi", "gauss-seidel", "prioritized"]


def value_iteration(mdp: FiniteMDP, v: np.ndarray, goal: Goal, *, method: Method = "gauss-seidel") -> Progress:
    """Sweep until the goal is met.

    Args:
        mdp: S states.
        v: where to begin, [S]; changed.
        goal: when to stop.
        method: "jacobi" backs up all states from the same values, and stops by the span of the change (MacQueen
            1966); "gauss-seidel" in place, from the last state to the first and back; "prioritized" the state whose
            value could change most (Moore and Atkeson 1993; Wingate and Seppi 2005), S backups counted as a sweep.
    """
    if method == "jacobi":
        return _jacobi(mdp, v, goal)
    if method == "gauss-seidel":
        sweeps, _ = gauss_seidel(mdp, v, goal.threshold, goal.iterations)
        return Progress(v, sweeps)
    if method == "prioritized":
        arrays = (mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma)
        begin, origin = predecessors(mdp.indptr, mdp.indices, mdp.weights, mdp.terminal, mdp.available)
        backups = _prioritized(*arrays, begin, origin, v, goal.threshold, goal.iterations * mdp.states)
        return Progress(v, -(-backups // mdp.states))
    raise unknown("method", method, METHODS)


def _jacobi(mdp: FiniteMDP, v: np.ndarray, goal: Goal) -> Progress:
    backup: Backup | None = None
    for sweep in range(goal.iterations):
        backup = back_up(mdp, v, goal.margin, backup)
        if goal.met(mdp, backup):
            return Progress(v, sweep + 1, backup)
        spare, v = v, backup.new
        backup = backup._replace(new=spare)
    return Progress(v, goal.iterations)


@njit(cache=True, nogil=True)
def _best(
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    rewards: np.ndarray,
    gamma: float,
    v: np.ndarray,
    s: int,
) -> float:
    best = -np.inf
    for a in range(rewards.shape[1]):
        row = s * rewards.shape[1] + a
        best = max(best, rewards[s, a] + gamma * following((), indptr, indices, weights, v, row))
    return best


@njit(cache=True, nogil=True)
def _prioritized(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray, terminal: np.ndarray,
    gamma: float, begin: np.ndarray, origin: np.ndarray, v: np.ndarray, threshold: float, limit: int,
) -> int:  # fmt: skip
    """Back up the state with the largest Bellman residual, until none exceeds the threshold; the number of backups."""
    states = len(v)
    residual = np.zeros(states)
    heap = [(0.0, np.int64(0))]
    heap.pop()
    for s in range(states):
        if not terminal[s]:
            residual[s] = abs(_best(indptr, indices, weights, rewards, gamma, v, s) - v[s])
            if residual[s] > threshold:
                heapq.heappush(heap, (-residual[s], np.int64(s)))
    backups = states
    while len(heap) > 0 and backups < limit:
        negative, state = heapq.heappop(heap)
        s = int(state)
        if -negative != residual[s]:  # an entry that a later one has replaced
            continue
        v[s] = _best(indptr, indices, weights, rewards, gamma, v, s)
        residual[s] = 0.0
        for k in range(begin[s], begin[s + 1]):
            p = int(origin[k])
            fresh = abs(_best(indptr, indices, weights, rewards, gamma, v, p) - v[p])
            backups += 1
            if fresh != residual[p]:
                residual[p] = fresh
                if fresh > threshold:
                    heapq.heappush(heap, (-fresh, np.int64(p)))
    return backups
