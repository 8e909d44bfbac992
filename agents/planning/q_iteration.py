"""Q-value iteration: the Bellman optimality equation for action values. Sutton and Barto 2018, equation 3.20."""

from __future__ import annotations

import numpy as np

from rlkit.agents.planning.goal import Goal, Progress
from rlkit.exact.mdp import FiniteMDP


def q_iteration(mdp: FiniteMDP, v: np.ndarray, goal: Goal) -> Progress:
    """q(s, a) = r(s, a) + gamma E max_a' q(s', a') for all pairs at once, until no value changes by the threshold.

    Args:
        mdp: S states.
        v: the largest action value of each state to begin with, [S]; changed.
        goal: when to stop.
    """
    for sweep in range(goal.iterations):
        q = mdp.q_values(v)  # [S, A]
        new = q.max(axis=1)
        change = float(np.abs(new - v).max(initial=0.0))
        v[:] = new
        if change <= goal.threshold:
            return Progress(v, sweep + 1)
    return Progress(v, goal.iterations)
