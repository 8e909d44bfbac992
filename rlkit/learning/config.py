"""Fields of every training, and of trainings from a replay and from rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlkit.config import Argument, Config, option
from rlkit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """What every agent's training has. Steps are env steps, summed over the envs."""

    env: str = option("", "Gymnasium id of the env to learn.", group="env")
    env_args: dict[str, Argument] = option({}, "Keyword arguments for the env.", group="env")
    num_envs: int = option(1, "Parallel envs (N).", low=1, high=100_000, group="env")
    vectorization: Literal["auto", "native", "sync", "async"] = option(
        "auto",
        "How parallel envs run: native (the env's own vector version), sync (in this process), async (a "
        "process each); auto is native where the env has one and N > 1, else sync.",
        group="env",
    )
    loop: Literal["auto", "host", "compiled"] = option(
        "auto",
        "Where the loop runs: host (Python, any env) or compiled (env, replay and learner in one program, for envs "
        "that are there as tensor functions); auto is compiled where it can be.",
    )
    steps: int = option(100_000, "Env steps to train for.", low=1)
    eval_episodes: int = option(20, "Episodes of an evaluation.", low=1, group="logging")
    target_return: float | None = option(
        None,
        "Stop once an evaluation's mean return reaches this, and that of as many fresh episodes too.",
        group="logging",
    )
    final_episodes: int = option(
        100,
        "Fresh episodes in which the best and the last agent are compared after training; 0: none.",
        low=0,
        group="logging",
    )
    jit: bool = option(True, "Compile acting and learning with XLA.", group="agent")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(TrainConfig):
    """What every agent has that learns from a replay buffer."""

    gamma: float = option(0.99, "Discount of a step.", low=0, high=1, group="agent")
    n_step: int = option(1, "Rewards summed before bootstrapping.", low=1, high=1000, group="agent")
    batch_size: int = option(128, "Transitions an update (B).", low=1, group="agent")
    buffer_size: int = option(100_000, "Transitions that the replay buffer holds.", low=1, group="agent")
    learning_starts: int = option(1_000, "Steps before the first update.", low=0, group="agent")
    train_interval: int = option(4, "Steps between two rounds of updates.", low=1, group="agent")
    gradient_steps: int = option(1, "Updates a round (K).", low=1, high=10_000, group="agent")
    clip_reward: bool = option(
        False, "Learn from rewards cut to [-1, 1] (Mnih et al. 2015); returns stay the env's.", group="agent"
    )
    priority_exponent: float = option(
        0.0,
        "Draw transitions in proportion to their last error to this power, alpha (Schaul et al. 2016); 0: uniformly.",
        low=0,
        high=1,
        group="agent",
    )
    importance_exponent: float | None = option(
        0.4,
        "Exponent of the weights that undo such draws' preference at the start, beta; none: no weights, and priorities "
        "of at least 1, which goes with Huber's loss (LAP, Fujimoto et al. 2020).",
        low=0,
        high=1,
        group="agent",
    )
    importance_duration: int | None = option(
        None,
        "Steps of the straight line of importance_exponent to 1; none: the steps that the run is begun with.",
        low=1,
        group="agent",
    )
    overlap: bool = option(
        False,
        "Compute a round of updates while the envs make their next step; the result is a function of this choice, not "
        "of what is faster.",
        group="agent",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.importance_duration is None:
            object.__setattr__(self, "importance_duration", self.steps)
        if self.batch_size > self.buffer_size:
            raise UserError(f"batch_size is {self.batch_size}, expected at most buffer_size, {self.buffer_size}")
        least = self.num_envs * self.n_step
        if self.buffer_size < least:
            raise UserError(f"buffer_size is {self.buffer_size}, expected at least num_envs times n_step, {least}")

    def importance(self, step: int) -> float | None:
        """Beta at a step; None: no weights."""
        begun, duration = self.importance_exponent, self.importance_duration
        if begun is None or duration is None:
            return None
        return begun + (1.0 - begun) * min(step / duration, 1.0)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(TrainConfig):
    """What every agent has that learns from the last steps of all envs, and then forgets them."""

    gamma: float = option(0.99, "Discount of a step.", low=0, high=1, group="agent")
    rollout_length: int = option(64, "Steps of each env between two rounds of updates (T).", low=1, group="agent")
