"""Fields of the DQN, apart from the agent so that ``--help`` needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlkit.config import option
from rlkit.errors import UserError
from rlkit.learning.config import ReplayConfig, TrainConfig

HIDDEN = {"nature-cnn": (512,), "minatar-cnn": (128,)}
"""Units of the hidden layers behind convolutions, as in their papers."""

QUANTILES = {"qr": 200, "iqn": 64}
"""Of each head, as in their papers."""


@dataclass(frozen=True, kw_only=True)
class DQNConfig(ReplayConfig):
    """Deep Q-network, with Double, dueling and n-step as switches.

    Defaults are of the size that small control problems want; presets hold what was tuned for an env.
    """

    network: Literal["auto", "mlp", "lstm", "nature-cnn", "minatar-cnn"] = option(
        "auto",
        "Q-network: auto is nature-cnn where observations are pictures (uint8) of at least 36 pixels a side, else mlp: "
        "dense layers, or these behind a long short-term memory (Hausknecht and Stone 2015), which learns "
        "from batch_size sequences, or behind the convolutions of Mnih et al. 2015, for pictures, or of Young and Tian "
        "2019, for MinAtar's grids.",
        group="agent",
    )
    lstm_units: int = option(64, "Units of the memory of network lstm.", low=1, group="agent")
    sequence_length: int = option(20, "Steps of a sequence that network lstm learns from (L).", low=1, group="agent")
    burn_in: int = option(
        10,
        "Steps played through before them only to warm up the memory (Kapturowski et al. 2019).",
        low=0,
        group="agent",
    )
    hidden: tuple[int, ...] | None = option(
        None,
        "Units of the hidden layers; none: 64,64, or 512 behind nature-cnn's convolutions, 128 behind minatar-cnn's.",
        low=1,
        group="agent",
    )
    precision: Literal["float32", "mixed_bfloat16", "auto"] = option(
        "float32",
        "Numbers that convolutions and hidden layers compute with; weights, values, loss and optimizer are float32. "
        "auto is mixed_bfloat16 where the GPU or CPU has it.",
        group="agent",
    )
    dueling: bool = option(False, "Value and advantage in streams of their own (Wang 2016).", group="agent")
    head: Literal["expected", "c51", "qr", "iqn"] = option(
        "expected",
        "What is learned of a return: its mean; or its distribution, by atoms (Bellemare et al. 2017), by quantiles "
        "(Dabney et al. 2018a), or by implicit quantiles (Dabney et al. 2018b).",
        group="agent",
    )
    atoms: int = option(51, "Atoms of head c51 (K).", low=2, group="agent")
    v_min: float = option(-10.0, "Lower end of head c51's support; smaller returns are clipped to it.", group="agent")
    v_max: float = option(10.0, "Upper end of head c51's support; larger returns are clipped to it.", group="agent")
    quantiles: int | None = option(
        None,
        "Quantiles of head qr, none: 200; or that head iqn draws for each side of a loss, none: 64.",
        low=1,
        group="agent",
    )
    noisy: bool = option(
        False,
        "Explore by noise of learned size in the dense layers too (Fortunato et al. 2018); epsilon can then be 0.",
        group="agent",
    )
    double: bool = option(True, "Double Q-learning (van Hasselt 2016).", group="agent")
    learning_rate: float = option(1e-3, "Adam's step size at the start.", above=0, group="agent")
    learning_rate_end: float | None = option(
        None, "Adam's step size from learning_rate_duration on; none: as at the start.", low=0, group="agent"
    )
    learning_rate_duration: int = option(
        100_000, "Steps of the straight line to learning_rate_end.", low=1, group="agent"
    )
    adam_epsilon: float = option(1e-8, "Adam's epsilon.", above=0, group="agent")
    loss: Literal["huber", "squared"] = option(
        "huber", "Loss of the TD error, of head expected; the others have their own.", group="agent"
    )
    importance_exponent: float | None = option(
        None,
        "Exponent of the weights that undo the preference of draws by priority at the start, beta; none: 0.4, or for "
        "Huber's loss of head expected no weights, and priorities of at least 1 (LAP, Fujimoto et al. 2020).",
        low=0,
        high=1,
        group="agent",
    )
    max_gradient_norm: float = option(10.0, "Clip the gradient's norm to this; 0: never.", low=0, group="agent")
    target: Literal["hard", "polyak"] = option(
        "hard", "Target network: a copy every target_interval steps, or a moving average.", group="agent"
    )
    target_interval: int = option(500, "Steps between hard copies.", low=1, group="agent")
    polyak: float = option(
        0.005,
        "Share of the online network that a polyak target takes an update.",
        above=0,
        high=1,
        group="agent",
    )
    epsilon_start: float = option(1.0, "Share of random actions at the start.", low=0, high=1, group="agent")
    epsilon_end: float = option(0.05, "Share of random actions in the end.", low=0, high=1, group="agent")
    epsilon_decay: Literal["linear", "exponential"] = option("linear", "Shape of the decay.", group="agent")
    epsilon_unit: Literal["step", "episode"] = option("step", "What the decay counts.", group="agent")
    epsilon_duration: float = option(
        10_000,
        "Steps or episodes until epsilon_end; a factor of 0.995 an episode takes 919 from 1 to 0.01.",
        above=0,
        group="agent",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden is None and self.network != "auto":
            object.__setattr__(self, "hidden", HIDDEN.get(self.network, (64, 64)))
        for name in ("epsilon_start", "epsilon_end"):
            if self.epsilon_decay == "exponential" and getattr(self, name) <= 0:
                raise UserError(f"{name} is 0, expected above 0 where epsilon_decay is exponential")
        if self.quantiles is None and self.head in QUANTILES:
            object.__setattr__(self, "quantiles", QUANTILES[self.head])
        if self.importance_exponent is None and (self.head, self.loss) != ("expected", "huber"):
            object.__setattr__(self, "importance_exponent", 0.4)
        if self.v_min >= self.v_max:
            raise UserError(f"v_min is {self.v_min:g}, expected less than v_max, {self.v_max:g}")
        if self.network == "lstm":
            self._check_sequences()

    def _check_sequences(self) -> None:
        if self.head != "expected":
            raise UserError(f"head is {self.head}, expected expected where network is lstm")
        if self.noisy:
            raise UserError("noisy is true, expected false where network is lstm")
        if self.priority_exponent:
            raise UserError(f"priority_exponent is {self.priority_exponent:g}, expected 0 where network is lstm")
        if self.n_step > 1:
            raise UserError(f"n_step is {self.n_step}, expected 1 where network is lstm")
        least = self.num_envs * (self.burn_in + self.sequence_length)
        if self.buffer_size < least:
            raise UserError(
                f"buffer_size is {self.buffer_size}, expected at least num_envs times the steps of a sequence, burn_in "
                f"and sequence_length, {least}"
            )


def remembers(config: TrainConfig) -> bool:
    """Whether the agent of a config has a memory."""
    return isinstance(config, DQNConfig) and config.network == "lstm"
