"""Any finite MDP with a known model as tensor functions, so that thousands of chains run at once.

Letters: N parallel envs, S states, A actions, W outcomes of the widest row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlkit.envs.lookup import REFUSALS
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.sampling import Simulator, simulator


class FunctionalMDPState(NamedTuple):
    """Where a chain is, and what the step that led there brought."""

    state: tf.Tensor
    """Counted from 0, [N] int32."""
    reward: tf.Tensor
    """[N] float32."""
    ended: tf.Tensor
    """[N] bool."""


class FunctionalMDP:
    """Chains of a model: outcomes are drawn from its sparse rows, with chances that are multiples of 2^-32.

    Args:
        tables: the model as `rlkit.exact.sampling.simulator` makes it.
        observation_space: Discrete(S).
        action_space: Discrete(A).
    """

    initial_draws = 1
    transition_draws = 1

    def __init__(self, tables: Simulator, observation_space: spaces.Discrete, action_space: spaces.Discrete) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.first_state, self.first_action = int(observation_space.start), int(action_space.start)
        start = np.diff(tables.start, prepend=0.0)
        first = np.flatnonzero(start > 0)
        self._first = first.astype(np.int32)
        self._start = _thresholds(np.cumsum(start[first])[:-1])  # the last one takes what rounding leaves
        self._threshold = _thresholds(tables.threshold)
        self._to, self._ends = tables.to, tables.ends
        self._reward = tables.reward.astype(np.float32)

    def initial(self, bits: tf.Tensor) -> FunctionalMDPState:
        """Drawn from the model's start distribution."""
        draw = tf.cast(bits[:, 0], tf.int64)
        place = tf.searchsorted(tf.constant(self._start), draw, side="right") if len(self._start) else 0 * draw
        state = tf.gather(self._first, place)
        return FunctionalMDPState(state, tf.zeros_like(state, tf.float32), tf.zeros_like(state, tf.bool))

    def transition(self, state: FunctionalMDPState, action: tf.Tensor, bits: tf.Tensor) -> FunctionalMDPState:
        """An outcome of the row of state and action."""
        row = state.state * int(self.action_space.n) + (action - self.first_action)  # [N]
        passed = tf.cast(bits[:, :1], tf.int64) >= tf.gather(self._threshold, row)  # [N, W]
        outcome = tf.reduce_sum(tf.cast(passed, tf.int32), axis=1)  # [N]
        width = self._threshold.shape[1]
        to, reward, ends = (
            tf.gather(tf.reshape(table, [-1]), row * width + outcome) for table in (self._to, self._reward, self._ends)
        )
        return FunctionalMDPState(to, reward, ends)

    def observation(self, state: FunctionalMDPState) -> tf.Tensor:
        """The state as the space counts it, [N] int32."""
        return state.state + self.first_state

    def reward(self, state: FunctionalMDPState, action: tf.Tensor, next_state: FunctionalMDPState) -> tf.Tensor:
        """Of the outcome, or the expected one where the model has no other."""
        del state, action
        return next_state.reward

    def terminal(self, state: FunctionalMDPState) -> tf.Tensor:
        """Whether the outcome ended the episode."""
        return state.ended


def _thresholds(chances: np.ndarray) -> np.ndarray:
    """Cumulative chances as the least 32-bit draws beyond them, int64."""
    return np.round(chances * 2.0**32).astype(np.int64)


def of_env(env: str, **arguments: Any) -> FunctionalMDP | None:  # noqa: ANN401 - whatever the env takes
    """The chains of a registered env's model.

    None where it has none, where its time is limited by the model itself, rows are too wide or not all available, or
    the env refuses the arguments.
    """
    try:
        made = gymnasium.make(env, **arguments)
    except REFUSALS:
        return None
    try:
        if not isinstance(made.observation_space, spaces.Discrete):
            return None
        mdp = FiniteMDP.from_env(made, gamma=0.99)  # the discount is the learner's
        tables = None if mdp.horizon else simulator(mdp)
        assert isinstance(made.action_space, spaces.Discrete)
        return None if tables is None else FunctionalMDP(tables, made.observation_space, made.action_space)
    except UserError:
        return None
    finally:
        made.close()
