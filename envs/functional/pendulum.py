"""Gymnasium's Pendulum-v1 as tensor functions."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from rlkit.random_bits import fraction

FASTEST, STRONGEST, SECONDS = 8.0, 2.0, 0.05
"""rad/s, N m, and s between two steps; mass and length are 1 kg and 1 m."""


class PendulumState(NamedTuple):
    """Angle from upright, rad, and angular velocity, rad/s, each [N] float32."""

    theta: tf.Tensor
    theta_dot: tf.Tensor


class Pendulum:
    """A pendulum to swing up and hold: the action is a torque, [N, 1] float32, and the episode never terminates.

    The state is float32 where Gymnasium computes in float64: a step differs by rounding, 1e-5.
    """

    initial_draws = 2
    transition_draws = 0

    def __init__(self, g: float = 10.0) -> None:
        self.gravity = float(g)
        same = PendulumEnv(g=g)
        self.observation_space, self.action_space = same.observation_space, same.action_space

    def initial(self, bits: tf.Tensor) -> PendulumState:
        """The angle uniform in [-pi, pi), the velocity in [-1, 1)."""
        first, second = tf.unstack(2.0 * fraction(bits) - 1.0, axis=1)
        return PendulumState(math.pi * first, second)

    def transition(self, state: PendulumState, action: tf.Tensor, bits: tf.Tensor) -> PendulumState:
        """Euler's step, the velocity first."""
        del bits
        torque = tf.clip_by_value(action[:, 0], -STRONGEST, STRONGEST)
        turn = 1.5 * self.gravity * tf.sin(state.theta) + 3.0 * torque
        theta_dot = tf.clip_by_value(state.theta_dot + SECONDS * turn, -FASTEST, FASTEST)
        return PendulumState(state.theta + SECONDS * theta_dot, theta_dot)

    def observation(self, state: PendulumState) -> tf.Tensor:
        """Cosine and sine of the angle, and the velocity, [N, 3]."""
        return tf.stack([tf.cos(state.theta), tf.sin(state.theta), state.theta_dot], axis=1)

    def reward(self, state: PendulumState, action: tf.Tensor, next_state: PendulumState) -> tf.Tensor:
        """-(angle^2 + velocity^2 / 10 + torque^2 / 1000), of the state before the step."""
        del next_state
        torque = tf.clip_by_value(action[:, 0], -STRONGEST, STRONGEST)
        angle = tf.math.floormod(state.theta + math.pi, 2 * math.pi) - math.pi
        return -(angle**2 + 0.1 * state.theta_dot**2 + 0.001 * torque**2)

    def terminal(self, state: PendulumState) -> tf.Tensor:
        """Never."""
        return tf.zeros_like(state.theta, tf.bool)
