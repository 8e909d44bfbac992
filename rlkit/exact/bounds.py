"""Proven bounds on the distance of values from the optimal ones, from one Bellman backup.

Letters: S states, A actions, V* the optimal values, T the Bellman operator, d = T v - v, c = gamma / (1 - gamma).
Each bound also holds for what rounding does to d: sums of n terms are off by at most n 2^-53 of their size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.exact import policy_evaluation, rows
from rlkit.exact.backups import Backup
from rlkit.exact.mdp import FiniteMDP

UNIT = 2.0**-53
"""Relative error of one rounding to float64."""


class Certified(NamedTuple):
    """Values that are known to be within a bound of V*."""

    values: np.ndarray
    """[S] float64."""
    policy: np.ndarray
    """Greedy actions, [S]; of those tied within the margin the lowest, undiscounted the lowest that ends."""
    bound: float
    """Largest |values - V*|; infinite where nothing could be proven."""


def rounding(mdp: FiniteMDP, size: float) -> float:
    """Largest error of a backed-up value of this size: of its sum, and of probabilities whose sum is 1 nearly."""
    return (3 * (mdp.longest + 3) * UNIT + 2 * mdp.deviation) * size


def interval(mdp: FiniteMDP, backup: Backup) -> tuple[float, float]:
    """Where V* - T v lies in every state that is not terminal, for gamma below 1.

    c min d <= V* - T v <= c max d, MacQueen 1966; Puterman 1994, theorem 6.6.1. Where episodes can end, the value after
    the end does not move, so that 0 is between the two.
    """
    c = mdp.gamma / (1 - mdp.gamma)
    slack = rounding(mdp, backup.size) / (1 - mdp.gamma)
    low, high = (min(backup.low, 0.0), max(backup.high, 0.0)) if mdp.ends else (backup.low, backup.high)
    return c * low - slack, c * high + slack


def bound(mdp: FiniteMDP, backup: Backup) -> float:
    """The bound that `discounted` would give."""
    if backup.low > backup.high:  # every state is terminal
        return 0.0
    low, high = interval(mdp, backup)
    return (high - low) / 2


def discounted(mdp: FiniteMDP, backup: Backup) -> Certified:
    """T v moved to the middle of where V* can be, for gamma below 1."""
    if backup.low > backup.high:
        return Certified(backup.new, backup.lowest, 0.0)
    low, high = interval(mdp, backup)
    values = backup.new
    values += (low + high) / 2
    if mdp.ends:
        values[mdp.terminal] = 0.0
    return Certified(values, backup.lowest, (high - low) / 2)


def undiscounted(mdp: FiniteMDP, v: np.ndarray, margin: float) -> Certified:
    """Bounds from expected lengths of episodes, for gamma 1 where some policy ends from everywhere.

    V* is the best expected return of the policies that end with probability 1 (proper ones). For a greedy policy that
    is proper, V* - v >= min(d, 0) E[length]. And if v + e w is superharmonic for a w >= 0, T(v + e w) <= v + e w, then
    V* <= v + e w: the longest expected length under tied actions is such a w. Bertsekas and Tsitsiklis 1991, "An
    analysis of stochastic shortest path problems"; for intervals Haddad and Monmege 2014.

    Args:
        mdp: with no cycles that cost nothing (see end_components.py).
        v: values, [S]; 0 in terminal states.
        margin: actions whose values differ by less are tied.
    """
    q = mdp.q_values(v)
    best = q.max(axis=1)
    tied = q >= best[:, None] - margin
    policy = ending_policy(mdp, tied)
    if policy is None:
        return Certified(v, tied.argmax(axis=1), np.inf)
    live = ~mdp.terminal
    states = np.arange(mdp.states)
    length = policy_evaluation.expected_length(mdp, policy)
    if length is None:
        return Certified(v, policy, np.inf)
    slack = rounding(mdp, float(np.abs(best[live]).max(initial=0.0)))
    loss = float((v - q[states, policy])[live].max(initial=0.0)) + slack
    below = loss * float(length.max(initial=0.0))
    above = _above(mdp, v, q, tied, policy, slack)
    return Certified(v, policy, max(below, above))


def _above(
    mdp: FiniteMDP, v: np.ndarray, q: np.ndarray, tied: np.ndarray, policy: np.ndarray, slack: float
) -> float:  # fmt: skip
    """How far V* can be above v: the smallest e max w that makes v + e w superharmonic; inf if none is found."""
    live = ~mdp.terminal
    lengths = _longest(mdp, tied, policy)
    if lengths is None:
        return np.inf
    w, after = lengths
    available = (q > -np.inf) & live[:, None]
    excess = (q - v[:, None] + slack)[available]  # what e (w - after) must cover
    drop = (w[:, None] - after)[available]
    falling = drop > 0
    least = float((excess[falling] / drop[falling]).max(initial=0.0))
    if (excess[~falling] > 0).any():
        return np.inf
    rising = drop < 0
    most = float((excess[rising] / drop[rising]).min(initial=np.inf))
    return least * float(w.max(initial=0.0)) if least <= most else np.inf


def _longest(mdp: FiniteMDP, tied: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The longest expected length w [S] of an episode under tied actions, and E w(s') [S, A]; None if it is endless."""
    states = np.arange(mdp.states)
    for _ in range(100):  # policy iteration, of which a few do
        w = policy_evaluation.expected_length(mdp, policy)
        if w is None:
            return None
        after = mdp.expected_next(w)
        choice = np.where(tied, after, -np.inf).argmax(axis=1)
        better = ~mdp.terminal & (after[states, choice] - after[states, policy] > 1e-9 * (1 + w))
        if not better.any():
            return w, after
        policy = np.where(better, choice, policy)
    return None


def ending_policy(mdp: FiniteMDP, allowed: np.ndarray) -> np.ndarray | None:
    """A policy of allowed actions that ends from everywhere: the lowest ones if they do, else those that lead nearer.

    Args:
        mdp: S states, A actions.
        allowed: [S, A] bool.

    Returns:
        [S] int64, or None if there is none.
    """
    lowest: np.ndarray = allowed.argmax(axis=1)
    only = np.zeros_like(allowed)
    only[np.arange(mdp.states), lowest] = True
    if (rows.distance_to_end(mdp, only) >= 0).all():
        return lowest
    distance = rows.distance_to_end(mdp, allowed)
    if (distance < 0).any():
        return None
    return rows.towards_end(mdp, allowed, distance)
