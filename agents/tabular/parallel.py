"""Tables that are learned from thousands of chains at once, by the compiled loop. Sutton and Barto 2018, ch. 5 and 6.

The rules are those of `agents/tabular/tabular.py`. What several chains say about a state and action in the same round
is one update by their mean, as large as if they had come one after another: 1 - (1 - alpha)^m of the way for m of them.

Letters: N chains, T steps of a round, S states, A actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlkit.agents.tabular.config import ControlConfig, MonteCarloConfig, TabularConfig, TemporalDifferenceConfig
from rlkit.agents.tabular.tabular import discrete
from rlkit.errors import UserError
from rlkit.learning.agent import Clock, Rollout
from rlkit.learning.exploration import epsilon_greedy, greedy
from rlkit.learning.schedules import SCHEDULES
from rlkit.random_bits import draws
from rlkit.seeding import Purpose

LONGEST = 1_000
"""Steps that Monte-Carlo control looks ahead at least, where the env has no time limit and episodes may be longer."""


class ChainsState(NamedTuple):
    """All that learning changes."""

    q: tf.Tensor
    """[1, S, A] float64."""
    visits: tf.Tensor
    """Updates of each, [1, S, A] int64."""


class Chains(tf.Module):
    """A table of action values that N chains fill.

    Raises:
        UserError: observations or actions that are not Discrete, or a rule that only one chain can follow.
    """

    metrics = ("td_error",)
    updates = 1
    draws: tuple[int, ...] = (0,)

    def __init__(
        self, config: TabularConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__(name="tabular")
        states, actions = discrete(observation_space, action_space)
        if not isinstance(config, ControlConfig):
            raise UserError(
                "layered-q-iteration goes through the layers one after another: take the loop host and num_envs 1"
            )
        if isinstance(config, TemporalDifferenceConfig):
            alone = {"n_step": config.n_step > 1, "trace_decay": config.trace_decay > 0, "double": config.double}
            for name, wanted in alone.items():
                if wanted:
                    what = "double Q-learning" if name == "double" else f"{name} {getattr(config, name):g}"
                    raise UserError(f"{what} is for one chain: take the loop host and num_envs 1")
        self.config = config
        self.first_state, self.first_action = int(states.start), int(actions.start)
        shape = [1, int(states.n), int(actions.n)]
        self.q = tf.Variable(tf.fill(shape, tf.constant(config.initial_value, tf.float64)), trainable=False, name="q")
        self.visits = tf.Variable(tf.zeros(shape, tf.int64), trainable=False, name="visits")
        self.squares = tf.Variable(tf.zeros([1, 1], tf.float64), trainable=False, name="squares")
        self.target = config.target if isinstance(config, TemporalDifferenceConfig) else "return"
        limit = gymnasium.spec(config.env.rpartition(":")[2]).max_episode_steps
        self.limit, self.endless = limit or LONGEST, limit is None
        self.length = {"sample": 8, "return": 5 * self.limit}.get(self.target, 1)

    @property
    def open_episodes(self) -> str:
        """Treatment of undiscounted returns of episodes that a round leaves open, in words; empty for other targets."""
        if self.target != "return" or self.config.gamma < 1.0:
            return ""
        if not self.endless:
            return (
                f"returns: undiscounted; an episode that a round of {self.length:,} steps leaves open does not count, "
                "and behind the time limit the last state's estimated value stands for the rest"
            )
        return (
            f"returns: undiscounted, of {self.limit:,} steps at least; where a round of {self.length:,} steps leaves "
            "an episode open, the last state's estimated value stands for the rest"
        )

    def state(self) -> ChainsState:
        """The variables' values."""
        return ChainsState(tf.convert_to_tensor(self.q), tf.convert_to_tensor(self.visits))

    def assign(self, state: ChainsState) -> None:
        """Put a state's values into the variables."""
        self.q.assign(state.q)
        self.visits.assign(state.visits)

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Epsilon-greedy or greedy actions, [N] int32."""
        bits = None
        if explore:
            bits = draws(self.config.seed, Purpose.EXPLORATION, clock.step, [2, observations.shape[0]])
        return self.choose(self.state(), observations, clock, bits)

    def choose(self, state: ChainsState, observations: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """Epsilon-greedy actions by random bits [2, N], greedy ones if None."""
        q = tf.gather(state.q[0], tf.cast(observations, tf.int32) - self.first_state)  # [N, A]
        actions = greedy(q) if bits is None else epsilon_greedy(q, self.epsilon(clock), bits)
        return actions + self.first_action

    def learn(
        self, state: ChainsState, rollout: Rollout, clock: Clock, bits: tf.Tensor
    ) -> tuple[ChainsState, tf.Tensor]:
        """One update of all that was visited; the new state, and the mean |TD error|, [1]."""
        del bits
        q = state.q[0]  # [S, A]
        places = (rollout.observation - self.first_state) * q.shape[1] + rollout.action - self.first_action  # [T, N]
        if self.target == "return":
            targets, used = self._returns(q, rollout, places, clock)
        else:
            targets, used = self._bootstrapped(q, rollout, clock), rollout.valid
        flat, size = tf.reshape(places, [-1]), q.shape[0] * q.shape[1]
        weight = tf.cast(tf.reshape(used, [-1]), tf.float64)
        error = weight * (tf.reshape(targets, [-1]) - tf.gather(tf.reshape(q, [-1]), flat))
        number, total = (tf.math.unsorted_segment_sum(x, flat, size) for x in (weight, error))  # [S A]
        before = tf.cast(tf.reshape(state.visits, [-1]), tf.float64)
        share = self._share(before, number, clock)
        new = tf.reshape(q, [-1]) + share * total / tf.maximum(number, 1.0)
        visits = state.visits + tf.reshape(tf.cast(number, tf.int64), state.visits.shape)
        mean = tf.reduce_sum(tf.abs(error)) / tf.maximum(tf.reduce_sum(weight), 1.0)
        return ChainsState(tf.reshape(new, state.q.shape), visits), tf.cast(mean, tf.float32)[None]

    def _share(self, before: tf.Tensor, number: tf.Tensor, clock: Clock) -> tf.Tensor:
        """How far m updates in a row go towards their mean, after n earlier ones, [S A]."""
        c = self.config
        if c.step_size_schedule == "visits":
            if c.step_size_power == 1.0:
                return number / tf.maximum(before + number, 1.0)  # the mean of all
            step = tf.pow(tf.maximum(before + 0.5 * (number + 1.0), 1.0), -c.step_size_power)  # in their middle
        elif c.step_size_schedule == "constant":
            step = tf.constant(c.step_size, tf.float64)
        else:
            schedule = SCHEDULES[c.step_size_schedule]
            step = tf.cast(schedule(clock.step, c.step_size, c.step_size_end, c.step_size_duration), tf.float64)
        return 1.0 - tf.pow(1.0 - step, number)

    def _mean(self, q: tf.Tensor, states: tf.Tensor, clock: Clock) -> tf.Tensor:
        """Mean value of the behaviour policy in states counted from 0, of their shape."""
        epsilon = tf.cast(self.epsilon(clock), tf.float64)
        return tf.gather((1.0 - epsilon) * tf.reduce_max(q, axis=1) + epsilon * tf.reduce_mean(q, axis=1), states)

    def _bootstrapped(self, q: tf.Tensor, rollout: Rollout, clock: Clock) -> tf.Tensor:
        """One-step targets, [T, N]."""
        following = rollout.next_observation - self.first_state
        if self.target == "max":
            value = tf.gather(tf.reduce_max(q, axis=1), following)
        else:
            value = self._mean(q, following, clock)
        if self.target == "sample":  # in the last row the next action is not known: the mean of all
            known = ~(rollout.terminated | rollout.truncated)[:-1]
            action = rollout.action[1:] - self.first_action
            taken = tf.gather(tf.reshape(q, [-1]), following[:-1] * q.shape[1] + action)
            value = tf.concat([tf.where(known, taken, value[:-1]), value[-1:]], axis=0)
        discount = tf.where(rollout.terminated, tf.constant(0.0, tf.float64), self.config.gamma)
        return tf.cast(rollout.reward, tf.float64) + discount * value

    def _returns(self, q: tf.Tensor, rollout: Rollout, places: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns [T, N], and which of them count.

        Those of the episodes that began in this round, early enough to have ended for sure; without a time limit those
        of their steps that have `LONGEST` more behind them. So what counts does not depend on how it went. Where a time
        limit or the round cuts an episode off, the behaviour policy's mean value follows: without a time limit that
        weighs gamma^1000 at most, and undiscounted it is what these returns of n steps converge by.
        """
        length, n = places.shape
        ended = rollout.terminated | rollout.truncated
        reward, gamma = tf.cast(rollout.reward, tf.float64), tf.constant(self.config.gamma, tf.float64)
        cut = rollout.truncated & ~rollout.terminated
        onward = self._mean(q, rollout.next_observation - self.first_state, clock)
        rest = tf.where(cut, onward, tf.zeros_like(reward))
        first = isinstance(self.config, MonteCarloConfig) and self.config.visits == "first"

        def back(i: tf.Tensor, later: tf.Tensor, rows: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            t = length - 1 - i
            later = reward[t] + gamma * tf.where(ended[t], rest[t], later)
            return i + 1, later, rows.write(t, later)

        rows = tf.TensorArray(tf.float64, length, element_shape=[n])
        start = (tf.constant(0), onward[-1], rows)
        returns = tf.while_loop(lambda i, *_: i < length, back, start)[2].stack()

        chain, size = tf.range(n), int(self.q.shape[1] * self.q.shape[2])

        def on(
            t: tf.Tensor, began: tf.Tensor, seen: tf.Tensor, rows: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
            counts = (began >= 1) & ((t if self.endless else began) <= length - self.limit)  # [N]
            if first:
                at = tf.stack([chain, places[t]], axis=1)
                counts &= tf.gather_nd(seen, at) < began
                seen = tf.tensor_scatter_nd_update(seen, at, tf.fill([n], t))
            return t + 1, tf.where(ended[t], t + 1, began), seen, rows.write(t, counts)

        rows = tf.TensorArray(tf.bool, length, element_shape=[n])
        seen = tf.fill([n, size] if first else [1, 1], -1)
        begin = (tf.constant(0), tf.zeros([n], tf.int32), seen, rows)
        used = tf.while_loop(lambda t, *_: t < length, on, begin)[3].stack()
        return returns, used

    def epsilon(self, clock: Clock) -> tf.Tensor:
        """Share of random actions by the clock, float32 scalar."""
        c = self.config
        count = clock.step if c.epsilon_unit == "step" else clock.episode
        return SCHEDULES[c.epsilon_decay](count, c.epsilon_start, c.epsilon_end, c.epsilon_duration)

    def scalars(self, clock: Clock) -> dict[str, tf.Tensor]:
        """What the schedules say now."""
        return {"epsilon": self.epsilon(clock)}
