"""What agents share whose behaviour policy is epsilon-greedy in the values of a network.

Letters: N parallel envs, B batch, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import keras
import tensorflow as tf
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.learning.agent import Clock, State
from rlkit.learning.exploration import epsilon_greedy, greedy
from rlkit.learning.schedules import SCHEDULES, linear
from rlkit.random_bits import draws
from rlkit.seeding import Purpose


class QAgent(tf.Module):
    """An epsilon-greedy agent; a subclass makes `q`, its network, and `kept`, the variables of its state.

    Args:
        name: of the agent, for people.
        config: with fields for epsilon and the learning rate.
        action_space: of the env.

    Raises:
        UserError: actions that are not Discrete.
    """

    q: keras.Model
    kept: Any
    """As the state, whose first part are the network's weights, but variables."""

    def __init__(self, name: str, config: Any, action_space: gymnasium.Space[Any]) -> None:  # noqa: ANN401 - the agent's own
        super().__init__(name=name)
        if not isinstance(action_space, spaces.Discrete):
            raise UserError(
                f"{name} cannot choose from the action space {action_space}: it needs Discrete actions, as CartPole-v1 "
                "has"
            )
        self.config = config
        self.actions, self.first_action = int(action_space.n), int(action_space.start)

    @property
    def noisy(self) -> bool:
        """Whether the behaviour policy has more noise than epsilon, so that `choose` alone knows it."""
        return False

    def state(self) -> State:
        """The variables' values."""
        return tf.nest.map_structure(tf.convert_to_tensor, self.kept)

    def assign(self, state: State) -> None:
        """Put a state's values into the variables."""
        tf.nest.map_structure(lambda variable, value: variable.assign(value), self.kept, state)

    def q_values(self, weights: Sequence[tf.Tensor], observations: tf.Tensor) -> tf.Tensor:
        """[B, A] for [B, ...], of a network with these weights, behind which there may be others."""
        values, _ = self.q.stateless_call(weights[: len(self.q.trainable_variables)], [], observations)
        return values

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Epsilon-greedy or greedy actions, counted from the action space's first: [N] int32."""
        bits = self.bits(observations.shape[0], clock) if explore else None
        return self.choose(self.state(), observations, clock, bits)

    def choose(self, state: State, observations: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """Epsilon-greedy actions by random bits [2, N], greedy ones if None."""
        return self.pick(self.q_values(state.weights, observations), clock, bits)

    def bits(self, num_envs: int, clock: Clock) -> tf.Tensor:
        """Random bits of a step's exploration, [2, N] uint32."""
        return draws(self.config.seed, Purpose.EXPLORATION, clock.step, [2, num_envs])

    def pick(self, q: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """As `choose`, by action values [N, A]."""
        actions = greedy(q) if bits is None else epsilon_greedy(q, self.epsilon(clock), bits)  # [N]
        return actions + self.first_action

    def epsilon(self, clock: Clock) -> tf.Tensor:
        """Share of random actions by the clock, float32 scalar."""
        c = self.config
        count = clock.step if c.epsilon_unit == "step" else clock.episode
        return SCHEDULES[c.epsilon_decay](count, c.epsilon_start, c.epsilon_end, c.epsilon_duration)

    def learning_rate(self, clock: Clock) -> tf.Tensor | float:
        """The optimizer's step size by the clock, float32 scalar."""
        c = self.config
        if c.learning_rate_end is None:
            return float(c.learning_rate)
        return linear(clock.step, c.learning_rate, c.learning_rate_end, c.learning_rate_duration)

    def scalars(self, clock: Clock) -> dict[str, tf.Tensor | float]:
        """What the schedules say now."""
        return {"epsilon": self.epsilon(clock), "learning_rate": self.learning_rate(clock)}
