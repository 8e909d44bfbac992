"""Deep Q-networks that learn the distribution of returns, not only its mean.

Letters: B batch, A actions, K atoms, N quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import tensorflow as tf

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN, DQNState, Judgement
from rlkit.learning import td
from rlkit.learning.agent import Transition
from rlkit.networks.layers import midpoints
from rlkit.networks.q_networks import distribution
from rlkit.random_bits import draws, fraction
from rlkit.seeding import Purpose


class DistributionalDQN(DQN):
    """What the heads have in common; `q`, the means, still chooses the actions."""

    def __init__(
        self, config: DQNConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__(config, observation_space, action_space)
        self.distribution = distribution(self.q)
        """From observations to what describes each action's return, with the weights of `q`."""

    def returns(self, weights: Sequence[tf.Tensor], observations: tf.Tensor, fractions: tf.Tensor) -> tf.Tensor:
        """What describes the return of each action, [B, A, K] or, by its quantiles of `fractions`, [B, A, N]."""
        del fractions
        found, _ = self.distribution.stateless_call(weights, [], observations)
        return found

    def fractions(self, state: DQNState, size: int, side: int) -> tf.Tensor:
        """Of the quantiles that an update looks at, [N] or [B, N], on the learned side, 0, or the target's, 1."""
        del state, size, side
        return tf.constant(midpoints(self.config.quantiles or 1))

    def mean(self, returns: tf.Tensor) -> tf.Tensor:
        """[B] of [B, N]."""
        return tf.reduce_mean(returns, axis=-1)

    def divergence(
        self, returns: tf.Tensor, fractions: tf.Tensor, batch: Transition, returns_t: tf.Tensor
    ) -> tf.Tensor:
        """Losses, [B], of what describes the returns of the actions, [B, N], and the later ones, [B, N]."""
        target = batch.reward[:, None] + batch.discount[:, None] * returns_t  # [B, N]
        return td.quantile_loss(returns, fractions, target)

    def outside(self, targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The metrics that tell of targets, [B], which what describes the returns cannot hold, [B] each."""
        del targets
        return ()

    def judge(self, state: DQNState, batch: Transition) -> Judgement:
        """Its priorities are the losses."""
        online, target, selecting = self.networks(state)
        size = batch.action.shape[0]
        taus, taus_t = (self.fractions(state, size, side) for side in (0, 1))
        q_t = self.q_values(selecting if self.config.double else target, batch.next_observation)  # [B, A]
        z_t = self.returns(target, batch.next_observation, taus_t)  # [B, A, N]
        z_t = tf.stop_gradient(td.select_returns(z_t, tf.argmax(q_t, axis=-1)))  # [B, N]
        z_tm1 = self.returns(online, batch.observation, taus)  # [B, A, N]
        z_tm1 = td.select_returns(z_tm1, batch.action - self.first_action)  # [B, N]
        q_tm1 = self.mean(z_tm1)  # [B]
        target = batch.reward + batch.discount * self.mean(z_t)  # [B]
        losses = self.divergence(z_tm1, taus, batch, z_t)  # [B]
        return Judgement(losses, target - q_tm1, q_tm1, losses, self.outside(target))


class QuantileDQN(DistributionalDQN):
    """QR-DQN. Dabney et al. 2018a, "Distributional reinforcement learning with quantile regression"."""


class CategoricalDQN(DistributionalDQN):
    """C51. Bellemare, Dabney and Munos 2017, "A distributional perspective on reinforcement learning".

    Its metrics tell of the range [v_min, v_max] too: the shares of the targets whose mean is outside of it.
    """

    metrics = (*DQN.metrics, "below_v_min", "above_v_max")

    def outside(self, targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """1 for each target, [B], that is below v_min or above v_max by more than rounding."""
        c = self.config
        slack = 1e-3 * (c.v_max - c.v_min) / (c.atoms - 1)
        beyond = targets < c.v_min - slack, targets > c.v_max + slack
        return tuple(tf.cast(part, tf.float32) for part in beyond)

    def atoms(self) -> tf.Tensor:
        """The returns that are told from each other, [K]."""
        return tf.linspace(float(self.config.v_min), float(self.config.v_max), self.config.atoms)

    def mean(self, returns: tf.Tensor) -> tf.Tensor:
        """[B] of logits, [B, K]."""
        return tf.reduce_sum(tf.nn.softmax(returns) * self.atoms(), axis=-1)

    def divergence(
        self, returns: tf.Tensor, fractions: tf.Tensor, batch: Transition, returns_t: tf.Tensor
    ) -> tf.Tensor:
        """Losses, [B], of logits, [B, K] each."""
        del fractions
        target = td.categorical_target(batch.reward, batch.discount, tf.nn.softmax(returns_t), self.atoms())  # [B, K]
        return td.categorical_loss(returns, target)


class ImplicitQuantileDQN(DistributionalDQN):
    """IQN. Dabney et al. 2018b, "Implicit quantile networks for distributional reinforcement learning".

    Updates draw fractions, as many on either side of the loss. An action's value is the mean of its quantiles at 32
    fixed midpoints, where the paper draws 32 fractions: so the greedy policy is a function that exports are held to.
    """

    def returns(self, weights: Sequence[tf.Tensor], observations: tf.Tensor, fractions: tf.Tensor) -> tf.Tensor:
        """Quantiles of the return of each action, [B, A, N], for fractions [B, N]."""
        found, _ = self.distribution.stateless_call(weights, [], [observations, fractions])  # [B N, A]
        return tf.transpose(tf.reshape(found, [*fractions.shape, self.actions]), [0, 2, 1])

    def fractions(self, state: DQNState, size: int, side: int) -> tf.Tensor:
        """Uniform, [B, N]: others on either side and in each update."""
        count = 2 * state.optimizer.iterations + side
        return fraction(draws(state.seed, Purpose.FRACTIONS, count, [size, self.config.quantiles]))


AGENTS = {"expected": DQN, "c51": CategoricalDQN, "qr": QuantileDQN, "iqn": ImplicitQuantileDQN}
"""By head."""
