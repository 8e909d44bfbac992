"""Deep recurrent Q-network. Hausknecht and Stone 2015, "Deep recurrent Q-learning for partially observable MDPs".

Letters: N parallel envs, B batch, T steps of a sequence, of which the last L are learned from, A actions, M numbers
remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import tensorflow as tf

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.distributional import AGENTS
from rlkit.agents.dqn.dqn import DQN
from rlkit.learning.agent import Clock, Transition


def make(config: DQNConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> DQN:
    """The agent that a config asks for; raises UserError as it does."""
    kind = DRQN if config.network == "lstm" else AGENTS[config.head]
    return kind(config, observation_space, action_space)


class DRQN(DQN):
    """A DQN whose network remembers the episode so far.

    Without a memory, as in `act`, an observation is taken for the first one of an episode.
    """

    @property
    def memory_size(self) -> int:
        """Numbers that it remembers of an env: M, two for each unit."""
        return 2 * int(self.config.lstm_units)

    def remember(
        self, observations: tf.Tensor, memory: tf.Tensor, clock: Clock, *, explore: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Epsilon-greedy or greedy actions, [N] int32, and the memory after the observations, [N, M]."""
        bits = self.bits(observations.shape[0], clock) if explore else None
        q, memory = self.recall(self.state().weights, observations, memory)
        return self.pick(q, clock, bits), memory

    def recall(
        self, weights: Sequence[tf.Tensor], observations: tf.Tensor, memory: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step: values, [B, A], and the memory after it, [B, M], of observations, [B, ...], and that before it."""
        still = [v.value for v in self.q.non_trainable_variables]
        (values, memory), _ = self.q.stateless_call(weights, still, [observations, memory])
        return values, memory

    def q_values(self, weights: Sequence[tf.Tensor], observations: tf.Tensor) -> tf.Tensor:
        """[B, A] for [B, ...], the first observations of episodes."""
        values, _ = self.recall(weights, observations, tf.zeros([observations.shape[0], self.memory_size]))
        return values

    def values(self, weights: Sequence[tf.Tensor], batch: Transition) -> tuple[tf.Tensor, tf.Tensor]:
        """Of a network with these weights: at the last L observations and at those after, [B, L, A] each.

        The value after a step is that of its own next observation, behind the memory of all before it: so it is the
        right one where the step ended an episode and the sequence goes on with another.
        """
        seen, fresh = batch.observation
        burn_in = fresh.shape[1] - batch.action.shape[1]
        memory = tf.zeros([fresh.shape[0], self.memory_size])
        if burn_in:
            _, memories = self.unroll(weights, seen[:, :burn_in], fresh[:, :burn_in], memory)
            memory = tf.stop_gradient(memories[:, -1])
        q_tm1, memories = self.unroll(weights, seen[:, burn_in:], fresh[:, burn_in:], memory)  # [B, L, A], [B, L, M]
        following = batch.next_observation
        steps = [following.shape[0] * following.shape[1]]  # B L
        following = tf.reshape(following, [*steps, *following.shape[2:]])
        q_t, _ = self.recall(weights, following, tf.reshape(memories, [*steps, self.memory_size]))  # [B L, A]
        return q_tm1, tf.reshape(q_t, q_tm1.shape)

    def unroll(
        self, weights: Sequence[tf.Tensor], observations: tf.Tensor, fresh: tf.Tensor, memory: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Step after step, forgetting where an episode begins.

        Args:
            weights: of the network.
            observations: [B, T, ...].
            fresh: whether one begins an episode, [B, T] bool.
            memory: before the first step, [B, M].

        Returns:
            Values, [B, T, A], and the memory after each step, [B, T, M].
        """
        size, steps = fresh.shape
        places = range(2, observations.shape.rank)
        observations, fresh = tf.transpose(observations, [1, 0, *places]), tf.transpose(fresh)  # [T, B, ...], [T, B]

        def body(
            t: tf.Tensor, memory: tf.Tensor, values: tf.TensorArray, memories: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
            q, memory = self.recall(weights, observations[t], tf.where(fresh[t][:, None], 0.0, memory))
            return t + 1, memory, values.write(t, q), memories.write(t, memory)

        rows = (tf.TensorArray(tf.float32, steps, element_shape=[size, n]) for n in (self.actions, self.memory_size))
        start = (tf.constant(0), memory, *rows)
        # A bound that is known is what XLA needs for the gradient.
        _, _, values, memories = tf.while_loop(lambda t, *_: t < steps, body, start, maximum_iterations=steps)
        return tf.transpose(values.stack(), [1, 0, 2]), tf.transpose(memories.stack(), [1, 0, 2])
