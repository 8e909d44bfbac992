"""Cycles that cost nothing: undiscounted, they make the Bellman equation have more solutions than one.

Where a set of states can be wandered in for ever at no reward (an end component), all of them have the same optimal
value, that of the best way out, but each larger value also solves their equations. So the set is made one state, as in
Haddad and Monmege 2014, "Reachability in MDPs: refining convergence of value iteration".

Letters: S states, A actions.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from rlkit.exact.mdp import FiniteMDP


def free_rows(mdp: FiniteMDP) -> tuple[np.ndarray, np.ndarray]:
    """The actions that stay, at no reward, in a set of states where they can go on for ever.

    Returns:
        [S A] bool, and the number of each state's set, [S]; sets without such actions have one state.
    """
    origin = np.repeat(np.arange(mdp.states), mdp.actions)
    usable = (mdp.rewards.ravel() == 0) & ~mdp.terminal[origin] & (mdp.ending == 0)
    counts = np.diff(mdp.indptr)
    row_of = np.repeat(np.arange(len(counts)), counts)
    likely = mdp.weights > 0
    while True:
        edges = usable[row_of] & likely
        pairs = (origin[row_of[edges]], mdp.indices[edges])
        graph = sparse.csr_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(mdp.states, mdp.states))
        _, sets = sparse.csgraph.connected_components(graph, connection="strong")
        leaving = np.zeros(len(counts), np.bool_)
        leaving[row_of[likely & (sets[origin[row_of]] != sets[mdp.indices])]] = True
        if not (usable & leaving).any():
            return usable, sets
        usable &= ~leaving


def reduce(mdp: FiniteMDP) -> FiniteMDP | None:
    """The same process where each such set is entered at one state, from which the others are reached at no cost.

    The states of a set form a binary tree, of two more actions each, from the one that is entered; the actions that
    stay are gone. The states keep their numbers, and `lift` spreads the values.

    Returns:
        None if there is nothing to do.
    """
    usable, sets = free_rows(mdp)
    if not usable.any():
        return None
    states, actions = mdp.states, mdp.actions
    entry, child = _trees(mdp, usable, sets)
    wide = actions + 2
    counts = np.zeros((states, wide), np.int64)
    kept = (np.diff(mdp.indptr) > 0) & ~usable
    counts[:, :actions] = np.where(kept, np.diff(mdp.indptr), 0).reshape(states, actions)
    counts[:, actions:] = child >= 0
    indptr = np.zeros(states * wide + 1, np.int64)
    np.cumsum(counts.ravel(), out=indptr[1:])
    rewards = np.zeros((states, wide))
    rewards[:, :actions] = np.where(mdp.rewards > -np.inf, mdp.rewards, 0.0)
    indices, share = np.empty(indptr[-1], np.int32), np.ones(indptr[-1])
    terminated = None if mdp.terminated is None else np.zeros(indptr[-1], np.bool_)
    row_of = np.repeat(np.arange(states * actions), np.diff(mdp.indptr))
    outcome = np.flatnonzero(kept[row_of])
    state, action = np.divmod(row_of[outcome], actions)
    place = indptr[state * wide + action] + outcome - mdp.indptr[row_of[outcome]]
    indices[place], share[place] = entry[mdp.indices[outcome]], mdp.probabilities[outcome]
    if terminated is not None and mdp.terminated is not None:
        terminated[place] = mdp.terminated[outcome]
    for side in range(2):
        parent = np.flatnonzero(child[:, side] >= 0)
        indices[indptr[parent * wide + actions + side]] = child[parent, side]
    return FiniteMDP(
        (indptr, indices, share),
        rewards,
        terminal=mdp.terminal,
        terminated=terminated,
        start=mdp.start,
    )


def _trees(mdp: FiniteMDP, usable: np.ndarray, sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The state that each state's set is entered at, [S], and the two below each in its set's tree, [S, 2], or -1.

    In the tree are the states of a set with a way out of it; from the others one goes to where the set is entered.
    """
    states = mdp.states
    member = usable.reshape(states, mdp.actions).any(axis=1)
    exits = ((np.diff(mdp.indptr) > 0) & ~usable).reshape(states, mdp.actions).any(axis=1)
    child = np.full((states, 2), -1, np.int64)
    inside = np.flatnonzero(member & exits)
    order = inside[np.argsort(sets[inside], kind="stable")]
    first = np.flatnonzero(np.r_[True, np.diff(sets[order]) != 0])
    size = np.diff(np.r_[first, len(order)])
    begin = np.repeat(first, size)
    rank = np.arange(len(order)) - begin
    root = np.full(states, -1, np.int32)  # by set
    root[sets[order]] = order[begin]
    entry = np.where(member, root[sets], np.arange(states, dtype=np.int32))
    for side in range(2):
        below = 2 * rank + 1 + side
        has = below < np.repeat(size, size)
        child[order[has], side] = order[begin[has] + below[has]]
    shut = member & ~exits
    child[shut, 0] = entry[shut]
    return entry, child


def lift(mdp: FiniteMDP, values: np.ndarray) -> np.ndarray:
    """Values of the process that `reduce` made, spread over each set, [S]."""
    entry, _ = _trees(mdp, *free_rows(mdp))
    spread: np.ndarray = values[entry]
    return spread
