"""Catch: a ball falls, and a paddle has to be under it; seen as pixels."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.pictures.canvas import INK, Canvas

SIDE = 84
"""Pixels of an observation, across and down."""

CELL = 40
"""Pixels of a cell in a picture."""

SKY, EDGE, BALL = (244, 246, 250), (208, 212, 220), (214, 94, 60)


class Catch(gymnasium.Env[np.ndarray, np.int64]):
    """A ball falls a row a step, and is caught or missed by a paddle in the bottom row.

    Mnih, Heess, Graves and Kavukcuoglu 2014, "Recurrent models of visual attention", in the size of Osband et al. 2020,
    "Behaviour suite for reinforcement learning". Only an episode's last step is rewarded, so that what the paddle did
    steps ago has to be credited. The best return is 1: a ball is at most columns // 2 columns away, with the defaults
    2, and there are rows - 1 steps to get there, 9.

    ## Action space
    `Discrete(3)`: 0 moves the paddle a column to the left, 1 leaves it, 2 moves it to the right. It stops at the walls.

    ## Observation space
    `Box(0, 255, (84, 84), uint8)`: the board in the middle of a black picture, cells of 84 // rows by 84 // columns
    pixels, ball and paddle white. As `rlkit/Catch-v0` the last four are stacked, (4, 84, 84), as Atari's are.

    ## Starting state
    The ball is in the top row, in each column with equal chances; the paddle is in the middle of the bottom row.

    ## Rewards
    1 where the ball reaches the bottom row in the paddle's column, -1 where it does in another, else 0.

    ## Episode end
    Terminated when the ball reaches the bottom row, after rows - 1 steps. Never truncated.

    ## Arguments
    - `rows`, `columns`: of the board, 2 to 84 and 1 to 84.

    ## Version history
    - v0: the first.

    Raises:
        UserError: an argument out of its range.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(self, rows: int = 10, columns: int = 5, render_mode: str | None = None) -> None:
        sizes: tuple[tuple[str, object, int], ...] = (("rows", rows, 2), ("columns", columns, 1))
        for name, value, low in sizes:
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= SIDE:
                raise UserError(f"{name} is {value!r}, expected a whole number from {low} to {SIDE}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        self.rows, self.columns, self.render_mode = rows, columns, render_mode
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE), np.uint8)
        self.action_space = spaces.Discrete(3)
        self._ball, self._paddle = (0, 0), columns // 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._ball, self._paddle = (0, int(self.np_random.integers(self.columns))), self.columns // 2
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        row, column = self._ball
        self._paddle = min(max(self._paddle + int(action) - 1, 0), self.columns - 1)
        self._ball = (row + 1, column)
        terminated = row + 1 == self.rows - 1
        reward = (1.0 if self._paddle == column else -1.0) if terminated else 0.0
        return self._observation(), reward, terminated, False, {}

    def _observation(self) -> np.ndarray:
        height, width = SIDE // self.rows, SIDE // self.columns
        top, left = (SIDE - height * self.rows) // 2, (SIDE - width * self.columns) // 2
        picture = np.zeros((SIDE, SIDE), np.uint8)
        for row, column in (self._ball, (self.rows - 1, self._paddle)):
            y, x = top + row * height, left + column * width
            picture[y : y + height, x : x + width] = 255
        return picture

    def render(self) -> np.ndarray | None:
        """The board, [height, width, 3] uint8, where the mode is rgb_array."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: give render_mode='rgb_array'")
            return None
        width, height = self.columns * CELL, self.rows * CELL
        canvas = Canvas(width, height)
        canvas.box((0, 0), (width, height), SKY, EDGE, width=2, radius=6)
        canvas.box((self._paddle * CELL + 2, height - CELL / 3 - 3), (CELL - 4, CELL / 3), INK, INK, radius=5)
        row, column = self._ball
        canvas.dot(((column + 0.5) * CELL, (row + 0.5) * CELL), CELL / 4, BALL)
        return canvas.pixels()
