"""Deep Q-network. Mnih et al. 2015, "Human-level control through deep reinforcement learning".

Letters: N parallel envs, K updates a round, B batch, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import gymnasium
import keras
import tensorflow as tf

from rlkit.agents.dqn.config import DQNConfig
from rlkit.learning import td
from rlkit.learning.agent import Clock, Transition, update_round
from rlkit.learning.noise import FactorisedNoise
from rlkit.learning.optimizers import AdamState, adam, adam_in_place, clipped, large
from rlkit.learning.q_agent import QAgent
from rlkit.networks.q_networks import EXPECTED, Head, fitting_network, minatar_cnn, nature_cnn, q_network
from rlkit.seeding import Purpose, key

LOSSES = {"huber": td.huber, "squared": td.squared}

CONVOLUTIONAL = {"nature-cnn": nature_cnn, "minatar-cnn": minatar_cnn}

HEADS: dict[str, Callable[[DQNConfig], Head]] = {
    "expected": lambda _: EXPECTED,
    "c51": lambda c: Head("c51", c.atoms, c.v_min, c.v_max),
    "qr": lambda c: Head("qr", c.quantiles or 1),
    "iqn": lambda _: Head("iqn"),
}


class DQNState(NamedTuple):
    """All that learning changes, as tensors or as the variables that keep it."""

    weights: tuple[tf.Tensor, ...]
    """Of the Q-network; the sizes of its noise behind them, if it has noise."""
    target: tuple[tf.Tensor, ...]
    """Of the target network, likewise."""
    optimizer: AdamState
    copied_at: tf.Tensor
    """Step of the last hard copy, int64 scalar."""
    seed: tf.Tensor | tuple[()] = ()
    """Of the draws, int64 scalar: several seeds share a program. Nothing where there are no draws."""


class Judgement(NamedTuple):
    """What an update says of a batch, [B] each."""

    losses: tf.Tensor
    td_error: tf.Tensor
    q: tf.Tensor
    """Value of the observation and the action."""
    priorities: tf.Tensor
    others: tuple[tf.Tensor, ...] = ()
    """In the order of the agent's further metrics."""


class DQN(QAgent):
    """Q-learning with a network, a replay buffer and a target network.

    Raises:
        UserError: actions that are not Discrete, observations that the network does not take.
    """

    metrics: tuple[str, ...] = ("loss", "td_error", "q", "gradient_norm")

    def __init__(
        self, config: DQNConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        if config.network == "auto":
            config = config.replace(network=fitting_network(observation_space))
        super().__init__("dqn", config, action_space)

        self.q, self.target = (self.network(observation_space) for _ in range(2))
        self.noise = FactorisedNoise(self.q) if config.noisy else None
        weights, target = (self._weights(model) for model in (self.q, self.target))
        copied_at = tf.Variable(0, dtype=tf.int64, trainable=False, name="copied_at")
        draws_in_updates = config.noisy or config.head == "iqn"
        seed = tf.Variable(config.seed, dtype=tf.int64, trainable=False, name="seed") if draws_in_updates else ()
        self.kept = DQNState(weights, target, AdamState.variables(weights), copied_at, seed)

    @property
    def noisy(self) -> bool:
        """Whether the behaviour policy has more noise than epsilon, so that `choose` alone knows it."""
        return self.noise is not None

    def network(self, observation_space: gymnasium.Space[Any]) -> keras.Model:
        """A network as the config has it; UserError for observations that it does not take."""
        c = self.config
        fields: dict[str, Any] = {
            "hidden": c.hidden or (),
            "dueling": c.dueling,
            "head": HEADS[c.head](c),
            "precision": c.precision,
            "seed": key(c.seed, Purpose.PARAMETERS),
        }
        if c.network in CONVOLUTIONAL:
            return CONVOLUTIONAL[c.network](observation_space, self.actions, **fields)
        units = c.lstm_units if c.network == "lstm" else 0
        return q_network(observation_space, self.actions, lstm_units=units, **fields)

    def _weights(self, network: keras.Model) -> tuple[tf.Variable, ...]:
        """All that is learned of a network, as it begins."""
        sizes = self.noise.begin(network, self.config.seed) if self.noise else []
        return (
            *(variable.value for variable in network.trainable_variables),
            *(tf.Variable(size, trainable=False, name="noise") for size in sizes),
        )

    def networks(self, state: DQNState) -> tuple[Sequence[tf.Tensor], Sequence[tf.Tensor], Sequence[tf.Tensor]]:
        """Weights of the online, target and selecting networks of an update.

        Each has noise of its own: Fortunato et al. 2018, equations 15 and 16.
        """
        if self.noise is None:
            return state.weights, state.target, state.weights
        factors = tf.unstack(self.noise.factors(state.seed, 2 * state.optimizer.iterations, 3))
        online, target, selecting = map(self.noise.perturbed, (state.weights, state.target, state.weights), factors)
        return online, target, selecting

    def choose(self, state: DQNState, observations: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """Epsilon-greedy actions by random bits [2, N] and a network with the step's noise; greedy ones if None."""
        weights = state.weights
        if self.noise and bits is not None:
            weights = self.noise.perturbed(weights, self.noise.factors(state.seed, 2 * clock.step + 1, 1)[0])
        return self.pick(self.q_values(weights, observations), clock, bits)

    def learn(self, batch: Transition, clock: Clock) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """K updates of the Q-network on [K, B] transitions, and the target network's.

        Returns:
            Means over the K updates of the metrics: the loss, TD error's size and Q as uniform draws would have them,
            the gradient's norm, and others; priorities, [K, B].
        """
        updates = batch.action.shape[0]

        def drawn(k: tf.Tensor | int) -> Transition:
            return cast("Transition", tf.nest.map_structure(lambda part: part[k], batch))

        if large(self.kept.weights) and not self.config.jit:
            found = [self._update_in_place(drawn(k), clock) for k in range(updates)]
            state, priorities = self.end_round(self.state(), clock), tf.stack([priorities for _, priorities in found])
            metrics = tf.reduce_mean(tf.stack([metrics for metrics, _ in found]), axis=0)
        else:
            state, metrics, priorities = update_round(self, self.state(), drawn, updates, clock)
        self.assign(state)
        return dict(zip(self.metrics, tf.unstack(metrics), strict=True)), priorities

    def _update_in_place(self, batch: Transition, clock: Clock) -> tuple[tf.Tensor, tf.Tensor]:
        """As `update`, on the variables, which is faster where they are large; metrics and priorities."""
        gradients, metrics, priorities = self.gradients(self.state(), batch)
        adam_in_place(
            self.kept.optimizer, self.kept.weights, gradients, self.learning_rate(clock), self.config.adam_epsilon
        )
        if self.config.target == "polyak":
            self.assign(self.followed(self.state()))
        return metrics, priorities

    def values(self, weights: Sequence[tf.Tensor], batch: Transition) -> tuple[tf.Tensor, tf.Tensor]:
        """Of a network with these weights: at the observations and at those after, [B, A] each."""
        return self.q_values(weights, batch.observation), self.q_values(weights, batch.next_observation)

    def judge(self, state: DQNState, batch: Transition) -> Judgement:
        """What there is to learn from [B] transitions; a gradient goes to the weights alone."""
        online, target, selecting = self.networks(state)
        _, q_t = self.values(target, batch)  # [B, A]
        q_tm1, q_t_selector = self.values(online, batch)  # [B, A]
        q_tm1 = td.select(q_tm1, batch.action - self.first_action)  # [B]
        if not self.config.double:
            q_target = td.q_learning_target(batch.reward, batch.discount, q_t)  # [B]
        else:
            if selecting is not online:
                _, q_t_selector = self.values(selecting, batch)
            q_target = td.double_q_learning_target(batch.reward, batch.discount, q_t, q_t_selector)  # [B]
        td_error = tf.stop_gradient(q_target) - q_tm1  # [B]
        return Judgement(LOSSES[self.config.loss](td_error), td_error, q_tm1, tf.abs(td_error))

    def gradients(self, state: DQNState, batch: Transition) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Gradients of the loss of [B] transitions, one for each of the weights; the metrics, [M]; priorities, [B]."""
        weights = state.weights
        with tf.GradientTape() as tape:
            tape.watch(weights)
            judged = self.judge(state, batch)
            losses = td.weighted(judged.losses, batch.weight)  # [B]
            loss = tf.reduce_mean(losses)
        gradients, norm = clipped(tape.gradient(loss, weights), self.config.max_gradient_norm)
        seen = tf.abs(judged.td_error), judged.q, *judged.others
        error, q, *others = (td.corrected_mean(values, batch.correction) for values in seen)
        return gradients, tf.stack([loss, error, q, norm, *others]), judged.priorities

    def update(self, state: DQNState, batch: Transition, clock: Clock) -> tuple[DQNState, tf.Tensor, tf.Tensor]:
        """One gradient step on [B] transitions.

        Returns:
            The new state; the metrics, [M]; priorities, [B].
        """
        gradients, metrics, priorities = self.gradients(state, batch)
        rate = self.learning_rate(clock)
        weights, optimizer = adam(state.optimizer, state.weights, gradients, rate, self.config.adam_epsilon)
        state = state._replace(weights=weights, optimizer=optimizer)
        return self.followed(state) if self.config.target == "polyak" else state, metrics, priorities

    def followed(self, state: DQNState) -> DQNState:
        """With the target network a part of the way nearer to the Q-network."""
        return state._replace(target=td.moved(state.target, state.weights, self.config.polyak))

    def end_round(self, state: DQNState, clock: Clock) -> DQNState:
        """Copy the Q-network to the target network if it is time."""
        if self.config.target != "hard":
            return state
        due = clock.step - state.copied_at >= self.config.target_interval
        target, copied_at = tf.cond(due, lambda: (state.weights, clock.step), lambda: (state.target, state.copied_at))
        return state._replace(target=target, copied_at=copied_at)
