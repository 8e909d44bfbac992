"""What planners share: when to stop, and how far they have come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rlkit.exact import bounds
from rlkit.exact.backups import Backup
from rlkit.exact.mdp import FiniteMDP


@dataclass(frozen=True)
class Goal:
    """When a planner may stop."""

    tolerance: float
    """Wanted bound on the distance of the values from the optimal ones."""
    threshold: float
    """Largest change of a value, or Bellman residual, with which the bound is expected to hold."""
    margin: float
    """Actions whose values differ by less are tied."""
    iterations: int
    """At most so many."""

    def met(self, mdp: FiniteMDP, backup: Backup) -> bool:
        """Whether a backup proves enough: the bound, or undiscounted a residual that promises it."""
        if mdp.gamma < 1.0:
            return bounds.bound(mdp, backup) <= self.tolerance
        return backup.residual <= self.threshold

    def left(self, used: int) -> Goal:
        """The same goal after some iterations."""
        return replace(self, iterations=max(0, self.iterations - used))


class Progress(NamedTuple):
    """How far a planner has come."""

    values: np.ndarray
    """[S] float64."""
    iterations: int
    backup: Backup | None = None
    """The last backup, if it was of `values`."""
