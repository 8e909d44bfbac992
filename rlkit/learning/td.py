"""Temporal-difference learning as pure functions: no state, no networks, one idea each.

Letters: B batch, A actions, K atoms, N and M quantiles. Times: `_tm1` is the step that is learned about, `_t` the one
after it. A transition's `discount_t` is gamma^n, also where the episode was truncated, and 0 where it terminated: so no
function here needs to know about episode ends or n-step returns. B may stand for several dimensions, as [B, L] of
sequences, the same for all arguments; ranks that do not fit raise ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def _check_ranks(**tensors: tuple[tf.Tensor, int]) -> None:
    """Refuse tensors whose ranks do not fit: [B, 1] beside [B] would broadcast to [B, B].

    Args:
        **tensors: each with the dimensions that it has beyond those of the batch, which all share.
    """
    ranks = {name: (tf.TensorShape(tensor.shape), extra) for name, (tensor, extra) in tensors.items()}
    first, (known, beyond) = next(iter(ranks.items()))
    for name, (shape, extra) in ranks.items():
        if None not in (shape.rank, known.rank) and shape.rank - extra != known.rank - beyond:
            rank = known.rank - beyond + extra
            raise ValueError(f"{name} has shape {shape}; expected {rank} dimensions, as {first} has shape {known}")


def select(q: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """The value of the given action in each row: [B, A] and [B] integers to [B]."""
    _check_ranks(actions=(actions, 0), q=(q, 1))
    return tf.reduce_sum(q * tf.one_hot(actions, q.shape[-1], dtype=q.dtype), axis=-1)


def select_returns(returns: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """What describes the return of the given action in each row: [B, A, K] and [B] integers to [B, K]."""
    _check_ranks(actions=(actions, 0), returns=(returns, 2))
    chosen = tf.one_hot(actions, returns.shape[1], dtype=returns.dtype)[:, :, None]  # [B, A, 1]
    return tf.reduce_sum(returns * chosen, axis=1)


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
    _check_ranks(r_t=(r_t, 0), discount_t=(discount_t, 0), q_t=(q_t, 1))
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
    _check_ranks(r_t=(r_t, 0), discount_t=(discount_t, 0), q_t=(q_t, 1), q_t_selector=(q_t_selector, 1))
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


def categorical_target(
    r_t: tf.Tensor, discount_t: tf.Tensor, probabilities_t: tf.Tensor, atoms: tf.Tensor
) -> tf.Tensor:
    """Probabilities of r_t + discount_t Z on the atoms: each mass is shared between the two atoms nearest to it.

    m_i = sum_j [1 - |clip(r_t + discount_t z_j) - z_i| / distance] p_j, the bracket cut to [0, 1]. Bellemare, Dabney
    and Munos 2017, "A distributional perspective on reinforcement learning", equation 7 and algorithm 1.

    Args:
        r_t: reward, or discounted sum of n rewards, [B].
        discount_t: discount of the later return, 0 where the episode terminated, [B].
        probabilities_t: of the later return Z, [B, K].
        atoms: z, evenly spaced from the lowest, [K], at least 2.

    Returns:
        Targets, [B, K].
    """
    _check_ranks(r_t=(r_t, 0), discount_t=(discount_t, 0), probabilities_t=(probabilities_t, 1))
    moved = tf.clip_by_value(r_t[:, None] + discount_t[:, None] * atoms, atoms[0], atoms[-1])  # [B, K]
    distance = (atoms[-1] - atoms[0]) / (atoms.shape[0] - 1)
    shares = 1.0 - tf.abs(moved[:, None, :] - atoms[:, None]) / distance  # [B, K, K]
    return tf.reduce_sum(tf.maximum(shares, 0.0) * probabilities_t[:, None, :], axis=-1)


def categorical_loss(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Divergence of predicted from target probabilities, sum_i m_i (log m_i - log p_i): [B, K] each to [B].

    The cross-entropy of Bellemare et al. 2017, algorithm 1, less the target's own entropy, which has no gradient: so it
    is 0 where they agree, and what Hessel et al. 2018, "Rainbow", takes as priority.
    """
    _check_ranks(logits=(logits, 1), target=(target, 1))
    return tf.reduce_sum(tf.math.xlogy(target, target) - target * tf.nn.log_softmax(logits), axis=-1)


def quantile_loss(quantiles: tf.Tensor, fractions: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """sum_i mean_j |tau_i - [u_ij < 0]| huber(u_ij), with u_ij = target_j - quantile_i.

    Dabney et al. 2018a, "Distributional reinforcement learning with quantile regression", equation 10; Dabney et al.
    2018b, "Implicit quantile networks for distributional reinforcement learning", equation 3; kappa is 1.

    Args:
        quantiles: predicted, [B, N].
        fractions: tau that they are the quantiles of, [N] or [B, N].
        target: samples or quantiles of the target, [B, M].

    Returns:
        Losses, [B].
    """
    _check_ranks(quantiles=(quantiles, 1), target=(target, 1))
    error = target[:, None, :] - quantiles[:, :, None]  # [B, N, M]
    asymmetry = tf.abs(fractions[..., None] - tf.cast(error < 0.0, error.dtype))  # [B, N, M]
    return tf.reduce_sum(tf.reduce_mean(asymmetry * huber(error), axis=-1), axis=-1)


def weighted(losses: tf.Tensor, weight: tf.Tensor | tuple[()]) -> tf.Tensor:
    """Losses [B] times importance weights [B]; as they are where there are no weights.

    Schaul et al. 2016, "Prioritized experience replay", algorithm 1, line 12.
    """
    if isinstance(weight, tuple):
        return losses
    _check_ranks(losses=(losses, 0), weight=(weight, 0))
    return weight * losses


def corrected_mean(values: tf.Tensor, correction: tf.Tensor | tuple[()]) -> tf.Tensor:
    """The mean over a batch that uniform draws would have: sum_i c_i x_i / sum_i c_i; the plain one without c.

    Args:
        values: x, [B], or of any shape where there is no correction.
        correction: c, in proportion to 1 / P of each draw, [B], or nothing.
    """
    if isinstance(correction, tuple):
        return tf.reduce_mean(values)
    _check_ranks(values=(values, 0), correction=(correction, 0))
    return tf.reduce_sum(correction * values) / tf.reduce_sum(correction)


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
    _check_ranks(r_t=(r_t, 0), discount_t=(discount_t, 0), v_t=(v_t, 0), continues=(continues, 0))
    last = tf.range(r_t.shape[0])[:, None] + 1 == r_t.shape[0]
    share = tf.where(continues & ~last, trace_decay, 0.0)  # [T, N]
    fixed = r_t + discount_t * (1.0 - share) * v_t  # [T, N]
    factor = discount_t * share  # [T, N]
    rows, later = [], tf.zeros_like(r_t[0])
    for t in reversed(range(r_t.shape[0])):
        later = fixed[t] + factor[t] * later
        rows.append(later)
    return tf.stack(rows[::-1])
