"""MinAtar's five games, from the package of that name: an episode is a function of its seed and its actions."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from minatar import Environment

from rlkit.errors import UserError

CELL = 32
"""Pixels of a cell in a picture, its edge among them."""

EDGE = (38, 42, 52)

COLOURS = np.array([
    (16, 18, 24),  # of a cell in which nothing is
    (255, 255, 255), (86, 180, 233), (120, 128, 145), (230, 159, 0), (0, 158, 115), (213, 94, 0), (240, 228, 66),
    (204, 121, 167), (0, 114, 178), (150, 220, 160),
], np.uint8)  # fmt: skip
"""Of a cell, by the last channel that is set in it."""


class MinAtar(gymnasium.Env[np.ndarray, np.int64]):
    """A game of Atari's in miniature, on a grid of 10 x 10 cells.

    Young and Tian 2019, "MinAtar: an Atari-inspired testbed for thorough and reproducible reinforcement learning
    experiments". The games are the package's own. Its episodes go on from the last action of the one before, which may
    stick; here each begins anew, so that it can be played again from its seed.

    ## Action space
    As -v0 `Discrete(6)`: nothing, left, up, right, down, fire. As -v1 those alone that the game knows, in this order.

    ## Observation space
    `Box(0, 1, (10, 10, C), bool)`: what is in a cell, a channel each. C is 4 in Asterix and Breakout, 7 in Freeway, 10
    in Seaquest, 6 in Space Invaders.

    ## Starting state
    As the game draws it from the seed.

    ## Rewards
    1 for what the game is about: gold, a brick, a crossing, a hit; in Seaquest also up to 10 for six divers.

    ## Episode end
    Terminated when the game is lost, and Freeway after 2,501 steps. Never truncated, as in the paper.

    ## Arguments
    - `sticky_action_prob`: how often the last action is taken again instead of the one that is given.
    - `difficulty_ramping`: whether a game becomes faster as it is played.
    - `use_minimal_action_set`: whether the actions are those alone that the game knows.

    ## Version history
    - v0, v1: as the package counts them.

    Raises:
        UserError: an argument out of its range.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(
        self,
        game: str,
        use_minimal_action_set: bool = True,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if not 0 <= sticky_action_prob <= 1:
            raise UserError(f"sticky_action_prob is {sticky_action_prob:g}, expected from 0 to 1")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        self.render_mode = render_mode
        self._game = Environment(game, sticky_action_prob, difficulty_ramping)
        known = self._game.minimal_action_set() if use_minimal_action_set else range(self._game.num_actions())
        self._actions = tuple(known)
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = spaces.Box(0, 1, tuple(self._game.state_shape()), np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._game.seed(seed)
        self._game.last_action = 0
        self._game.reset()
        return self._game.state(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward, terminated = self._game.act(self._actions[action])
        return self._game.state(), float(reward), bool(terminated), False, {}

    def render(self) -> np.ndarray | None:
        """The grid, [320, 320, 3] uint8, where the mode is rgb_array."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: give render_mode='rgb_array'")
            return None
        state = self._game.state()
        last = (state * np.arange(1, state.shape[2] + 1)).max(axis=2)  # [10, 10], 0 where nothing is
        picture: np.ndarray = COLOURS[last].repeat(CELL, axis=0).repeat(CELL, axis=1)
        picture[::CELL] = picture[:, ::CELL] = EDGE
        return picture
