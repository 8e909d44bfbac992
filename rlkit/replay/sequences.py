"""Replay of sequences: consecutive steps of an env, for learners with a memory.

Letters: K updates a round, B batch, T steps of a sequence, of which the last L are learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import tensorflow as tf

from rlkit.learning.agent import History, Transition
from rlkit.replay.uniform import Replay


class SequenceReplay(Replay):
    """A replay that is drawn from in sequences; what it stores is the same.

    A sequence begins anywhere with nothing remembered (bootstrapped random updates, Hausknecht and Stone 2015, section
    4) and runs on across the ends of episodes. Its first steps only warm the memory up (Kapturowski et al. 2019,
    "Recurrent experience replay in distributed reinforcement learning", section 3).

    Args:
        capacity: as any replay's, like what follows.
        num_envs: N.
        observation_space: of one env.
        gamma: discount of a step.
        burn_in: steps before those that are learned from, T - L.
        length: steps that are learned from, L.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_space: gymnasium.Space[Any],
        gamma: float,
        burn_in: int,
        length: int,
    ) -> None:
        super().__init__(capacity, num_envs, observation_space, 1, gamma)
        self.burn_in, self.length, self.span = burn_in, length, burn_in + length

    def sample(self, bits: np.ndarray, importance_exponent: float | None = 1.0) -> Transition:
        """Uniform draws, with replacement, of sequences, one for each of the given random numbers.

        Args:
            bits: uniform over all of uint32, [K, B].
            importance_exponent: of no use, as the draws are uniform.

        Returns:
            Transitions, [K, B, L, ...], and the history of T steps that ends with each last one.
        """
        del importance_exponent
        row, column = self._first(bits)
        rows = row[..., None] + np.arange(self.span)  # [K, B, T]
        places = (rows % self.rows) * self.num_envs + column[..., None]  # [K, B, T]
        ended = self._flat["terminated"][places] | self._flat["truncated"][places]
        fresh = np.ones(places.shape, np.bool_)
        fresh[..., 1:] = ended[..., :-1]
        single = self._n_step(rows[..., self.burn_in :], column[..., None])
        return single._replace(observation=History(self._flat["observation"][places], fresh))

    def specs(self, lead: Sequence[int]) -> Transition:
        """Shapes and dtypes of what is sampled by random bits of shape `lead`."""
        seen, learned = (super(SequenceReplay, self).specs([*lead, steps]) for steps in (self.span, self.length))
        return learned._replace(observation=History(seen.observation, tf.TensorSpec([*lead, self.span], tf.bool)))
