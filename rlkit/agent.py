"""What the loops and an agent know of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import tensorflow as tf

from rlkit.config import ReplayConfig, TrainConfig


class Clock(NamedTuple):
    """Absolute counts since the run began; schedules and draws are functions of them."""

    step: tf.Tensor
    """Env steps, int64 scalar."""
    episode: tf.Tensor
    """Episodes that have ended, int64 scalar."""


class Transition(NamedTuple):
    """A batch of (possibly n-step) transitions as a learner takes them; leading shape [B] or [K, B]."""

    observation: np.ndarray | tf.Tensor
    action: np.ndarray | tf.Tensor
    """int32."""
    reward: np.ndarray | tf.Tensor
    """float32: the reward, or the discounted sum of n of them."""
    discount: np.ndarray | tf.Tensor
    """float32: gamma^n, 0 where the episode terminated; a truncated one keeps its discount."""
    next_observation: np.ndarray | tf.Tensor
    """The real observation after the last of the n steps, never one after a reset."""


class Learner(Protocol):
    """What every loop and every evaluation knows of an agent: its config, and its greedy policy.

    It is a tf.Module that builds every variable on construction, so that one checkpoint saves it all.
    """

    @property
    def config(self) -> TrainConfig:
        """Its fields."""
        ...

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Actions for N observations, [N] int32; with `explore`, of the behaviour policy, else greedy."""
        ...


class Agent(Protocol):
    """A learner from a replay buffer: a `Learner` in pure TensorFlow on fixed shapes.

    `act` and `learn` are traced by the loop that uses them, so they must not depend on Python state that changes.
    """

    config: ReplayConfig

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Actions for N observations, [N] int32; with `explore`, of the behaviour policy, else greedy."""
        ...

    def learn(self, batch: Transition, clock: Clock) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """K updates on [K, B] transitions; mean metrics over them and the new priorities, [K, B]."""
        ...

    def scalars(self, clock: Clock) -> Mapping[str, tf.Tensor]:
        """What the schedules say now, such as epsilon."""
        ...


class AgentFactory(Protocol):
    """Makes an agent for an env's spaces; raises UserError for spaces that it cannot learn on."""

    def __call__(
        self,
        config: Any,  # noqa: ANN401 - of the class that belongs to the agent
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> Learner: ...
