"""Backward induction: one pass from the last states or the last step. Bellman 1957; Puterman 1994, section 4.5."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from rlkit.agents.planning.goal import Goal, Progress
from rlkit.errors import UserError
from rlkit.exact import backups, rows
from rlkit.exact.mdp import FiniteMDP


class Steps(NamedTuple):
    """The solution with a horizon of H steps."""

    values: np.ndarray
    """At the first step, [S]."""
    after: np.ndarray
    """After the first step, [S]."""
    policy: np.ndarray
    """[H, S]."""
    size: float
    """Largest value at any step."""


def backward_induction(mdp: FiniteMDP, v: np.ndarray, goal: Goal) -> Progress:
    """One backup of each state, after all the states that it leads to.

    Raises:
        UserError: a state can come back to itself.
    """
    del goal
    if mdp.ordered:
        backups.gauss_seidel(mdp, v, -1.0, 1)
        return Progress(v, 1)
    begin, origin = rows.predecessors(mdp.indptr, mdp.indices, mdp.weights, mdp.terminal, mdp.available)
    arrays = (mdp.indptr, mdp.indices, mdp.weights, mdp.rewards, mdp.terminal, mdp.gamma)
    cyclic = _in_order(*arrays, begin, origin, v)
    if cyclic >= 0:
        raise UserError(
            f"backward-induction needs an end to count back from, but from state {cyclic} on, states come back: "
            "give --horizon, or take another solver such as policy-iteration"
        )
    return Progress(v, 1)


def finite_horizon(mdp: FiniteMDP, margin: float) -> Steps:
    """The best action of each state at each step up to the horizon. Of tied actions the lowest."""
    assert mdp.horizon is not None
    small = np.int8 if mdp.actions < 128 else np.int32
    policy, size = np.zeros((mdp.horizon, mdp.states), small), 0.0
    v = after = np.zeros(mdp.states)
    backup = None
    for step in reversed(range(mdp.horizon)):
        backup = backups.back_up(mdp, v, margin, backup)
        policy[step] = backup.lowest
        size = max(size, backup.size)
        after, v = v, backup.new
        backup = backup._replace(new=after)  # overwritten by the next step, kept after the last
    return Steps(v, after, policy, size)


@njit(cache=True, nogil=True)
def _in_order(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, rewards: np.ndarray, terminal: np.ndarray,
    gamma: float, begin: np.ndarray, origin: np.ndarray, v: np.ndarray,
) -> int:  # fmt: skip
    """Kahn 1962: back up states whose successors all are; -1, or a state that leads into a cycle."""
    states, actions = rewards.shape
    waiting = np.zeros(states, np.int64)  # outcomes that lead to states not backed up yet
    queue, size = np.empty(states, np.int32), 0
    for s in range(states):
        if not terminal[s]:
            for k in range(indptr[s * actions], indptr[(s + 1) * actions]):
                waiting[s] += weights[k] > 0
        if waiting[s] == 0:
            queue[size] = s
            size += 1
    at = 0
    while at < size:
        s = queue[at]
        at += 1
        if not terminal[s]:
            best = -np.inf
            for a in range(actions):
                row = s * actions + a
                best = max(best, rewards[s, a] + gamma * backups.following((), indptr, indices, weights, v, row))
            v[s] = best
        for k in range(begin[s], begin[s + 1]):
            p = origin[k]
            waiting[p] -= 1
            if waiting[p] == 0:
                queue[size] = p
                size += 1
    if size == states:
        return -1
    return int(np.argmax(waiting > 0))
