"""Any finite MDP with a known model as an env, so that every learner runs on it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP


class FiniteEnv(gymnasium.Env[Any, Any]):
    """Episodes of a FiniteMDP.

    ## Description
    A state's next state is drawn from the model's transition probabilities. A planner knows the model (`mdp`), a
    learner sees transitions only.

    ## Action space
    `Discrete(A)`. Where some actions are not available in some states, `info["action_mask"]`, [A] int8 as
    `Discrete.sample` takes it, has a 1 for those that are.

    ## Observation space
    `Discrete(S)`: the state.

    ## Starting state
    Drawn from the model's `start`.

    ## Rewards
    That of the outcome where the model has `outcome_rewards`, else the expected one of state and action.

    ## Episode end
    It terminates as it enters a terminal state or by an outcome that is `terminated`; it is truncated after `horizon`
    steps, if the model has one.

    ## Rendering
    "ansi": the last step and the state that it led to.

    ## Arguments
    - `mdp`: the model.

    Raises:
        UserError: an episode could start in a terminal state.

    ## Version history
    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(self, mdp: FiniteMDP, render_mode: str | None = None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"render_mode is {render_mode!r}, expected None or 'ansi'")
        ended = np.flatnonzero((mdp.start > 0) & mdp.terminal)
        if ended.size:
            raise UserError(f"state {ended[0]} is terminal and has a start probability, expected episodes of a step")
        self.model = mdp
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(mdp.states)
        self.action_space = spaces.Discrete(mdp.actions)
        first = np.flatnonzero(mdp.start)
        self._first, self._first_sums = first, np.cumsum(mdp.start[first])
        self._state = -1
        """-1 while there is no episode."""
        self._steps = 0
        self._text = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = int(self._first[_draw(self._first_sums, self.np_random.random())])
        self._steps, self._text = 0, f"start in state {self._state} of {self.model.states}"
        return self._state, self._info(self._state)

    def step(self, action: int | np.integer[Any]) -> tuple[int, float, bool, bool, dict[str, Any]]:
        model, here = self.model, self._state
        if here < 0:
            raise gymnasium.error.ResetNeeded("the episode has ended or not begun: call reset()")
        if not 0 <= action < model.actions or action != int(action):
            raise gymnasium.error.InvalidAction(f"action {action!r}, expected 0 to {model.actions - 1}")
        row = here * model.actions + int(action)
        begin, end = int(model.indptr[row]), int(model.indptr[row + 1])
        if begin == end:
            there = ", ".join(map(str, np.flatnonzero(self._mask(here))))
            raise gymnasium.error.InvalidAction(f"action {action} is not available in state {here}, expected {there}")
        outcome = begin + _draw(np.cumsum(model.probabilities[begin:end]), self.np_random.random())
        following = int(model.indices[outcome])
        rewards = model.outcome_rewards
        reward = float(model.rewards[here, int(action)] if rewards is None else rewards[outcome])
        terminated = bool(model.terminal[following] or (model.terminated is not None and model.terminated[outcome]))
        self._steps += 1
        truncated = not terminated and model.horizon is not None and self._steps >= model.horizon
        self._state = -1 if terminated or truncated else following
        ended = ", terminated" if terminated else ", truncated" if truncated else ""
        self._text = f"step {self._steps}: state {here}, action {action}, reward {reward:g} -> state {following}{ended}"
        return following, reward, terminated, truncated, self._info(following)

    def mdp(self, gamma: float | None = None) -> FiniteMDP:
        """The model, with another discount if one is given."""
        return self.model.replace(gamma=gamma)

    def render(self) -> str | None:
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: give render_mode='ansi'")
            return None
        return self._text

    def _mask(self, state: int) -> np.ndarray:
        """1 for each available action, [A] int8; all of them in a terminal state, where none counts."""
        rows = self.model.indptr[state * self.model.actions : (state + 1) * self.model.actions + 1]
        return np.asarray((np.diff(rows) > 0) | self.model.terminal[state], np.int8)

    def _info(self, state: int) -> dict[str, Any]:
        return {"action_mask": self._mask(state)} if self.model.masked else {}


class SavedFiniteEnv(FiniteEnv):
    """A `FiniteEnv` of the model in a file that `FiniteMDP.save` wrote.

    ## Arguments
    - `path`: the file, .npz.

    Raises:
        UserError: no path is given, the file cannot be read, or as for `FiniteEnv`.
    """

    def __init__(self, path: str | None = None, render_mode: str | None = None) -> None:
        if path is None:
            raise UserError("no path is given: name the file of a model, .npz, as FiniteMDP.save writes it")
        super().__init__(FiniteMDP.load(str(path)), render_mode)


def _draw(sums: np.ndarray, uniform: float) -> int:
    """An index whose chances are the differences of the cumulative sums; `uniform` is from [0, 1)."""
    return int(np.searchsorted(sums, uniform * sums[-1], side="right"))
