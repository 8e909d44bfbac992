"""The host loop of a recurrent agent, whose memory of the episodes under way is part of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import gymnasium
import numpy as np

from rlkit.agent import Agent
from rlkit.errors import EnvError
from rlkit.loop import BehaviourPolicy, HostLoop, Program
from rlkit.recurrent import RecurrentActor, RecurrentAgent
from rlkit.vector import Arrays, Step

_PREFIX = "memory."


class RecurrentProgram(Program):
    """The programs of an agent that acts with a memory."""

    actor: RecurrentActor

    def _acting(self, agent: Agent, space: gymnasium.Space[Any], num_envs: int) -> BehaviourPolicy:
        self.actor = RecurrentActor(cast("RecurrentAgent", agent), space, num_envs, explore=True)
        return self.actor.act


class RecurrentLoop(HostLoop):
    """Stores transitions and learns from sequences of them; the arguments are the host loop's."""

    program: RecurrentProgram

    def _program(self) -> RecurrentProgram:
        return RecurrentProgram(self.agent, self.envs.observation_space, self.replay)

    def _step(self, actions: np.ndarray) -> Step:
        try:
            result = super()._step(actions)
        except EnvError:
            self.program.actor.take_back()
            raise
        # Where a row only reset its env, what was remembered there is of the episode that had ended.
        self.program.actor.reset(result.terminated | result.truncated | ~result.valid)
        return result

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        counters, state = super()._state()
        return counters, state | {_PREFIX + name: value for name, value in self.program.actor.state().items()}

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        mine = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        self.program.actor.restore(mine)
        super()._restore(counters, state, report)

    def _start_episodes(self) -> None:
        super()._start_episodes()
        self.program.actor.reset(np.ones(self.envs.num_envs, np.bool_))
