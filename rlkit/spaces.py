"""Spaces of observations and actions: dtypes, bounds, and observations that are checked against them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.errors import UserError

Arrays = dict[str, np.ndarray]


def observed(
    observations: np.ndarray,
    shape: tuple[int | None, ...],
    dtype: np.dtype,
    space: gymnasium.Space[Any] | None = None,
) -> np.ndarray:
    """Observations as a policy takes them; a list is taken too.

    Args:
        observations: [N, ...].
        shape: that they must have; None takes any N.
        dtype: that they become: whole numbers need whole numbers.
        space: of one, if it is known: states must be of it, as they are places in a table.

    Raises:
        UserError: they have another shape, are of another kind, or are states outside the space.
    """
    try:
        given = np.asarray(observations)
    except ValueError:
        raise UserError(f"observations are no array, expected {_shown(shape)} of {dtype}") from None
    if given.shape != shape and (shape[0] is not None or given.ndim != len(shape) or given.shape[1:] != shape[1:]):
        one = ": one observation alone is observation[None]" if given.shape == shape[1:] else ""
        raise UserError(f"observations are of shape {list(given.shape)}, expected {_shown(shape)}{one}")
    if given.dtype != dtype and given.dtype.kind not in ("biu" if dtype.kind in "biu" else "biuf"):
        raise UserError(f"observations are of dtype {given.dtype}, expected {dtype}")
    low, high = (0, None) if space is None else bounds(space)
    if high is not None and not (inside := (given >= low) & (given < high)).all():
        raise UserError(f"the observation {given[~inside].flat[0]} is outside the space, expected one of {space}")
    return given


def _shown(shape: tuple[int | None, ...]) -> str:
    """A batch's shape for people."""
    first = "N" if shape[0] is None else str(shape[0])
    return f"[{', '.join([first, *map(str, shape[1:])])}], one observation a row"


def bounds(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
    """The lowest values of a space of whole numbers and one beyond the highest; (0, None) for others."""
    if isinstance(space, spaces.MultiBinary):
        return 0, 2
    if isinstance(space, spaces.Discrete):
        first, n = int(space.start), int(space.n)
        return first, first + n
    return (space.start, space.start + space.nvec) if isinstance(space, spaces.MultiDiscrete) else (0, None)


def action_bounds(space: gymnasium.Space[Any]) -> tuple[int, int | None]:
    """The first action and one beyond the last of Discrete actions; (0, None) for other spaces."""
    return bounds(space) if isinstance(space, spaces.Discrete) else (0, None)


def observation_dtype(space: gymnasium.Space[Any]) -> np.dtype:
    """How observations of the space are stored and fed: uint8 and bool as uint8, Discrete as int32, else float32."""
    if isinstance(space, spaces.Discrete):
        return np.dtype(np.int32)
    return np.dtype(np.uint8 if space.dtype in (np.uint8, np.bool_) else np.float32)
