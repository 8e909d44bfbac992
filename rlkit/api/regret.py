"""What a learner's policy truly loses, where the env has a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.agents.planning.planners import solve
from rlkit.errors import UserError
from rlkit.exact.env_model import NoModelError
from rlkit.exact.mdp import FiniteMDP
from rlkit.learning.agent import Learner
from rlkit.loops.acting import compile_policy

LARGEST = 100_000
"""States up to which the model is solved."""


def model_of(env: gymnasium.Env[Any, Any], gamma: float, report: Callable[[str], None]) -> FiniteMDP | None:
    """The model of an env, or None where it has none, one that is too large, or one that is refused, which is told."""
    try:
        space = env.observation_space
        if not isinstance(space, spaces.Discrete) or space.n > LARGEST:
            return None
        return FiniteMDP.from_env(env, gamma=gamma)
    except NoModelError:
        return None
    except UserError as error:
        report(f"model: not used: {error}")
        return None


BATCH = 256
"""States whose actions are asked for at once."""


class Regret:
    """sum_s start(s) (V*(s) - V^pi(s)) for an agent's greedy policy pi, exactly, at the agent's discount.

    A time limit is not part of the model. Undiscounted, the regret of a policy that goes on for ever may be infinite.

    Args:
        model: of S states.
        agent: whose policy.
        space: its observations, Discrete(S).
    """

    def __init__(self, model: FiniteMDP, agent: Learner, space: gymnasium.Space[Any]) -> None:
        self.model = model
        self.values = solve(model, tolerance=1e-9, allow_unconverged=True).values
        self.first_action = int(getattr(agent, "first_action", 0))
        self._states = int(getattr(space, "start", 0)) + np.arange(model.states)
        self._batch = min(model.states, BATCH)
        self._policy = compile_policy(agent, space, self._batch)

    def __call__(self) -> float:
        """Of the agent as it is now."""
        padded = np.resize(self._states, -(-len(self._states) // self._batch) * self._batch)
        parts = [self._policy(part) for part in padded.reshape(-1, self._batch)]
        actions = np.concatenate(parts)[: self.model.states] - self.first_action
        lost = self.values - self.model.policy_values(actions)
        return float(np.where(self.model.start > 0, lost, 0.0) @ self.model.start)
