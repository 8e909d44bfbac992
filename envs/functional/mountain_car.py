"""Gymnasium's MountainCar-v0 as tensor functions. Moore 1990."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

from rlkit.random_bits import fraction

LEFT, RIGHT, FASTEST, GOAL, FORCE, GRAVITY = -1.2, 0.6, 0.07, 0.5, 0.001, 0.0025
"""Ends of the track and the goal, m; m a step; and m a step^2."""


class MountainCarState(NamedTuple):
    """Position and velocity, each [N] float32."""

    position: tf.Tensor
    velocity: tf.Tensor


class MountainCar:
    """A car too weak for the hill: actions push left (0), not (1) or right (2), and each step costs 1.

    The state is float32 where Gymnasium computes in float64: a step differs by rounding, 1e-6.
    """

    initial_draws = 1
    transition_draws = 0

    def __init__(self, goal_velocity: float = 0) -> None:
        self.goal_velocity = float(goal_velocity)
        same = MountainCarEnv(goal_velocity=goal_velocity)
        self.observation_space, self.action_space = same.observation_space, same.action_space

    def initial(self, bits: tf.Tensor) -> MountainCarState:
        """At rest, the position uniform in [-0.6, -0.4)."""
        position = 0.2 * fraction(bits[:, 0]) - 0.6
        return MountainCarState(position, tf.zeros_like(position))

    def transition(self, state: MountainCarState, action: tf.Tensor, bits: tf.Tensor) -> MountainCarState:
        """A step of the car; it stops at the left end."""
        del bits
        push = FORCE * (tf.cast(action, tf.float32) - 1.0) - GRAVITY * tf.cos(3.0 * state.position)
        velocity = tf.clip_by_value(state.velocity + push, -FASTEST, FASTEST)
        position = tf.clip_by_value(state.position + velocity, LEFT, RIGHT)
        stopped = (position <= LEFT) & (velocity < 0)
        return MountainCarState(position, tf.where(stopped, 0.0, velocity))

    def observation(self, state: MountainCarState) -> tf.Tensor:
        """Both numbers, [N, 2]."""
        return tf.stack(state, axis=1)

    def reward(self, state: MountainCarState, action: tf.Tensor, next_state: MountainCarState) -> tf.Tensor:
        """-1 a step."""
        del action, next_state
        return -tf.ones_like(state.position)

    def terminal(self, state: MountainCarState) -> tf.Tensor:
        """At the goal, and fast enough."""
        return (state.position >= GOAL) & (state.velocity >= self.goal_velocity)
