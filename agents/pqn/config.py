"""PQN's fields, apart from the agent so that ``--help`` needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlkit.config import option
from rlkit.errors import UserError
from rlkit.learning.config import RolloutConfig


@dataclass(frozen=True, kw_only=True)
class PQNConfig(RolloutConfig):
    """Parallelised Q-network: many envs in place of a replay, normalised layers in place of a target network."""

    num_envs: int = option(32, "Parallel envs (N).", low=1, high=100_000, group="env")
    trace_decay: float = option(0.95, "Lambda of the returns.", low=0, high=1, group="agent")
    epochs: int = option(4, "Times that a round goes through the rollout.", low=1, group="agent")
    minibatches: int = option(16, "Updates of an epoch, on equal parts of the rollout.", low=1, group="agent")
    hidden: tuple[int, ...] = option((128, 128), "Units of the hidden layers.", low=1, group="agent")
    layer_norm: bool = option(True, "Normalise the hidden layers, which keeps learning stable.", group="agent")
    learning_rate: float = option(2.5e-4, "Rectified Adam's step size at the start.", above=0, group="agent")
    learning_rate_end: float | None = option(
        None, "Step size from learning_rate_duration on; none: as at the start.", low=0, group="agent"
    )
    learning_rate_duration: int = option(
        500_000, "Steps of the straight line to learning_rate_end.", low=1, group="agent"
    )
    max_gradient_norm: float = option(10.0, "Clip the gradient's norm to this; 0: never.", low=0, group="agent")
    epsilon_start: float = option(1.0, "Share of random actions at the start.", low=0, high=1, group="agent")
    epsilon_end: float = option(0.1, "Share of random actions in the end.", low=0, high=1, group="agent")
    epsilon_decay: Literal["linear", "exponential"] = option("linear", "Shape of the decay.", group="agent")
    epsilon_unit: Literal["step", "episode"] = option("step", "What the decay counts.", group="agent")
    epsilon_duration: float = option(100_000, "Steps or episodes until epsilon_end.", above=0, group="agent")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epsilon_start", "epsilon_end"):
            if self.epsilon_decay == "exponential" and getattr(self, name) <= 0:
                raise UserError(f"{name} is 0, expected above 0 where epsilon_decay is exponential")
        if self.rollout_length * self.num_envs % self.minibatches:
            raise UserError(
                f"minibatches is {self.minibatches}, expected a divisor of rollout_length times num_envs, "
                f"{self.rollout_length * self.num_envs}"
            )
