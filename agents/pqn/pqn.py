"""PQN, the parallelised Q-network. Gallici et al. 2024, "Simplifying deep temporal difference learning".

Many envs at once in place of a replay, layer normalisation in place of a target network, and lambda-returns.
Letters: N parallel envs, T steps of a rollout, U updates a round, B minibatch, A actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlkit.agents.pqn.config import PQNConfig
from rlkit.learning import td
from rlkit.learning.agent import Clock, Rollout
from rlkit.learning.optimizers import AdamState, adam, clipped
from rlkit.learning.q_agent import QAgent
from rlkit.networks.q_networks import q_network
from rlkit.seeding import Purpose, key


class PQNState(NamedTuple):
    """All that learning changes, as tensors or as the variables that keep it."""

    weights: tuple[tf.Tensor, ...]
    optimizer: AdamState


class PQN(QAgent):
    """Q-learning with a normalised network from the last steps of many envs.

    Raises:
        UserError: actions that are not Discrete, observations that are neither Box nor Discrete.
    """

    metrics = ("loss", "td_error", "q", "gradient_norm")

    def __init__(
        self, config: PQNConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__("pqn", config, action_space)
        self.q = q_network(
            observation_space,
            self.actions,
            hidden=config.hidden,
            layer_norm=config.layer_norm,
            seed=key(config.seed, Purpose.PARAMETERS),
        )
        weights = tuple(v.value for v in self.q.trainable_variables)
        self.kept = PQNState(weights, AdamState.variables(weights))
        self.updates = config.epochs * config.minibatches
        self.length = config.rollout_length
        self.draws = (config.epochs, config.rollout_length * config.num_envs)

    def learn(self, state: PQNState, rollout: Rollout, clock: Clock, bits: tf.Tensor) -> tuple[PQNState, tf.Tensor]:
        """A round of updates on a rollout, by random bits as `draws` has them.

        Returns:
            The new state, and means over the updates of loss, TD error's size, Q and the gradient's norm, [4].
        """
        targets, places = self.targets(state, rollout), self.minibatches(bits)

        def body(u: tf.Tensor, state: PQNState, sums: tf.Tensor) -> tuple[tf.Tensor, PQNState, tf.Tensor]:
            state, metrics = self.update(state, rollout, targets, places[u], clock)
            return u + 1, state, sums + metrics

        start = (tf.constant(0), state, tf.zeros([len(self.metrics)]))
        _, state, sums = tf.while_loop(lambda u, *_: u < self.updates, body, start)
        return state, sums / self.updates

    def targets(self, state: PQNState, rollout: Rollout) -> tf.Tensor:
        """Lambda-returns of the greedy values as they are before the round, [T, N]."""
        length, n = rollout.action.shape
        after = tf.reshape(rollout.next_observation, [length * n, *rollout.next_observation.shape[2:]])
        v_t = tf.reshape(tf.reduce_max(self.q_values(state.weights, after), axis=-1), [length, n])
        discount = tf.where(rollout.terminated, 0.0, self.config.gamma)
        continues = ~(rollout.terminated | rollout.truncated)
        return td.lambda_returns(rollout.reward, discount, v_t, continues, self.config.trace_decay)

    def minibatches(self, orders: tf.Tensor) -> tf.Tensor:
        """Places in the flat rollout of each update, [..., U, B], from random numbers [..., epochs, T N] uint32."""
        half = tf.cast(tf.bitwise.right_shift(orders, tf.constant(1, tf.uint32)), tf.int32)
        size = orders.shape[-1] // self.config.minibatches
        return tf.reshape(tf.argsort(half, axis=-1, stable=True), [*orders.shape[:-2], self.updates, size])

    def update(
        self, state: PQNState, rollout: Rollout, targets: tf.Tensor, places: tf.Tensor, clock: Clock
    ) -> tuple[PQNState, tf.Tensor]:
        """One gradient step on the transitions at some places [B] of the rollout; the new state and metrics, [4]."""
        length, n = rollout.action.shape
        o_tm1, a_tm1, valid, target = (
            tf.gather(tf.reshape(part, [length * n, *part.shape[2:]]), places)
            for part in (rollout.observation, rollout.action, rollout.valid, targets)
        )
        weight = tf.cast(valid, tf.float32)
        weight /= tf.maximum(tf.reduce_sum(weight), 1.0)  # [B]
        with tf.GradientTape() as tape:
            tape.watch(state.weights)
            q_tm1 = td.select(self.q_values(state.weights, o_tm1), a_tm1 - self.first_action)  # [B]
            td_error = target - q_tm1  # [B]
            loss = tf.reduce_sum(weight * td.squared(td_error))
        gradients = tape.gradient(loss, state.weights)
        gradients, norm = clipped(gradients, self.config.max_gradient_norm)
        rate = self.learning_rate(clock)
        weights, optimizer = adam(state.optimizer, state.weights, gradients, rate, rectified=True)
        error, value = tf.reduce_sum(weight * tf.abs(td_error)), tf.reduce_sum(weight * q_tm1)
        return PQNState(weights, optimizer), tf.stack([loss, error, value, norm])
