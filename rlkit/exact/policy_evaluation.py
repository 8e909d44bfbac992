"""The linear systems of a fixed policy, (I - gamma P) x = b: its values, and how long its episodes are.

Letters: S states. P [S, S] holds the transitions of the policy between states that are not terminal.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy import sparse
from scipy.sparse.linalg import splu

from rlkit.errors import UserError
from rlkit.exact import backups, rows
from rlkit.exact.model import Model

DIRECT = 3_000
"""States up to which a system is factorised; beyond, the factors of a random graph are nearly dense."""


def policy_values(mdp: Model, policy: np.ndarray) -> np.ndarray:
    """See FiniteMDP.policy_values."""
    if policy.shape[-1:] != (mdp.states,) or policy.ndim > 2:
        raise UserError(f"the policy has the shape {policy.shape}, expected [{mdp.states}]")
    states = np.arange(mdp.states)
    outside = (policy < 0) | (policy >= mdp.actions)
    allowed = mdp.available[states, np.where(outside, 0, policy)] & ~outside
    if not allowed.all():
        state = int(np.argwhere(~allowed)[0][-1])
        raise UserError(
            f"the policy takes action {policy[..., state].flat[0]} in state {state}, which is not available"
        )
    if mdp.horizon is not None:
        return _to_the_horizon(mdp, policy)
    if policy.ndim != 1:
        raise UserError(f"the policy has the shape {policy.shape}, expected [{mdp.states}]")
    reward = np.where(mdp.terminal, 0.0, mdp.rewards[states, policy])
    system = backups.restrict(mdp, policy)
    if mdp.gamma < 1.0:
        return solve(system, mdp.gamma, reward)
    only = np.zeros((mdp.states, mdp.actions), np.bool_)
    only[states, policy] = True
    endless = rows.distance_to_end(mdp, only) < 0
    if not endless.any():
        return solve(system, 1.0, reward)
    return _with_endless(system, reward, endless)


def _to_the_horizon(mdp: Model, policy: np.ndarray) -> np.ndarray:
    assert mdp.horizon is not None
    states, v = np.arange(mdp.states), np.zeros(mdp.states)
    if policy.ndim == 2 and len(policy) != mdp.horizon:
        raise UserError(f"the policy has {len(policy)} steps, expected the horizon, {mdp.horizon}")
    for step in reversed(range(mdp.horizon)):
        v = mdp.q_values(v)[states, policy[step] if policy.ndim == 2 else policy]
    return v


def _with_endless(system: backups.Rows, reward: np.ndarray, endless: np.ndarray) -> np.ndarray:
    """Values where the end is not sure: infinite if a reward can be earned for ever, NaN if both signs can."""
    begin, to, share = system
    to, share = to[: begin[-1]], share[: begin[-1]]
    states = len(reward)
    graph = sparse.csr_array((share, to, begin), shape=(states, states))
    graph.eliminate_zeros()
    _, sets = sparse.csgraph.connected_components(graph, connection="strong")
    edges = graph.tocoo()
    leaves = np.zeros(states, np.bool_)
    leaves[sets[edges.row[sets[edges.row] != sets[edges.col]]]] = True
    for_ever = endless & ~leaves[sets]  # in a set of states that is never left
    sign = np.zeros(states)
    for way in (1.0, -1.0):
        earning = np.zeros(states, np.bool_)
        earning[sets[for_ever & (np.sign(reward) == way)]] = True
        reached = for_ever & earning[sets]
        while True:
            more = reached | (graph @ reached.astype(np.float64) > 0)
            if (more == reached).all():
                break
            reached = more
        sign = np.where(reached & (sign != 0), np.nan, np.where(reached, way, sign))
    finite = (sign == 0) & ~for_ever
    among = sparse.csr_array(sparse.diags_array(finite.astype(np.float64)) @ graph)
    values = solve((among.indptr, among.indices, among.data), 1.0, np.where(finite, reward, 0.0))
    infinite = sign != 0
    values[infinite] = sign[infinite] * np.inf
    return values


def expected_length(mdp: Model, policy: np.ndarray) -> np.ndarray | None:
    """Upper bounds w [S] on the expected steps to the end, w >= 1 + P w; None if the policy does not end."""
    steps = np.where(mdp.terminal, 0.0, 1.0)
    system = backups.restrict(mdp, policy)
    w = solve(system, 1.0, steps)
    if not np.isfinite(w).all() or (w < 0).any():
        return None
    live = ~mdp.terminal
    spare = (w - product(*system, 1.0, w))[live].min(initial=1.0)
    return w / spare if spare > 0.5 else None


def solve(system: backups.Rows, gamma: float, b: np.ndarray) -> np.ndarray:
    """x with (I - gamma P) x = b, [S] float64, to rounding where that can be had."""
    begin, to, share = system
    to, share = to[: begin[-1]], share[: begin[-1]]
    states = len(b)
    x = np.array(b, np.float64)
    if _substitute(begin, to, share, gamma, x):
        return x
    if states > DIRECT:
        x, residual = bicgstab((), begin, to, share, gamma, b, 1e-13, 2_000)
        if residual <= 1e-11 * max(1.0, float(np.sqrt(np.square(b).sum()))):
            return x
    matrix = sparse.csc_array(sparse.eye_array(states) - gamma * sparse.csr_array((share, to, begin), (states, states)))
    try:
        found: np.ndarray = splu(matrix).solve(b)
    except RuntimeError:  # exactly singular: the policy does not end
        return np.full(states, np.inf)
    return found


@njit(cache=True, nogil=True)
def _substitute(begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float, x: np.ndarray) -> bool:
    """Solve in place from the last state to the first; False, and x is spoilt, if a state leads to no later one."""
    for s in range(len(x) - 1, -1, -1):
        total = 0.0
        for k in range(begin[s], begin[s + 1]):
            if share[k] > 0 and to[k] <= s:
                return False
            total += share[k] * x[to[k]]
        x[s] += gamma * total
    return True


@njit(cache=True, nogil=True, fastmath=True)
def product(begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float, x: np.ndarray) -> np.ndarray:
    """gamma P x."""
    y = np.empty(len(x))
    for s in range(len(x)):
        total = 0.0
        for k in range(begin[s], begin[s + 1]):
            total += share[k] * x[to[k]]
        y[s] = gamma * total
    return y


@njit(cache=True, nogil=True, fastmath=True)
def _apply(
    unroll: tuple[int, ...], begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float, x: np.ndarray,
    y: np.ndarray, u: np.ndarray,
) -> tuple[float, float]:  # fmt: skip
    """y = (I - gamma P) x, u . y and y . y, in one pass."""
    uy, yy = 0.0, 0.0
    for s in range(len(x)):
        total = 0.0
        if len(unroll) > 0:
            at = np.uint64(s) * np.uint64(len(unroll))
            for k in range(len(unroll)):
                i = at + np.uint64(k)
                total += share[i] * x[np.uint32(to[i])]
        else:
            for k in range(begin[s], begin[s + 1]):
                total += share[k] * x[np.uint32(to[k])]
        t = x[s] - gamma * total
        y[s] = t
        uy += u[s] * t
        yy += t * t
    return uy, yy


@njit(cache=True, nogil=True, fastmath=True)
def bicgstab(
    unroll: tuple[int, ...], begin: np.ndarray, to: np.ndarray, share: np.ndarray, gamma: float, b: np.ndarray,
    tolerance: float, limit: int,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """x with (I - gamma P) x = b by the stabilised biconjugate gradients of van der Vorst 1992, from x = 0.

    Args:
        unroll: empty, or as long as every row is: begin is not read then.
        begin: CSR, [S + 1].
        to: [nnz].
        share: [nnz].
        gamma: discount.
        b: right-hand side, [S].
        tolerance: stop when the residual's 2-norm is this share of b's.
        limit: most iterations, of two products each.

    Returns:
        x, [S], and the 2-norm of what the recurrence says is left.
    """
    n = len(b)
    x, v, t, s = np.zeros(n), np.zeros(n), np.zeros(n), np.empty(n)
    r, shadow, p = b.copy(), b.copy(), b.copy()
    rho = 0.0
    for i in range(n):
        rho += b[i] * b[i]
    left, stop = rho, tolerance * tolerance * rho
    for _ in range(limit):
        if left <= stop or rho == 0.0:
            break
        along, _ = _apply(unroll, begin, to, share, gamma, p, v, shadow)
        if along == 0.0:
            break
        alpha = rho / along
        for i in range(n):
            s[i] = r[i] - alpha * v[i]
        st, tt = _apply(unroll, begin, to, share, gamma, s, t, s)
        omega = st / tt if tt > 0.0 else 0.0
        before, rho, left = rho, 0.0, 0.0
        for i in range(n):
            x[i] += alpha * p[i] + omega * s[i]
            r[i] = s[i] - omega * t[i]
            left += r[i] * r[i]
            rho += shadow[i] * r[i]
        if omega == 0.0:
            break
        beta = rho / before * alpha / omega
        for i in range(n):
            p[i] = r[i] + beta * (p[i] - omega * v[i])
    return x, np.sqrt(left)
