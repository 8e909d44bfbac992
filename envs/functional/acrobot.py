"""Gymnasium's Acrobot-v1 as tensor functions. Sutton 1996; Sutton and Barto 2018, the book's equations of motion."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf
from gymnasium.envs.classic_control.acrobot import AcrobotEnv

from rlkit.random_bits import fraction

GRAVITY, SECONDS = 9.8, 0.2
"""m/s^2, and s between two steps; both links have 1 kg, 1 m, their centre in the middle, a moment of inertia of 1."""

FASTEST = 4 * math.pi, 9 * math.pi
"""rad/s of each joint."""


class AcrobotState(NamedTuple):
    """Angles of both links, the second one from the first, rad, and angular velocities, rad/s, each [N] float32."""

    theta1: tf.Tensor
    theta2: tf.Tensor
    dtheta1: tf.Tensor
    dtheta2: tf.Tensor


class Acrobot:
    """Two links hang from a joint: actions turn the other one by -1, 0 or 1 N m; a step costs 1 until the tip is high.

    The state is float32 where Gymnasium computes in float64: a step differs by rounding, 1e-5 rad and, where both links
    are near their full speed, up to 1e-2 rad/s.
    """

    initial_draws = 4
    transition_draws = 0

    def __init__(self) -> None:
        same = AcrobotEnv()
        self.observation_space, self.action_space = same.observation_space, same.action_space

    def initial(self, bits: tf.Tensor) -> AcrobotState:
        """Each number uniform in [-0.1, 0.1)."""
        return AcrobotState(*tf.unstack(0.2 * fraction(bits) - 0.1, axis=1))

    def transition(self, state: AcrobotState, action: tf.Tensor, bits: tf.Tensor) -> AcrobotState:
        """A step of the classical Runge-Kutta method of order 4; angles are wrapped, velocities clipped."""
        del bits
        torque = tf.cast(action, tf.float32) - 1.0
        k1 = _slope(state, torque)
        k2 = _slope(_moved(state, k1, SECONDS / 2), torque)
        k3 = _slope(_moved(state, k2, SECONDS / 2), torque)
        k4 = _slope(_moved(state, k3, SECONDS), torque)
        slope = AcrobotState(*(a + 2.0 * b + 2.0 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True)))
        theta1, theta2, dtheta1, dtheta2 = _moved(state, slope, SECONDS / 6)
        return AcrobotState(
            _wrapped(theta1),
            _wrapped(theta2),
            tf.clip_by_value(dtheta1, -FASTEST[0], FASTEST[0]),
            tf.clip_by_value(dtheta2, -FASTEST[1], FASTEST[1]),
        )

    def observation(self, state: AcrobotState) -> tf.Tensor:
        """Cosine and sine of both angles, and the velocities, [N, 6]."""
        angles = [f(theta) for theta in state[:2] for f in (tf.cos, tf.sin)]
        return tf.stack([*angles, *state[2:]], axis=1)

    def reward(self, state: AcrobotState, action: tf.Tensor, next_state: AcrobotState) -> tf.Tensor:
        """-1 a step, 0 for the last one."""
        del state, action
        return tf.where(self.terminal(next_state), 0.0, -1.0)

    def terminal(self, state: AcrobotState) -> tf.Tensor:
        """The tip is a link's length above the joint."""
        return -tf.cos(state.theta1) - tf.cos(state.theta2 + state.theta1) > 1.0


def _moved(state: AcrobotState, slope: AcrobotState, seconds: float) -> AcrobotState:
    return AcrobotState(*(x + seconds * k for x, k in zip(state, slope, strict=True)))


def _wrapped(angle: tf.Tensor) -> tf.Tensor:
    """The angle in [-pi, pi], by whole turns: at full speed a step can take several."""
    return angle - 2 * math.pi * tf.round(angle / (2 * math.pi))


def _slope(state: AcrobotState, torque: tf.Tensor) -> AcrobotState:
    """Time derivatives of the state."""
    theta1, theta2, dtheta1, dtheta2 = state
    cosine, sine = tf.cos(theta2), tf.sin(theta2)
    d1 = 0.25 + (1.25 + cosine) + 2.0
    d2 = 0.25 + 0.5 * cosine + 1.0
    phi2 = 0.5 * GRAVITY * tf.sin(theta1 + theta2)  # cos(x - pi / 2) is sin(x)
    phi1 = -0.5 * sine * dtheta2 * (dtheta2 + 2.0 * dtheta1) + 1.5 * GRAVITY * tf.sin(theta1) + phi2
    ddtheta2 = (torque + d2 / d1 * phi1 - 0.5 * dtheta1**2 * sine - phi2) / (1.25 - d2**2 / d1)
    return AcrobotState(dtheta1, dtheta2, -(d2 * ddtheta2 + phi1) / d1, ddtheta2)
