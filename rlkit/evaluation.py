"""Greedy episodes on seeds that training never uses, and what their returns say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv

from rlkit.seeding import Purpose, evaluation_seed, generator

LONGEST = 10_000
"""Steps after which an episode counts as it is, where the env has no time limit: a greedy policy can go on for ever."""

Policy = Callable[[np.ndarray], np.ndarray]
"""From N observations, [N, ...], to N actions, [N]; one with a memory is a `RecurrentPolicy`."""


@runtime_checkable
class RecurrentPolicy(Protocol):
    """A policy that remembers the episode so far of each of its N envs."""

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """As any policy's."""
        ...

    def reset(self, fresh: np.ndarray) -> None:
        """Forget where an episode begins with the next observation, [N] bool."""
        ...


def begin(policy: Policy, fresh: np.ndarray) -> None:
    """Tell a policy that remembers where an episode begins with the next observation, [N] bool."""
    if isinstance(policy, RecurrentPolicy):
        policy.reset(fresh)


@dataclass(frozen=True)
class Evaluation:
    """The returns of some episodes. The interval is for the mean, 95%, by the percentile bootstrap."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seed: int
    step: int
    """Training step of the agent."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns (divisor n)."""
        return float(np.std(self.returns))

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of the mean return (Efron 1979)."""
        low, high = bootstrap_interval(np.array(self.returns))
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """As ``rlkit evaluate --json`` prints it."""
        return {
            "mean": self.mean,
            "std": self.std,
            "interval": list(self.interval),
            "episodes": len(self.returns),
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "seed": self.seed,
            "step": self.step,
        }


def bootstrap_interval(values: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the means of resamples; the same for the same values."""
    rng, n = generator(0, Purpose.BOOTSTRAP), len(values)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(resamples)]  # one at a time: n may be large
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def evaluate(
    policy: Policy, envs: VectorEnv, episodes: int, seed: int, *, occasion: int = 0, step: int = 0
) -> Evaluation:
    """Play episodes, each on a seed of its own, so that the result does not depend on how many run at once.

    Where the env has no time limit, an episode is cut off after `LONGEST` steps.

    Args:
        policy: from N observations to N actions.
        envs: N envs with autoreset disabled.
        episodes: how many.
        seed: of the evaluation.
        occasion: tells evaluations with the same seed apart.
        step: training step of the agent, for the record.
    """
    n = envs.num_envs
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    playing = np.arange(n)  # episode that each env plays; those from `episodes` on are not counted
    started, left = n, episodes
    seeds: list[int | None] = [evaluation_seed(seed, int(e), occasion) for e in playing]
    limited = envs.spec is not None and envs.spec.max_episode_steps is not None
    played = np.zeros(n, np.int64)
    observation, _ = envs.reset(seed=seeds)  # type: ignore[arg-type]
    begin(policy, np.ones(n, np.bool_))
    while left:
        observation, reward, terminated, truncated, _ = envs.step(policy(observation))
        counted = playing < episodes
        returns[playing[counted]] += reward[counted]
        lengths[playing[counted]] += 1
        ended = np.asarray(terminated | truncated)
        played += 1
        if not limited:
            ended = ended | (played >= LONGEST)
        if ended.any():
            played[ended] = 0
            left -= int((ended & counted).sum())
            fresh = np.flatnonzero(ended)
            playing[fresh] = started + np.arange(len(fresh))
            started += len(fresh)
            seeds = [
                evaluation_seed(seed, int(e), occasion) if new else None for e, new in zip(playing, ended, strict=True)
            ]
            observation, _ = envs.reset(seed=seeds, options={"reset_mask": ended})  # type: ignore[arg-type]
            begin(policy, ended)
    return Evaluation(tuple(map(float, returns)), tuple(map(int, lengths)), seed, step)
