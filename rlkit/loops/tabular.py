"""The tabular loop: a table's learner in one env, or thousands of times as fast in samples of its model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rlkit.errors import UserError
from rlkit.exact.sampling import Simulator
from rlkit.interaction.evaluation import Evaluation
from rlkit.interaction.vector import Environments
from rlkit.learning.agent import Clock, Learner
from rlkit.loops.stepping import AgentLoop, restore_envs
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.spaces import Arrays


class TabularLearner(Learner, Protocol):
    """A learner that keeps its own table; states and actions are counted from 0."""

    first_state: int
    first_action: int
    sums: np.ndarray
    """[5] float64: episodes' returns and lengths, how many ended, |TD errors|, updates."""

    @property
    def episode(self) -> int:
        """Episodes that have ended."""
        ...

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to learn."""
        ...

    def begin(self, state: int) -> None:
        """An episode begins at a state."""
        ...

    def start(self, simulator: Simulator) -> None:
        """The first episode of a simulation begins."""
        ...

    def choose(self, step: int) -> int:
        """The behaviour policy's action at an absolute step."""
        ...

    def observe(self, action: int, reward: float, following: int, terminated: bool, truncated: bool, step: int) -> None:
        """Learn from a transition; `following` is the real next state."""
        ...

    def simulate(self, simulator: Simulator, first: int, last: int) -> int:
        """Act in a model and learn, from one absolute step to another; the step that was reached."""
        ...

    def scalars(self, clock: Clock) -> Mapping[str, float]:
        """What the schedules say now."""
        ...

    def shortfall(self) -> int:
        """How many pairs of state and action were tried less often than they should be."""
        ...

    def publish(self) -> None:
        """Copy the table to where checkpoints and the greedy policy take it from."""
        ...

    def state(self) -> Arrays:
        """All that decides how learning goes on."""
        ...

    def restore(self, state: Arrays) -> None:
        """Continue from a `state`."""
        ...


class TabularLoop(AgentLoop):
    """Steps one env, or a simulator of it, and lets the learner see every transition at once.

    Args:
        agent: what learns.
        source: the env, or the tables of its model.
        checkpointer: where to save.
        evaluate: greedy episodes at a step, or None for no evaluations.
        observers: see metrics and evaluations.
    """

    STEPS = 4_000_000
    """Most steps in the model between two looks at whether to stop."""

    agent: TabularLearner

    def __init__(
        self,
        agent: TabularLearner,
        source: Environments | Simulator,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], Evaluation] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(agent, checkpointer, evaluate, observers)
        self.source, self.updates = source, 0
        if isinstance(source, Environments):
            self._begin(source)
        else:
            agent.start(source)

    def _begin(self, envs: Environments) -> None:
        self.agent.begin(int(envs.observation[0]) - self.agent.first_state)

    def _cycle(self) -> bool:
        agent = self.agent
        if isinstance(self.source, Environments):
            action = agent.choose(self.step)
            result = self.source.step(np.array([action + agent.first_action]))
            following = int(result.next_observation[0]) - agent.first_state
            terminated, truncated = bool(result.terminated[0]), bool(result.truncated[0])
            reward = float(result.reward[0])
            agent.observe(action, reward, following, terminated, truncated and not terminated, self.step)
            self.step += 1
            if terminated or truncated:
                self._begin(self.source)
        else:
            self.step = agent.simulate(self.source, self.step, min(self.due(), self.step + self.STEPS))
        self.episode = agent.episode
        if not math.isfinite(agent.sums[3]):
            raise UserError(
                f"the TD error is {agent.sums[3]} at step {self.step}: stopped; the last good checkpoint, of step "
                f"{self.saved_at}, is kept; a smaller step_size may help"
            )
        return not agent.complete

    def _intact(self) -> bool:
        return isinstance(self.source, Environments)

    def _start_episodes(self) -> None:
        assert isinstance(self.source, Environments)
        self._begin(self.source)

    def _publish(self) -> None:
        self.agent.publish()

    def _evaluate(self) -> str | None:
        self._publish()  # the greedy policy reads what is published
        return super()._evaluate()

    def _row(self) -> dict[str, float | None]:
        returns, lengths, ended, errors, updates = self.agent.sums
        self.updates += int(updates)
        row: dict[str, float | None] = {
            "episode": self.episode,
            "updates": self.updates,
            **self.agent.scalars(Clock(self.step, self.episode)),
        }
        if ended:
            row |= {"episode_return": returns / ended, "episode_length": lengths / ended}
        if updates:
            row["td_error"] = errors / updates
        self.agent.sums[:] = 0.0
        return row

    def _complete(self) -> bool:
        return self.agent.complete

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state = self.agent.state()
        if isinstance(self.source, Environments):
            state |= {f"env.{name}": value for name, value in self.source.state().items()}
        return {"updates": self.updates, "simulated": not isinstance(self.source, Environments)}, state

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        self.updates = counters["updates"]
        self.agent.restore(state)
        if isinstance(self.source, Environments) and not restore_envs(self.source, state, report):
            self._start_episodes()
