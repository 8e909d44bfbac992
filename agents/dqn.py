"""Deep Q-network. Mnih et al. 2015, "Human-level control through deep reinforcement learning".

Letters: N parallel envs, K updates a round, B batch, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import keras
import tensorflow as tf

from rlkit import td
from rlkit.agent import Clock, Transition, update_round
from rlkit.agents.dqn_config import DQNConfig
from rlkit.agents.q_agent import QAgent
from rlkit.networks import minatar_cnn, nature_cnn, q_network
from rlkit.optimizers import AdamState, adam, clipped
from rlkit.seeding import Purpose, key

LOSSES = {"huber": td.huber, "squared": td.squared}

CONVOLUTIONAL = {"nature-cnn": nature_cnn, "minatar-cnn": minatar_cnn}


class DQNState(NamedTuple):
    """All that learning changes, as tensors or as the variables that keep it."""

    weights: tuple[tf.Tensor, ...]
    """Of the Q-network."""
    target: tuple[tf.Tensor, ...]
    """Of the target network."""
    optimizer: AdamState
    copied_at: tf.Tensor
    """Step of the last hard copy, int64 scalar."""


class DQN(QAgent):
    """Q-learning with a network, a replay buffer and a target network.

    Raises:
        UserError: actions that are not Discrete, observations that the network does not take.
    """

    metrics = ("loss", "td_error", "q", "gradient_norm")

    def __init__(
        self, config: DQNConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__("dqn", config, action_space)

        self.q, self.target = (self.network(observation_space) for _ in range(2))
        weights, target = (tuple(v.value for v in model.trainable_variables) for model in (self.q, self.target))
        copied_at = tf.Variable(0, dtype=tf.int64, trainable=False, name="copied_at")
        self.kept = DQNState(weights, target, AdamState.variables(weights), copied_at)

    def network(self, observation_space: gymnasium.Space[Any]) -> keras.Model:
        """A network as the config has it; UserError for observations that it does not take."""
        c = self.config
        fields: dict[str, Any] = {
            "hidden": c.hidden or (),
            "dueling": c.dueling,
            "precision": c.precision,
            "seed": key(c.seed, Purpose.PARAMETERS),
        }
        if c.network in CONVOLUTIONAL:
            return CONVOLUTIONAL[c.network](observation_space, self.actions, **fields)
        units = c.lstm_units if c.network == "lstm" else 0
        return q_network(observation_space, self.actions, lstm_units=units, **fields)

    def learn(self, batch: Transition, clock: Clock) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """K updates of the Q-network on [K, B] transitions, and the target network's.

        Returns:
            Means over the K updates of loss, TD error's size, Q and the gradient's norm; |TD error|, [K, B].
        """
        updates = batch.action.shape[0]
        state, metrics, priorities = update_round(
            self, self.state(), lambda k: tf.nest.map_structure(lambda part: part[k], batch), updates, clock
        )
        self.assign(state)
        return dict(zip(self.metrics, tf.unstack(metrics), strict=True)), priorities

    def values(self, weights: Sequence[tf.Tensor], batch: Transition) -> tuple[tf.Tensor, tf.Tensor]:
        """Of a network with these weights: at the observations and at those after, [B, A] each."""
        return self.q_values(weights, batch.observation), self.q_values(weights, batch.next_observation)

    def update(self, state: DQNState, batch: Transition, clock: Clock) -> tuple[DQNState, tf.Tensor, tf.Tensor]:
        """One gradient step on [B] transitions.

        Returns:
            The new state; the metrics, [4]; |TD error|, [B].
        """
        r_t, discount_t = batch.reward, batch.discount
        a_tm1 = batch.action - self.first_action
        weights = state.weights
        _, q_t = self.values(state.target, batch)  # [B, A]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            q_tm1, q_t_selector = self.values(weights, batch)  # [B, A]
            q_tm1 = td.select(q_tm1, a_tm1)  # [B]
            if self.config.double:
                target = td.double_q_learning_target(r_t, discount_t, q_t, q_t_selector)  # [B]
            else:
                target = td.q_learning_target(r_t, discount_t, q_t)  # [B]
            td_error = tf.stop_gradient(target) - q_tm1  # [B]
            losses = td.weighted(LOSSES[self.config.loss](td_error), batch.weight)  # [B]
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, weights)
        gradients, norm = clipped(gradients, self.config.max_gradient_norm)
        rate = self.learning_rate(clock)
        weights, optimizer = adam(state.optimizer, weights, gradients, rate, self.config.adam_epsilon)
        state = state._replace(weights=weights, optimizer=optimizer)
        if self.config.target == "polyak":
            state = state._replace(target=td.moved(state.target, weights, self.config.polyak))
        priorities = tf.abs(td_error)
        means = tf.reduce_mean(tf.reshape(tf.stack([losses, priorities, q_tm1]), [3, -1]), axis=1)  # [3]
        return state, tf.concat([means, norm[None]], axis=0), priorities

    def end_round(self, state: DQNState, clock: Clock) -> DQNState:
        """Copy the Q-network to the target network if it is time."""
        if self.config.target != "hard":
            return state
        due = clock.step - state.copied_at >= self.config.target_interval
        target, copied_at = tf.cond(due, lambda: (state.weights, clock.step), lambda: (state.target, state.copied_at))
        return state._replace(target=target, copied_at=copied_at)
