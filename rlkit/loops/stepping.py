"""A loop that steps N environments from Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from gymnasium.vector import AutoresetMode

from rlkit.interaction.evaluation import Evaluation
from rlkit.interaction.vector import Environments, Step
from rlkit.learning.agent import Agent, Clock, Learner, RolloutAgent
from rlkit.learning.config import TrainConfig
from rlkit.loops.base import Loop
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.seeding import CONFIRMATION
from rlkit.spaces import Arrays
from rlkit.traced import counts


class AgentLoop(Loop):
    """What the loops of agents have in common: evaluation by greedy episodes.

    Args:
        agent: what learns.
        checkpointer: where to save.
        evaluate: greedy episodes by an occasion, other ones for each, or None for no evaluations.
        observers: see metrics and evaluations.
    """

    config: TrainConfig
    lent: Environments | None = None
    """The training envs, where evaluations play in them as no others can be opened."""

    def __init__(
        self,
        agent: Learner,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], Evaluation] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(agent.config, checkpointer, observers)
        self.agent, self.evaluate = agent, evaluate
        self.regret: Callable[[], float] | None = None

    def _evaluation(self, evaluate: Callable[[int], Evaluation], occasion: int) -> Evaluation:
        """Evaluate, and put envs that were lent for it back to where training was."""
        evaluation = evaluate(occasion)
        if self.lent is not None and not self.lent.restore(self.lent.state()):
            self._start_episodes()
        return evaluation

    def _start_episodes(self) -> None:
        """Forget the episodes that were under way."""

    def _evaluate(self) -> str | None:
        """Evaluate, keep the best agent; "solved" if the target return was reached, and again in fresh episodes.

        An evaluation that reaches the target may just have been lucky, the more so the more of them there are. So
        others, which nothing was chosen by, are to confirm it; where they do not, the agent counts with both.
        """
        if self.evaluate is None:
            return None
        evaluation, target = self._evaluation(self.evaluate, self.step), self.config.target_return
        score, confirmation, solved = evaluation.mean, None, False
        if target is not None and score >= target:
            confirmation = self._evaluation(self.evaluate, self.step + CONFIRMATION).mean
            score, solved = (score + confirmation) / 2, confirmation >= target
        better = solved or not (math.isnan(score) or (self.best is not None and score < self.best))
        if better or self.regret:
            self._publish()
        regret = self.regret() if self.regret else None
        for observer in self.observers:
            values = {"mean": evaluation.mean, "regret": regret, "confirmation": confirmation}
            observer.evaluation(self.step, values, evaluation.returns)
        if better:
            self.best = score
            self.checkpointer.keep_best(self.step, self.best)
        return "solved" if solved else None


class SteppingLoop(AgentLoop):
    """Steps N envs from Python; a subclass learns from what they return.

    Args:
        agent: what learns.
        envs: N envs.
        updates: in a round.
        checkpointer: where to save.
        evaluate: greedy episodes at a step, or None for no evaluations.
        observers: see metrics and evaluations.
    """

    agent: Agent | RolloutAgent

    def __init__(
        self,
        agent: Agent | RolloutAgent,
        envs: Environments,
        updates: int,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], Evaluation] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(agent, checkpointer, evaluate, observers)
        self.envs, self.updates, self.stride = envs, updates, envs.num_envs
        self.rounds = 0
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        self._ended: list[tuple[float, int]] = []
        self._sums = np.zeros(len(agent.metrics))
        self._summed = 0

    def _step(self, actions: np.ndarray) -> Step:
        """Act in every env."""
        return self.envs.step(actions)

    def _count(self, result: Step) -> None:
        """Steps, episodes and returns."""
        self._account(result.reward, result.terminated | result.truncated, result.valid)
        self.step += int(np.count_nonzero(result.valid))

    def _measure(self, values: np.ndarray) -> None:
        """Add a round's metrics; UserError if one is not finite."""
        self.rounds += 1
        self._check_finite(self.agent.metrics, values)
        self._sums += values
        self._summed += 1

    def _account(self, reward: np.ndarray, ended: np.ndarray, valid: np.ndarray) -> None:
        self._returns += reward * valid
        self._lengths += valid
        if ended.any():
            for e in np.flatnonzero(ended):
                self._ended.append((float(self._returns[e]), int(self._lengths[e])))
            self._returns[ended] = 0.0
            self._lengths[ended] = 0
            self.episode += int(np.count_nonzero(ended))

    def _row(self) -> dict[str, float | None]:
        clock = Clock(*tf.unstack(counts(self.step, self.episode)))
        row: dict[str, float | None] = {
            "episode": self.episode,
            "updates": self.rounds * self.updates,
            **{name: float(value) for name, value in self.agent.scalars(clock).items()},
        }
        if self._ended:
            returns, lengths = zip(*self._ended, strict=True)
            row |= {"episode_return": float(np.mean(returns)), "episode_length": float(np.mean(lengths))}
        if self._summed:
            row |= dict(zip(self.agent.metrics, map(float, self._sums / self._summed), strict=True))
        self._ended.clear()
        self._sums[:] = 0.0
        self._summed = 0
        return row

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        counters = {"rounds": self.rounds, "ended": self._ended, "summed": self._summed}
        state: Arrays = {"returns": self._returns, "lengths": self._lengths, "sums": self._sums}
        state |= {f"env.{name}": value for name, value in self.envs.state().items()}
        return counters, state

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        self.rounds = counters["rounds"]
        self._ended = [(r, n) for r, n in counters["ended"]]
        self._summed = counters["summed"]
        self._sums[: len(state["sums"])] = state["sums"]  # the last metrics may be newer than the checkpoint
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        if not restore_envs(self.envs, state, report):
            self._start_episodes()

    def _intact(self) -> bool:
        return self.envs.mode == AutoresetMode.DISABLED

    def _start_episodes(self) -> None:
        self._returns[:], self._lengths[:] = 0.0, 0


def restore_envs(envs: Environments, state: Arrays, report: Callable[[str], None]) -> bool:
    """Put envs back to their part of a state; False, which `report` is told, if they start fresh episodes."""
    if envs.restore({k.removeprefix("env."): v for k, v in state.items() if k.startswith("env.")}):
        return True
    report("the env's own state cannot be restored: fresh episodes start, so the run does not go on bit for bit")
    return False
