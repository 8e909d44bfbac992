"""The returns that an episode of an env can have at all, where that is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rlkit.config import Argument
from rlkit.envs import OWN
from rlkit.envs.lookup import REFUSALS
from rlkit.envs.twins import MODELS, is_gymnasiums
from rlkit.errors import UserError

if TYPE_CHECKING:
    from rlkit.exact.mdp import FiniteMDP

Range = tuple[float, float]
"""The least and the most; infinite where nothing is known."""

UNKNOWN = (-math.inf, math.inf)

KNOWN: dict[str, Callable[[int], Range]] = {
    "CartPole-v1": lambda limit: (1.0, limit),
    "rlkit/MaskedCartPole-v0": lambda limit: (1.0, limit),
    "Acrobot-v1": lambda limit: (-limit, 0.0),
    "MountainCar-v0": lambda limit: (-limit, -1.0),
    "Pendulum-v1": lambda limit: (-limit * (math.pi**2 + 0.1 * 8.0**2 + 0.001 * 2.0**2), 0.0),
    "rlkit/Catch-v0": lambda _: (-1.0, 1.0),
}
"""The range of an episode's return, from the most steps that it has; an episode has at least one."""

NEUTRAL = {"g", "goal_velocity", "keep", "rows", "columns"}
"""Arguments of those envs that change no reward."""

WORK = 10**9
"""Most outcomes that are looked at in a model, each once for every step of an episode."""


def possible_returns(env: str, env_args: Mapping[str, Argument]) -> Range:
    """The least and the largest return of an episode, whatever its actions and its luck.

    They are known of Gymnasium's and rlkit's own envs with rewards that are bounded, and of those with a finite model,
    of which every path counts.

    Args:
        env: the id, of any env.
        env_args: its arguments.

    Returns:
        The two ends, infinite where they are not known.
    """
    if env in MODELS:
        return _of_model(env, env_args)
    spec = gymnasium.registry.get(env)
    if env not in KNOWN or spec is None or not env_args.keys() <= NEUTRAL:
        return UNKNOWN
    same = spec.entry_point == OWN[env]["entry_point"] if env in OWN else is_gymnasiums(env)
    return KNOWN[env](spec.max_episode_steps or 0) if same else UNKNOWN


def _of_model(env: str, env_args: Mapping[str, Argument]) -> Range:
    """The extremes over all paths of the env's model that are as long as an episode can be."""
    from rlkit.exact.mdp import FiniteMDP  # noqa: PLC0415 - Numba, which other envs need not wait for

    arguments: dict[str, Any] = dict(env_args)
    try:
        with closing(gymnasium.make(env, **arguments)) as made:
            mdp = FiniteMDP.from_env(made, gamma=0.99)  # undiscounted, a model that never ends would be refused
            limits = [n for n in (made.spec and made.spec.max_episode_steps, mdp.horizon) if n]
    except (*REFUSALS, UserError, OSError):
        return UNKNOWN
    rewards = mdp.outcome_rewards
    if rewards is None:
        rewards = np.repeat(mdp.rewards.ravel(), np.diff(mdp.indptr))
    limit = min(limits, default=None)
    low, high = (_extreme(mdp, sign * rewards, limit) for sign in (-1.0, 1.0))
    return 0.0 - low, high


def _extreme(mdp: FiniteMDP, rewards: np.ndarray, limit: int | None) -> float:
    """The largest sum of rewards of a path from a start, of at most `limit` steps or, with None, of any number."""
    first = mdp.indptr[:: mdp.actions]
    some = first[1:] > first[:-1]
    going = ~mdp.terminal[mdp.indices] & (True if mdp.terminated is None else ~mdp.terminated)
    rewards = np.where(mdp.probabilities > 0, rewards, -np.inf)
    values = np.zeros(mdp.states)
    steps = mdp.states + 1 if limit is None else limit
    if steps * mdp.nnz > WORK:
        return math.inf
    for _ in range(steps):
        before = values
        values = np.zeros(mdp.states)
        values[some] = np.maximum.reduceat(rewards + np.where(going, before[mdp.indices], 0.0), first[:-1][some])
        values[mdp.terminal] = 0.0
        if np.array_equal(before, values):
            break
    else:
        if limit is None:
            return math.inf  # what can be collected for ever
    return float(values[mdp.start > 0].max())
