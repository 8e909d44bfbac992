"""What a planner found, and how far it can be from the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP

LISTED = 10_000
"""Largest number of actions of a policy that `to_dict` writes out."""


@dataclass(frozen=True)
class Solution:
    """Values within a proven bound of the optimal ones, and a policy that is greedy in them."""

    mdp: FiniteMDP
    solver: str
    why: str
    """Why this solver was taken, where it was not asked for by name."""
    values: np.ndarray
    """[S] float64; with a horizon at the first step."""
    policy: np.ndarray
    """[S] integers, 0 in terminal states; with a horizon [horizon, S]. Of tied actions the lowest; undiscounted, the
    lowest with which the episode ends."""
    bound: float
    """Largest distance of `values` from the optimal ones; infinite where nothing could be proven."""
    margin: float
    """Actions whose values differ by less are tied."""
    converged: bool
    """Whether the bound is within the tolerance that was asked for."""
    iterations: int
    """Sweeps or steps of the solver; its page says which."""
    seconds: float
    after: np.ndarray | None = None
    """With a horizon: [S], values after the first step."""

    @property
    def q(self) -> np.ndarray:
        """Action values, [S, A] float64: -inf where not available, 0 in terminal states. Computed on each call."""
        return self.mdp.q_values(self.values if self.after is None else self.after)

    @property
    def optimal(self) -> np.ndarray:
        """[S, A] bool: every action whose value is within the margin of the best. Computed on each call."""
        q = self.q
        tied: np.ndarray = q >= q.max(axis=1, keepdims=True) - self.margin
        return tied

    @property
    def value_at_start(self) -> float:
        """Expected (discounted) return of an episode, over the start distribution."""
        return float(self.mdp.start @ self.values)

    @property
    def size(self) -> dict[str, Any]:
        """States, actions and outcomes of the model, and its discount and horizon."""
        return {
            "states": self.mdp.states,
            "actions": self.mdp.actions,
            "outcomes": self.mdp.nnz,
            "gamma": self.mdp.gamma,
            "horizon": self.mdp.horizon,
        }

    def to_dict(self) -> dict[str, Any]:
        """As ``rlkit solve --json`` prints it."""
        policy = None
        if self.size["states"] <= LISTED:
            policy = (self.policy if self.policy.ndim == 1 else self.policy[0]).tolist()
        return {
            "solver": self.solver,
            "why": self.why,
            "value_at_start": self.value_at_start,
            "bound": self.bound if np.isfinite(self.bound) else None,
            "converged": self.converged,
            "iterations": self.iterations,
            "seconds": self.seconds,
            **self.size,
            "policy": policy,
        }


class NotConvergedError(UserError):
    """The bound is not within the tolerance; `solution` is what there is."""

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution
