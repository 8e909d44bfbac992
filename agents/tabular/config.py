"""The tabular learners' fields, apart from the learners so that ``--help`` needs neither TensorFlow nor Numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlkit.config import option
from rlkit.errors import UserError
from rlkit.learning.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TabularConfig(TrainConfig):
    """What every learner has that keeps a number for each state and action."""

    steps: int = option(500_000, "Env steps to train for.", low=1)
    log_interval: int = option(10_000, "Steps between two rows of metrics.csv.", low=1, group="logging")
    eval_interval: int = option(50_000, "Steps between evaluations; 0: none.", low=0, group="logging")
    checkpoint_interval: int = option(100_000, "Steps between checkpoints.", low=1, group="logging")
    gamma: float = option(0.99, "Discount of a step.", low=0, high=1, group="agent")
    simulate: Literal["auto", "model", "env"] = option(
        "auto",
        "Where transitions come from: the env, step by step, or samples of its model in compiled code, which is a "
        "thousand times as fast; auto takes the model where there is one.",
        group="env",
    )
    initial_value: float = option(0.0, "Value of every state and action at first.", group="agent")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_envs != 1 and self.loop != "compiled":
            raise UserError(f"num_envs is {self.num_envs}, expected 1: only the compiled loop learns from several")


@dataclass(frozen=True, kw_only=True)
class ControlConfig(TabularConfig):
    """What every epsilon-greedy tabular learner has."""

    step_size: float = option(
        0.1,
        "Share of an update's error that a value takes, at first; not read by visits.",
        above=0,
        high=1,
        group="agent",
    )
    step_size_schedule: Literal["constant", "linear", "exponential", "visits"] = option(
        "visits",
        "Shape of the decay to step_size_end; visits: 1/n^step_size_power at the n-th update of a state and action.",
        group="agent",
    )
    step_size_end: float = option(0.01, "Where a linear or exponential decay ends.", above=0, high=1, group="agent")
    step_size_duration: int = option(500_000, "Steps until step_size_end.", low=1, group="agent")
    step_size_power: float = option(
        0.6,
        "Exponent of the visits; above 0.5 and at most 1 to converge; 1 for the mean of all targets, which remembers "
        "the first, random policy for long.",
        above=0,
        high=1,
        group="agent",
    )
    epsilon_start: float = option(1.0, "Share of random actions at the start.", low=0, high=1, group="agent")
    epsilon_end: float = option(0.1, "Share of random actions in the end.", low=0, high=1, group="agent")
    epsilon_decay: Literal["linear", "exponential"] = option("linear", "Shape of the decay.", group="agent")
    epsilon_unit: Literal["step", "episode"] = option("step", "What the decay counts.", group="agent")
    epsilon_duration: float = option(250_000, "Steps or episodes until epsilon_end.", above=0, group="agent")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epsilon_start", "epsilon_end"):
            if self.epsilon_decay == "exponential" and getattr(self, name) <= 0:
                raise UserError(f"{name} is 0, expected above 0 where epsilon_decay is exponential")


@dataclass(frozen=True, kw_only=True)
class TemporalDifferenceConfig(ControlConfig):
    """What the learners have that bootstrap."""

    target: ClassVar[str] = "max"
    double: ClassVar[bool] = False

    n_step: int = option(1, "Rewards summed before bootstrapping.", low=1, high=10_000, group="agent")
    trace_decay: float = option(
        0.0, "Lambda: decay of the eligibility of earlier states and actions.", low=0, high=1, group="agent"
    )
    traces: Literal["accumulating", "replacing"] = option(
        "replacing", "What a visit does to an eligibility: add 1, or set it to 1.", group="agent"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trace_decay > 0 and self.n_step > 1:
            raise UserError(f"trace_decay is {self.trace_decay:g} and n_step {self.n_step}: expected one of them alone")
        if self.trace_decay > 0 and self.double:
            raise UserError("trace_decay is for one table: take q-learning, or double-q-learning with n_step")


@dataclass(frozen=True, kw_only=True)
class QLearningConfig(TemporalDifferenceConfig):
    """Q-learning: bootstraps from the best action's value."""


@dataclass(frozen=True, kw_only=True)
class DoubleQLearningConfig(TemporalDifferenceConfig):
    """Double Q-learning: one table selects the action, the other evaluates it."""

    double: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class SarsaConfig(TemporalDifferenceConfig):
    """SARSA: bootstraps from the next action's value."""

    target: ClassVar[str] = "sample"


@dataclass(frozen=True, kw_only=True)
class ExpectedSarsaConfig(TemporalDifferenceConfig):
    """Expected SARSA: bootstraps from the behaviour policy's mean value."""

    target: ClassVar[str] = "expected"


@dataclass(frozen=True, kw_only=True)
class MonteCarloConfig(ControlConfig):
    """Monte-Carlo control: learns from whole returns."""

    visits: Literal["first", "every"] = option(
        "first", "Which visits of a state and action in an episode count.", group="agent"
    )


@dataclass(frozen=True, kw_only=True)
class LayeredQIterationConfig(TabularConfig):
    """Layered Q iteration: layer by layer from the last one up, from trials alone."""

    steps: int = option(10_000_000, "Env steps at most; it ends when every layer has had its trials.", low=1)
    trials: int = option(1_000, "Trials of each state and action (K).", low=1, group="agent")
