"""What the loops and an agent know of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import tensorflow as tf

from rlkit.learning.config import ReplayConfig, TrainConfig


class Clock(NamedTuple):
    """Absolute counts since the run began; schedules and draws are functions of them."""

    step: tf.Tensor
    """Env steps, int64 scalar."""
    episode: tf.Tensor
    """Episodes that have ended, int64 scalar."""


class History(NamedTuple):
    """What was seen in T consecutive steps, for a learner with a memory; leading shape [B] or [K, B]."""

    observation: np.ndarray | tf.Tensor
    """[..., T, ...]"""
    fresh: np.ndarray | tf.Tensor
    """Whether nothing is remembered from before the observation, as an episode begins, [..., T] bool."""


class Transition(NamedTuple):
    """A batch of (possibly n-step) transitions as a learner takes them; leading shape [B] or [K, B].

    For a learner with a memory each is a sequence of them, [B, L] or [K, B, L].
    """

    observation: np.ndarray | tf.Tensor
    """For a learner with a memory a `History`, which ends with the last of the L steps."""
    action: np.ndarray | tf.Tensor
    """int32."""
    reward: np.ndarray | tf.Tensor
    """float32: the reward, or the discounted sum of n of them."""
    discount: np.ndarray | tf.Tensor
    """float32: gamma^n, 0 where the episode terminated; a truncated one keeps its discount."""
    next_observation: np.ndarray | tf.Tensor
    """The real observation after the last of the n steps, never one after a reset."""
    weight: np.ndarray | tf.Tensor | tuple[()] = ()
    """Of the loss, float32 in (0, 1], where the replay is prioritized; else nothing."""
    correction: np.ndarray | tf.Tensor | tuple[()] = ()
    """Weight in means, 1 / (M P) float32 for a draw of probability P of M if the replay has priorities; else none."""


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


State = Any
"""What learning changes, as nested tuples of tensors: the agent's own."""


class Agent(Protocol):
    """A learner from a replay buffer: a `Learner` in pure TensorFlow on fixed shapes.

    Its methods are traced by the loop that uses them, so they must not depend on Python state that changes. `choose`,
    `update` and `end_round` are pure functions of a state, so that a program can carry it from update to update.
    """

    config: ReplayConfig
    metrics: tuple[str, ...]
    """Names of what an update measures, the loss first."""

    def state(self) -> State:
        """The variables' values."""
        ...

    def assign(self, state: State) -> None:
        """Put a state's values into the variables."""
        ...

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Actions for N observations, [N] int32; with `explore`, of the behaviour policy, else greedy."""
        ...

    def choose(self, state: State, observations: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """Actions of a state's behaviour policy by random bits [2, N], greedy ones if None: [N] int32."""
        ...

    def learn(self, batch: Transition, clock: Clock) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """K updates on [K, B] transitions; mean metrics over them and the new priorities, [K, B]."""
        ...

    def update(self, state: State, batch: Transition, clock: Clock) -> tuple[State, tf.Tensor, tf.Tensor]:
        """One update on [B] transitions; the new state, metrics [M], and the new priorities, [B]."""
        ...

    def end_round(self, state: State, clock: Clock) -> State:
        """What follows a round of updates."""
        ...

    def scalars(self, clock: Clock) -> Mapping[str, tf.Tensor]:
        """What the schedules say now."""
        ...


class Rollout(NamedTuple):
    """The last T steps of N envs, as they came."""

    observation: tf.Tensor
    """[T, N, ...]"""
    action: tf.Tensor
    """[T, N] int32."""
    reward: tf.Tensor
    """[T, N] float32."""
    terminated: tf.Tensor
    """[T, N] bool."""
    truncated: tf.Tensor
    """[T, N] bool."""
    next_observation: tf.Tensor
    """The real ones, never after a reset, [T, N, ...]."""
    valid: tf.Tensor
    """[T, N] bool; the other rows only reset their env."""


class RolloutAgent(Protocol):
    """A learner from rollouts: pure functions of a state, as an `Agent`'s."""

    @property
    def config(self) -> TrainConfig:
        """Its fields."""
        ...

    metrics: tuple[str, ...]
    """Names of what a round measures, the loss first."""
    length: int
    """Steps of each env between two rounds, T."""
    updates: int
    """Updates in a round."""
    draws: tuple[int, ...]
    """Shape of the random bits that a round takes."""

    def state(self) -> State:
        """The variables' values."""
        ...

    def assign(self, state: State) -> None:
        """Put a state's values into the variables."""
        ...

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Actions for N observations, [N] int32; with `explore`, of the behaviour policy, else greedy."""
        ...

    def choose(self, state: State, observations: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """Actions of a state's behaviour policy by random bits [2, N], greedy ones if None: [N] int32."""
        ...

    def learn(self, state: State, rollout: Rollout, clock: Clock, bits: tf.Tensor) -> tuple[State, tf.Tensor]:
        """A round of updates on a rollout; the new state, and mean metrics, [M]."""
        ...

    def scalars(self, clock: Clock) -> Mapping[str, tf.Tensor]:
        """What the schedules say now."""
        ...


def update_round(
    agent: Agent, state: State, batch: Callable[[tf.Tensor], Transition], updates: int, clock: Clock
) -> tuple[State, tf.Tensor, tf.Tensor]:
    """K updates and what follows them, as part of a program.

    Args:
        agent: what learns.
        state: of the agent.
        batch: the k-th batch, [B], for k from 0.
        updates: K.
        clock: as the round begins.

    Returns:
        The new state, mean metrics, [M], and priorities, [K, B].
    """
    first = batch(tf.constant(0))
    if updates == 1:
        state, metrics, errors = agent.update(state, first, clock)
        return agent.end_round(state, clock), metrics, errors[None]

    def body(
        k: tf.Tensor, state: State, sums: tf.Tensor, priorities: tf.TensorArray
    ) -> tuple[tf.Tensor, State, tf.Tensor, tf.TensorArray]:
        state, metrics, errors = agent.update(state, batch(k), clock)
        return k + 1, state, sums + metrics, priorities.write(k, errors)

    size = first.action.shape
    start = (
        tf.constant(0),
        state,
        tf.zeros([len(agent.metrics)]),
        tf.TensorArray(tf.float32, updates, element_shape=size),
    )
    _, state, sums, priorities = tf.while_loop(lambda k, *_: k < updates, body, start)
    return agent.end_round(state, clock), sums / updates, priorities.stack()


class AgentFactory(Protocol):
    """Makes an agent for an env's spaces; raises UserError for spaces that it cannot learn on."""

    def __call__(
        self,
        config: Any,  # noqa: ANN401 - of the class that belongs to the agent
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> Learner: ...
