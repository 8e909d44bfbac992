"""Deep Q-network. Mnih et al. 2015, "Human-level control through deep reinforcement learning".

Letters: N parallel envs, K updates a round, B batch, A actions.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import keras
import tensorflow as tf
from gymnasium import spaces

from rlkit import td
from rlkit.agent import Clock, Transition
from rlkit.agents.dqn_config import DQNConfig
from rlkit.errors import UserError
from rlkit.exploration import epsilon_greedy, greedy
from rlkit.networks import q_network
from rlkit.schedules import exponential, linear
from rlkit.seeding import Purpose, key

SCHEDULES = {"linear": linear, "exponential": exponential}
LOSSES = {"huber": td.huber, "squared": td.squared}


class DQN(tf.Module):
    """Q-learning with a network, a replay buffer and a target network.

    Raises:
        UserError: actions that are not Discrete, observations that are neither Box nor Discrete.
    """

    def __init__(
        self, config: DQNConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__(name="dqn")
        if not isinstance(action_space, spaces.Discrete):
            raise UserError(
                f"dqn cannot choose from the action space {action_space}: it needs Discrete actions, as CartPole-v1 has"
            )
        self.config = config
        self.first_action = int(action_space.start)

        def network() -> keras.Model:
            return q_network(
                observation_space,
                int(action_space.n),
                hidden=config.hidden,
                dueling=config.dueling,
                seed=key(config.seed, Purpose.PARAMETERS),
            )

        self.q, self.target = network(), network()
        self.optimizer = keras.optimizers.Adam(config.learning_rate, epsilon=config.adam_epsilon)
        self.optimizer.build(self.q.trainable_variables)
        self.copied_at = tf.Variable(0, dtype=tf.int64, trainable=False, name="copied_at")

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Epsilon-greedy or greedy actions, counted from the action space's first: [N] int32."""
        q = self.q(observations)  # [N, A]
        if explore:
            actions = epsilon_greedy(q, self.epsilon(clock), self.config.seed, clock.step)  # [N]
        else:
            actions = greedy(q)  # [N]
        return actions + self.first_action

    def learn(self, batch: Transition, clock: Clock) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """K updates of the Q-network on [K, B] transitions, and the target network's.

        Returns:
            Means over the K updates of loss, TD error's size, Q and the gradient's norm; |TD error|, [K, B].
        """
        if self.config.learning_rate_end is not None:
            self.optimizer.learning_rate.assign(self.learning_rate(clock))
        updates = batch.action.shape[0]
        errors = tf.TensorArray(tf.float32, updates, element_shape=batch.action.shape[1:])
        sums = tf.zeros([3])
        for k in tf.range(updates):
            loss, error, q, norm = self.update(Transition(*(part[k] for part in batch)))
            errors = errors.write(k, error)
            sums += tf.stack([loss, q, norm])
        if self.config.target == "hard" and clock.step - self.copied_at >= self.config.target_interval:
            self.copied_at.assign(clock.step)
            self.move_target(1.0)
        priorities = errors.stack()  # [K, B]
        loss, q, norm = tf.unstack(sums / tf.cast(updates, tf.float32))
        td_error = tf.reduce_mean(priorities)
        return {"loss": loss, "td_error": td_error, "q": q, "gradient_norm": norm}, priorities

    def update(self, batch: Transition) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """One gradient step on [B] transitions: loss, |TD error| [B], mean Q and the gradient's norm."""
        o_tm1, a_tm1, r_t, discount_t, o_t = batch
        a_tm1 = a_tm1 - self.first_action
        q_t = self.target(o_t)  # [B, A]
        if self.config.double:
            target = td.double_q_learning_target(r_t, discount_t, q_t, self.q(o_t))  # [B]
        else:
            target = td.q_learning_target(r_t, discount_t, q_t)  # [B]
        with tf.GradientTape() as tape:
            q_tm1 = td.select(self.q(o_tm1), a_tm1)  # [B]
            td_error = tf.stop_gradient(target) - q_tm1  # [B]
            loss = tf.reduce_mean(LOSSES[self.config.loss](td_error))
        weights = self.q.trainable_variables
        gradients = tape.gradient(loss, weights)
        norm = tf.linalg.global_norm(gradients)
        if self.config.max_gradient_norm > 0:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.max_gradient_norm, norm)
        self.optimizer.apply(gradients, weights)
        if self.config.target == "polyak":
            self.move_target(self.config.polyak)
        return loss, tf.abs(td_error), tf.reduce_mean(q_tm1), norm

    def move_target(self, share: float) -> None:
        """target = share q + (1 - share) target. Lillicrap et al. 2016, algorithm 1; 1.0 copies."""
        for old, new in zip(self.target.trainable_variables, self.q.trainable_variables, strict=True):
            old.assign(new if share == 1.0 else share * new + (1.0 - share) * old)

    def epsilon(self, clock: Clock) -> tf.Tensor:
        """Share of random actions by the clock, float32 scalar."""
        c = self.config
        count = clock.step if c.epsilon_unit == "step" else clock.episode
        return SCHEDULES[c.epsilon_decay](count, c.epsilon_start, c.epsilon_end, c.epsilon_duration)

    def learning_rate(self, clock: Clock) -> tf.Tensor:
        """Adam's step size by the clock, float32 scalar."""
        c = self.config
        end = c.learning_rate if c.learning_rate_end is None else c.learning_rate_end
        return linear(clock.step, c.learning_rate, end, c.learning_rate_duration)

    def scalars(self, clock: Clock) -> dict[str, tf.Tensor]:
        """What the schedules say now."""
        return {"epsilon": self.epsilon(clock), "learning_rate": self.learning_rate(clock)}
