"""Episodes of a policy on seeds that training never uses, and what their returns say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from rlkit.errors import UserError
from rlkit.interaction.checked import checked_vector
from rlkit.interaction.vector import time_limit
from rlkit.intervals import interval, mean_texts
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
    """The returns of some episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seed: int
    step: int = 0
    """Training step of the agent."""
    epsilon: float = 0.0
    """Share of actions that were uniform in place of the policy's."""
    cut: int = 0
    """How many episodes would have gone on, but were cut off after `LONGEST` steps, as the env has no time limit."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns (divisor n)."""
        return float(np.std(self.returns))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the mean return by Student's t; None for one episode, which has none."""
        low, high = map(float, interval(np.array(self.returns)))
        return None if math.isnan(low) else (low, high)

    @property
    def text(self) -> str:
        """The mean, its interval, and how many episodes were cut off, in words."""
        mean, known = mean_texts(np.array(self.returns))
        episodes = "1 episode" if len(self.returns) == 1 else f"{len(self.returns)} episodes"
        cut = f", {self.cut} of them cut off after {LONGEST:,} steps" if self.cut else ""
        return f"mean return {mean} over {episodes}, {known}{cut}"

    def to_dict(self) -> dict[str, Any]:
        """As ``rlkit evaluate --json`` prints it."""
        return {
            "mean": self.mean,
            "std": self.std,
            "interval": self.interval and list(self.interval),
            "episodes": len(self.returns),
            "cut": self.cut,
            "cut_after": LONGEST if self.cut else None,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "seed": self.seed,
            "step": self.step,
            "epsilon": self.epsilon,
        }


def evaluate(
    policy: Policy,
    envs: VectorEnv,
    episodes: int,
    seed: int,
    *,
    epsilon: float = 0.0,
    occasion: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Play episodes, each on a seed of its own, so that the result does not depend on how many run at once.

    Where the env has no time limit, an episode is cut off after `LONGEST` steps, and counted in `Evaluation.cut`.

    Args:
        policy: from N observations to N actions.
        envs: N envs with autoreset disabled.
        episodes: how many.
        seed: of the evaluation.
        epsilon: share of actions that are uniform in place of the policy's, in [0, 1]; a discrete action space.
        occasion: tells evaluations with the same seed apart.
        watch: told after each step how many episodes have ended, and how many steps each env has made.
    """
    envs = checked_vector(envs)
    n = envs.num_envs
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    playing = np.arange(n)  # episode that each env plays; those from `episodes` on are not counted
    started, left, cut, steps = n, episodes, 0, 0
    seeds: list[int | None] = [evaluation_seed(seed, int(e), occasion) for e in playing]
    longest = np.iinfo(np.int64).max if time_limit(envs) else LONGEST
    played = np.zeros(n, np.int64)
    randoms = [generator(seed, Purpose.EVALUATION_ACTIONS, occasion, e) for e in range(n)]
    observation, _ = envs.reset(seed=seeds)  # type: ignore[arg-type]
    begin(policy, np.ones(n, np.bool_))
    while left:
        actions = policy(observation)
        if epsilon > 0:
            actions = _strayed(actions, epsilon, envs.single_action_space, randoms)
        observation, reward, terminated, truncated, _ = envs.step(actions)
        counted = playing < episodes
        returns[playing[counted]] += reward[counted]
        lengths[playing[counted]] += 1
        played += 1
        ended = np.asarray(terminated | truncated)
        over = ~ended & (played >= longest)
        if over.any():
            cut += int((over & counted).sum())
            ended = ended | over
        if ended.any():
            played[ended] = 0
            left -= int((ended & counted).sum())
            fresh = np.flatnonzero(ended)
            playing[fresh] = started + np.arange(len(fresh))
            started += len(fresh)
            for e in fresh:
                randoms[e] = generator(seed, Purpose.EVALUATION_ACTIONS, occasion, int(playing[e]))
            seeds = [
                evaluation_seed(seed, int(e), occasion) if new else None for e, new in zip(playing, ended, strict=True)
            ]
            observation, _ = envs.reset(seed=seeds, options={"reset_mask": ended})  # type: ignore[arg-type]
            begin(policy, ended)
        steps += 1
        if watch:
            watch(episodes - left, steps)
    return Evaluation(tuple(map(float, returns)), tuple(map(int, lengths)), seed, epsilon=epsilon, cut=cut)


def _strayed(
    actions: np.ndarray, epsilon: float, space: gymnasium.Space[Any], randoms: Sequence[np.random.Generator]
) -> np.ndarray:
    """The actions, [N], but for a share that are uniform in the space; each env draws from its episode's numbers."""
    if not isinstance(space, spaces.Discrete):
        raise UserError(f"epsilon is for discrete actions, and those of this env are {space}")
    stray = np.array([random.random() for random in randoms]) < epsilon
    uniform = [space.start + random.integers(space.n) for random in randoms]  # also where it is not taken
    return np.where(stray, np.array(uniform, actions.dtype), actions)
