"""Temporal-difference learning as pure functions: no state, no networks, one idea each.

Letters: B batch, A actions. Times: `_tm1` is the step that is learned about, `_t` the one after it. A transition's
`discount_t` is gamma^n, also where the episode was truncated, and 0 where it terminated: so no function here
needs to know about episode ends or n-step returns.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def select(q: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """The value of the given action in each row: [B, A] and [B] integers to [B]."""
    return tf.reduce_sum(q * tf.one_hot(actions, q.shape[-1], dtype=q.dtype), axis=-1)


def q_learning_target(r_t: tf.Tensor, discount_t: tf.Tensor, q_t: tf.Tensor) -> tf.Tensor:
    """r_t + discount_t max_a q_t(a), the target of Q-learning and DQN.

    Watkins 1989; Mnih et al. 2015, "Human-level control through deep reinforcement learning", algorithm 1.

    Args:
        r_t: reward, or discounted sum of n rewards, [B].
        discount_t: discount of the bootstrap value, 0 where the episode terminated, [B].
        q_t: the target network's values at the later observation, [B, A].

    Returns:
        Targets, [B].
    """
    return r_t + discount_t * tf.reduce_max(q_t, axis=-1)  # [B]


def double_q_learning_target(
    r_t: tf.Tensor, discount_t: tf.Tensor, q_t: tf.Tensor, q_t_selector: tf.Tensor
) -> tf.Tensor:
    """r_t + discount_t q_t(argmax_a q_t_selector(a)): one network selects, the other evaluates.

    van Hasselt, Guez and Silver 2016, "Deep reinforcement learning with double Q-learning", equation 4.

    Args:
        r_t: reward, or discounted sum of n rewards, [B].
        discount_t: discount of the bootstrap value, 0 where the episode terminated, [B].
        q_t: the target network's values at the later observation, [B, A].
        q_t_selector: the online network's values at the later observation, [B, A].

    Returns:
        Targets, [B].
    """
    return r_t + discount_t * select(q_t, tf.argmax(q_t_selector, axis=-1))  # [B]


def huber(td_error: tf.Tensor, delta: float = 1.0) -> tf.Tensor:
    """Half the square up to delta, then linear with slope delta; elementwise. Huber 1964.

    With delta 1 its gradient is the TD error clipped to [-1, 1] of Mnih et al. 2015.
    """
    magnitude = tf.abs(td_error)
    inner = tf.minimum(magnitude, delta)
    return 0.5 * inner**2 + delta * (magnitude - inner)


def squared(td_error: tf.Tensor) -> tf.Tensor:
    """Half the square, elementwise, so that its gradient is the TD error."""
    return 0.5 * td_error**2


def weighted(losses: tf.Tensor, weight: tf.Tensor | tuple[()]) -> tf.Tensor:
    """Losses [B] times importance weights [B]; as they are where there are no weights.

    Schaul et al. 2016, "Prioritized experience replay", algorithm 1, line 12.
    """
    return losses if isinstance(weight, tuple) else weight * losses


def moved(old: Sequence[tf.Tensor], new: Sequence[tf.Tensor], share: float) -> tuple[tf.Tensor, ...]:
    """share new + (1 - share) old: a target network that follows. Lillicrap et al. 2016, algorithm 1."""
    return tuple(share * n + (1.0 - share) * o for o, n in zip(old, new, strict=True))


def lambda_returns(
    r_t: tf.Tensor, discount_t: tf.Tensor, v_t: tf.Tensor, continues: tf.Tensor, trace_decay: float
) -> tf.Tensor:
    """G_t = r_t + discount_t ((1 - lambda_t) v_t + lambda_t G_(t+1)): returns that bootstrap at every step a little.

    lambda_t is `trace_decay` where the next row is the next step of the same episode, else 0, as after the last row.
    Sutton and Barto 2018, equation 12.18; with v_t = max_a Q, Gallici et al. 2024, "Simplifying deep temporal
    difference learning", section 3 (Peng's Q(lambda)).

    Args:
        r_t: rewards, [T, N].
        discount_t: of the value after the step, 0 where the episode terminated, [T, N].
        v_t: value of the observation after the step, the real one, [T, N].
        continues: whether the episode goes on in the next row, [T, N] bool.
        trace_decay: lambda.

    Returns:
        Targets, [T, N].
    """
    last = tf.range(r_t.shape[0])[:, None] + 1 == r_t.shape[0]
    share = tf.where(continues & ~last, trace_decay, 0.0)  # [T, N]
    fixed = r_t + discount_t * (1.0 - share) * v_t  # [T, N]
    factor = discount_t * share  # [T, N]
    rows, later = [], tf.zeros_like(r_t[0])
    for t in reversed(range(r_t.shape[0])):
        later = fixed[t] + factor[t] * later
        rows.append(later)
    return tf.stack(rows[::-1])
