"""Gymnasium's CartPole-v1 as tensor functions. Barto, Sutton and Anderson 1983."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlkit.random_bits import fraction

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
"""m/s^2, kg, kg, m, N, and s between two steps."""

FARTHEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360
"""m and rad beyond which the pole counts as fallen."""


class CartPoleState(NamedTuple):
    """Position m, velocity m/s, angle rad and angular velocity rad/s, each [N] float32."""

    x: tf.Tensor
    x_dot: tf.Tensor
    theta: tf.Tensor
    theta_dot: tf.Tensor


class CartPole:
    """A pole on a cart: actions push left (0) or right (1), each step pays 1 until the pole falls.

    The state is float32 where Gymnasium computes in float64: a step differs by rounding, 1e-6.
    """

    initial_draws = 4
    transition_draws = 0

    def __init__(self) -> None:
        high = np.array([2 * FARTHEST, np.inf, 2 * STEEPEST, np.inf], np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.action_space = spaces.Discrete(2)

    def initial(self, bits: tf.Tensor) -> CartPoleState:
        """Each number uniform in [-0.05, 0.05)."""
        return CartPoleState(*tf.unstack(0.1 * fraction(bits) - 0.05, axis=1))

    def transition(self, state: CartPoleState, action: tf.Tensor, bits: tf.Tensor) -> CartPoleState:
        """Euler's step of the equations of motion (Florian 2007)."""
        del bits
        x, x_dot, theta, theta_dot = state
        force = tf.where(action == 1, FORCE, -FORCE)
        cosine, sine = tf.cos(theta), tf.sin(theta)
        total = CART_MASS + POLE_MASS
        push = (force + POLE_MASS * HALF_LENGTH * theta_dot**2 * sine) / total
        turn = (GRAVITY * sine - cosine * push) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cosine**2 / total))
        pull = push - POLE_MASS * HALF_LENGTH * turn * cosine / total
        return CartPoleState(
            x + SECONDS * x_dot, x_dot + SECONDS * pull, theta + SECONDS * theta_dot, theta_dot + SECONDS * turn
        )

    def observation(self, state: CartPoleState) -> tf.Tensor:
        """The four numbers, [N, 4]."""
        return tf.stack(state, axis=1)

    def reward(self, state: CartPoleState, action: tf.Tensor, next_state: CartPoleState) -> tf.Tensor:
        """1 a step."""
        del action, next_state
        return tf.ones_like(state.x)

    def terminal(self, state: CartPoleState) -> tf.Tensor:
        """The cart has left the track, or the pole leans too far."""
        return (tf.abs(state.x) > FARTHEST) | (tf.abs(state.theta) > STEEPEST)
