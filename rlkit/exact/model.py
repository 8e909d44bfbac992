"""The parts of a finite Markov decision process that backups, linear systems and checks read."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np


class Model(Protocol):
    """A process of S states, A actions and nnz outcomes; `rlkit.exact.mdp.FiniteMDP` is the one that there is.

    What it is made of is described there. Files that `FiniteMDP` needs itself take their models as this type, so that
    imports run one way.
    """

    def __init__(
        self,
        transitions: Any,  # noqa: ANN401 - as FiniteMDP takes them
        rewards: Any,  # noqa: ANN401
        *,
        gamma: float = 1.0,
        terminal: Any = None,  # noqa: ANN401
        terminated: Any = None,  # noqa: ANN401
        start: Any = None,  # noqa: ANN401
        horizon: int | None = None,
    ) -> None: ...

    states: int
    actions: int
    indptr: np.ndarray
    indices: np.ndarray
    probabilities: np.ndarray
    rewards: np.ndarray
    outcome_rewards: np.ndarray | None
    terminal: np.ndarray
    terminated: np.ndarray | None
    start: np.ndarray
    gamma: float
    horizon: int | None
    masked: bool
    """Whether some actions are not available in some states."""
    longest: int
    """Most outcomes of a row."""
    width: int
    """Outcomes of each row where all have as many, else 0."""
    packed: bool
    """Whether rows of that width follow each other without a gap."""

    @property
    def weights(self) -> np.ndarray:
        """The probabilities, 0 where the outcome ends the episode, [nnz]."""
        ...

    @property
    def ending(self) -> np.ndarray:
        """Probability that a step ends the episode in a state that is not terminal, [S A]."""
        ...

    @property
    def available(self) -> np.ndarray:
        """Actions that have outcomes, [S, A] bool."""
        ...

    @property
    def nnz(self) -> int:
        """Outcomes in all."""
        ...

    def q_values(self, values: np.ndarray) -> np.ndarray:
        """r(s, a) + gamma E v(s'), [S, A]."""
        ...

    def replace(self, *, gamma: float | None = None, horizon: int | None = None) -> Self:
        """The same process with another discount or horizon."""
        ...
