"""Acting with a memory: the policy of a recurrent agent for N envs, which forgets where an episode begins.

Letters: N parallel envs, M numbers that are remembered of an env.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import tensorflow as tf

from rlkit.acting import COUNTS, call_flat, counts
from rlkit.agent import Clock
from rlkit.config import TrainConfig
from rlkit.evaluation import observed
from rlkit.networks import observation_dtype
from rlkit.vector import Arrays


@runtime_checkable
class RecurrentAgent(Protocol):
    """An agent whose actions depend on the episode so far, as far as it remembers it."""

    @property
    def config(self) -> TrainConfig:
        """Its fields."""
        ...

    @property
    def memory_size(self) -> int:
        """Numbers that it remembers of an env, M."""
        ...

    def remember(
        self, observations: tf.Tensor, memory: tf.Tensor, clock: Clock, *, explore: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions, [N] int32, and the memory after the observations, [N, M].

        Args:
            observations: [N, ...].
            memory: before the observations, zeros where they begin an episode, [N, M] float32.
            clock: now.
            explore: by the behaviour policy, else greedily.
        """
        ...


class RecurrentActor:
    """A policy with the memory of N envs; greedy, it is what evaluations call.

    Args:
        agent: whose policy.
        space: of one env's observations.
        num_envs: N.
        explore: the behaviour policy, else the greedy one.
    """

    def __init__(self, agent: RecurrentAgent, space: gymnasium.Space[Any], num_envs: int, *, explore: bool) -> None:
        self.traces = 0
        self._dtype, self._space = observation_dtype(space), space
        self._shape = (num_envs, *(space.shape or ()))
        self._memory = tf.zeros([num_envs, agent.memory_size])
        self._fresh = np.ones(num_envs, np.bool_)
        self._before = self._memory, self._fresh
        signature = [
            tf.TensorSpec(self._shape, self._dtype),
            tf.TensorSpec([num_envs], tf.bool),
            tf.TensorSpec(self._memory.shape, tf.float32),
            COUNTS,
        ]

        @tf.function(input_signature=signature, jit_compile=agent.config.jit, autograph=False)
        def act(
            observations: tf.Tensor, fresh: tf.Tensor, memory: tf.Tensor, now: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            memory = tf.where(fresh[:, None], 0.0, memory)
            return agent.remember(observations, memory, Clock(now[0], now[1]), explore=explore)

        self._act = call_flat(act.get_concrete_function())

    def act(self, observations: np.ndarray, step: int, episode: int) -> np.ndarray:
        """Actions, [N] int32; what was observed is remembered."""
        self._before = self._memory, self._fresh.copy()
        seen = (tf.constant(observations, self._dtype), tf.constant(self._fresh))
        actions, self._memory = self._act(*seen, self._memory, counts(step, episode))
        self._fresh[:] = False
        chosen: np.ndarray = actions.numpy()
        return chosen

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observed(observations, self._shape, self._dtype, self._space), 0, 0)

    def take_back(self) -> None:
        """Forget the last observations, whose actions were not taken."""
        self._memory, self._fresh = self._before

    def reset(self, fresh: np.ndarray) -> None:
        """Forget where an episode begins with the next observation, [N] bool."""
        self._fresh |= fresh

    def state(self) -> Arrays:
        """The memory, [N, M], and where it is void, [N]."""
        return {"hidden": self._memory.numpy(), "fresh": self._fresh.copy()}

    def restore(self, state: Arrays) -> None:
        """Go on from a `state`."""
        self._memory, self._fresh = tf.constant(state["hidden"]), state["fresh"].copy()
