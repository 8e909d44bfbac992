"""Envs that show only a part of what they know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rlkit.errors import UserError


class Masked(gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray], RecordConstructorArgs):
    """Only some of an observation's numbers, so that the env is partially observable.

    CartPole without its velocities, which must be remembered from the positions and angles seen (Hausknecht and Stone
    2015 hide frames for the same end); ``rlkit/MaskedCartPole-v0`` is it with CartPole-v1's time limit:

    >>> Masked(gymnasium.make("CartPole-v1"), keep=(0, 2)).observation_space.shape
    (2,)

    Args:
        env: with a Box of one axis to observe.
        keep: places of the numbers that are shown, in the order in which they are.

    Raises:
        UserError: other observations, or a place that they have not.
    """

    def __init__(self, env: gymnasium.Env[np.ndarray, Any], keep: Sequence[int]) -> None:
        RecordConstructorArgs.__init__(self, keep=tuple(keep))
        super().__init__(env)
        space, self.keep = env.observation_space, list(keep)
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise UserError(f"the observation space {space} cannot be masked: a Box of one axis can")
        if not keep or not all(0 <= place < space.shape[0] for place in keep):
            raise UserError(f"keep is {tuple(keep)}, expected places from 0 to {space.shape[0] - 1}")
        self.observation_space = spaces.Box(space.low[self.keep], space.high[self.keep], dtype=space.dtype)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The numbers that are kept."""
        kept: np.ndarray = observation[self.keep]
        return kept
