"""The host loop: one agent and N copies of any Gymnasium env, from Python.

Letters: N parallel envs, K updates a round, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium.vector import AutoresetMode

from rlkit.acting import COUNTS, EpsilonGreedyAgent, HostActor, call_flat, counts, numpy_forward
from rlkit.agent import Agent, Clock, Learner, RolloutAgent
from rlkit.base_loop import Loop
from rlkit.checkpoint import Checkpointer
from rlkit.config import ReplayConfig, TrainConfig
from rlkit.evaluation import Evaluation, Policy, observed
from rlkit.exploration import draws
from rlkit.metrics import Observer
from rlkit.networks import observation_dtype
from rlkit.recurrent import RecurrentActor, RecurrentAgent
from rlkit.replay import Replay
from rlkit.seeding import CONFIRMATION, Purpose
from rlkit.vector import Arrays, Environments, Step

COUNT = tf.TensorSpec([], tf.int64)
BehaviourPolicy = Callable[[np.ndarray, int, int], np.ndarray]
"""From N observations, [N, ...], and a clock's counts, steps and episodes, to N actions, [N] int32."""


def compile_policy(agent: Learner, space: gymnasium.Space[Any], num_envs: int) -> Policy:
    """The greedy policy for N observations as NumPy arrays."""
    if isinstance(agent, RecurrentAgent):
        return RecurrentActor(agent, space, num_envs, explore=False)
    dtype = observation_dtype(space)
    zero = tf.constant(0, tf.int64)

    shape = (num_envs, *(space.shape or ()))
    signature = [tf.TensorSpec(shape, dtype)]

    @tf.function(input_signature=signature, jit_compile=agent.config.jit, autograph=False)
    def act(observations: tf.Tensor) -> tf.Tensor:
        return agent.act(observations, Clock(zero, zero), explore=False)

    call = call_flat(act.get_concrete_function())

    def policy(observations: np.ndarray) -> np.ndarray:
        actions: np.ndarray = call(tf.constant(observed(observations, shape, dtype, space), dtype)).numpy()
        return actions

    return policy


class Program:
    """An agent's two compiled programs for a loop on the host, and the replay's draws. Nothing retraces."""

    DRAWS = 256
    """Rounds whose replay draws are made in one call."""

    def __init__(self, agent: Agent, space: gymnasium.Space[Any], replay: Replay) -> None:
        c = agent.config
        self.traces = 0
        lead = [c.gradient_steps, c.batch_size]
        specs = replay.specs(lead)
        prioritized = replay.priorities is not None
        network = None if getattr(agent, "noisy", False) else getattr(agent, "q", None)
        forward = numpy_forward(network) if network is not None and replay.num_envs == 1 else None

        @tf.function(input_signature=[*tf.nest.flatten(specs), COUNTS], jit_compile=c.jit, autograph=False)
        def learn(*arguments: tf.Tensor) -> list[tf.Tensor]:
            self.traces += 1
            *parts, now = arguments
            metrics, priorities = agent.learn(tf.nest.pack_sequence_as(specs, parts), Clock(now[0], now[1]))
            weights = [tf.identity(w) for w in network.trainable_weights] if network and forward else []
            return [tf.stack(list(metrics.values())), *([priorities] if prioritized else []), *weights]

        @tf.function(input_signature=[COUNT], jit_compile=True, autograph=False)
        def draw(first: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            rounds = first + tf.range(self.DRAWS, dtype=tf.int64)
            return tf.map_fn(
                lambda number: draws(c.seed, Purpose.REPLAY, number, lead), rounds, fn_output_signature=tf.uint32
            )

        self.learn_function = learn.get_concrete_function()
        self._learn = call_flat(self.learn_function)
        self._act, self._draw = self._acting(agent, space, replay.num_envs), call_flat(draw.get_concrete_function())
        self._drawn_from, self._drawn = -1, np.zeros(0, np.uint32)
        self._actor = HostActor(cast("EpsilonGreedyAgent", agent), forward) if forward else None
        self._config = c
        self._device = tf.nest.flatten(agent.state())[0].device

    def _acting(self, agent: Agent, space: gymnasium.Space[Any], num_envs: int) -> BehaviourPolicy:
        """The agent's behaviour policy, compiled."""
        dtype = observation_dtype(space)
        signature = [tf.TensorSpec([num_envs, *(space.shape or ())], dtype), COUNTS]

        @tf.function(input_signature=signature, jit_compile=agent.config.jit, autograph=False)
        def act(observations: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            return agent.act(observations, Clock(now[0], now[1]), explore=True)

        call = call_flat(act.get_concrete_function())
        return lambda observations, step, episode: cast(
            "np.ndarray", call(tf.constant(observations, dtype), counts(step, episode)).numpy()
        )

    def act(self, observations: np.ndarray, step: int, episode: int) -> np.ndarray:
        """Actions of the behaviour policy, [N] int32."""
        return (self._actor.act if self._actor else self._act)(observations, step, episode)

    def learn(self, replay: Replay, number: int, step: int, episode: int) -> np.ndarray:
        """Round `number` of K updates; the metrics, in the order of the agent's."""
        first = number - number % self.DRAWS
        if first != self._drawn_from:
            self._drawn_from, self._drawn = first, self._draw(tf.constant(np.array(first))).numpy()
        batch = replay.sample(self._drawn[number - first], self._config.importance(step))
        with tf.device(self._device):  # a thread of its own has no such scope
            metrics, *others = self._learn(*map(tf.constant, tf.nest.flatten(batch)), counts(step, episode))
        if replay.priorities:
            replay.priorities.update(replay.drawn, others.pop(0).numpy())
        if self._actor:
            self._actor.use(others)
        values: np.ndarray = metrics.numpy()
        return values


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
        """Add a round's metrics; UserError if its loss is not finite."""
        self.rounds += 1
        if not math.isfinite(values[0]):
            raise self._diverged(float(values[0]))
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


class HostLoop(SteppingLoop):
    """Stores transitions, and learns from the replay.

    Args:
        agent: what learns.
        envs: N envs.
        replay: the buffer.
        checkpointer: where to save.
        evaluate: greedy episodes at a step, or None for no evaluations.
        observers: see metrics and evaluations.
    """

    agent: Agent
    config: ReplayConfig

    def __init__(
        self,
        agent: Agent,
        envs: Environments,
        replay: Replay,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], Evaluation] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(agent, envs, agent.config.gradient_steps, checkpointer, evaluate, observers)
        self.replay = replay
        self.program = self._program()
        self._owed = 0  # rounds of updates that the next step of the envs is to overlap with
        self._beside = ThreadPoolExecutor(1) if agent.config.overlap else None

    def _program(self) -> Program:
        return Program(self.agent, self.envs.observation_space, self.replay)

    def _cycle(self) -> bool:
        """One step of every env and the rounds of updates that are due after it."""
        c = self.config
        observation, before = self.envs.observation, self.step
        actions = self.program.act(observation, self.step, self.episode)
        learning = self._beside.submit(self._learn, self._owed) if self._beside and self._owed else None
        try:
            result = self._step(actions)
        finally:  # an update beside a step that failed has been made
            if learning:
                self._owed = 0
                for values in learning.result():
                    self._measure(values)
        self._count(result)
        if c.clip_reward:
            result = result._replace(reward=np.clip(result.reward, -1.0, 1.0))
        self.replay.add(observation, actions, result)
        due = self.step // c.train_interval - before // c.train_interval
        ready = due and self.step >= c.learning_starts and self.replay.usable().any()
        self._owed = due if ready else 0
        if self._owed and not self._beside:
            for values in self._learn(self._owed):
                self._measure(values)
        return True

    def _learn(self, rounds: int) -> list[np.ndarray]:
        """Some rounds of updates; the metrics of each."""
        measured = []
        for number in range(self.rounds, self.rounds + rounds):
            if self.profiler:
                self.profiler.round(number)
            measured.append(self.program.learn(self.replay, number, self.step, self.episode))
        return measured

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        counters, state = super()._state()
        return counters | {"owed": self._owed}, state | {f"replay.{k}": v for k, v in self.replay.state().items()}

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        self._owed = counters.get("owed", 0)
        self.replay.restore({k.removeprefix("replay."): v for k, v in state.items() if k.startswith("replay.")})
        super()._restore(counters, state, report)

    def _start_episodes(self) -> None:
        super()._start_episodes()
        self.replay.cut()


def restore_envs(envs: Environments, state: Arrays, report: Callable[[str], None]) -> bool:
    """Put envs back to their part of a state; False, which `report` is told, if they start fresh episodes."""
    if envs.restore({k.removeprefix("env."): v for k, v in state.items() if k.startswith("env.")}):
        return True
    report("the env's own state cannot be restored: fresh episodes start, so the run does not go on bit for bit")
    return False
