"""The host loop: one agent and N copies of any Gymnasium env, from Python.

Letters: N parallel envs, K updates a round, B batch.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Protocol, cast

import gymnasium
import numpy as np
import tensorflow as tf

from rlkit.acting import COUNTS, EpsilonGreedyAgent, HostActor, call_flat, counts, numpy_forward
from rlkit.agent import Agent, Clock, Learner, RolloutAgent
from rlkit.checkpoint import Checkpointer
from rlkit.config import ReplayConfig
from rlkit.errors import UserError
from rlkit.evaluation import Evaluation, Policy
from rlkit.exploration import draws
from rlkit.metrics import Observer
from rlkit.networks import observation_dtype
from rlkit.recurrent import RecurrentActor, RecurrentAgent
from rlkit.replay import Replay
from rlkit.seeding import Purpose
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

    @tf.function(input_signature=[tf.TensorSpec([num_envs, *(space.shape or ())], dtype)], jit_compile=agent.config.jit)
    def act(observations: tf.Tensor) -> tf.Tensor:
        return agent.act(observations, Clock(zero, zero), explore=False)

    call = call_flat(act.get_concrete_function())

    def policy(observations: np.ndarray) -> np.ndarray:
        actions: np.ndarray = call(tf.constant(observations, dtype)).numpy()
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
        network = getattr(agent, "q", None)
        forward = numpy_forward(network) if network is not None and replay.num_envs == 1 else None

        @tf.function(input_signature=[*tf.nest.flatten(specs), COUNTS], jit_compile=c.jit)
        def learn(*arguments: tf.Tensor) -> list[tf.Tensor]:
            self.traces += 1
            *parts, now = arguments
            metrics, _ = agent.learn(tf.nest.pack_sequence_as(specs, parts), Clock(now[0], now[1]))
            weights = [tf.identity(w) for w in network.trainable_weights] if network and forward else []
            return [tf.stack(list(metrics.values())), *weights]

        @tf.function(input_signature=[COUNT], jit_compile=True)
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

    def _acting(self, agent: Agent, space: gymnasium.Space[Any], num_envs: int) -> BehaviourPolicy:
        """The agent's behaviour policy, compiled."""
        dtype = observation_dtype(space)
        signature = [tf.TensorSpec([num_envs, *(space.shape or ())], dtype), COUNTS]

        @tf.function(input_signature=signature, jit_compile=agent.config.jit)
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
        batch = replay.sample(self._drawn[number - first])
        metrics, *weights = self._learn(*map(tf.constant, tf.nest.flatten(batch)), counts(step, episode))
        if self._actor:
            self._actor.use(weights)
        values: np.ndarray = metrics.numpy()
        return values


class RoundObserver(Protocol):
    """Sees the rounds of updates, to profile them."""

    def round(self, number: int) -> None:
        """Called before each round."""
        ...

    def stop(self) -> None:
        """Called when training ends."""
        ...


@contextmanager
def closing_profile(profiler: RoundObserver | None) -> Iterator[None]:
    """Stop a profiler at the end, however it comes."""
    try:
        yield
    finally:
        if profiler:
            profiler.stop()


class Loop:
    """What the loops have in common: observers, evaluation and checkpoints when their steps have come.

    A loop is `_cycle`, which acts and learns for some steps, `_row`, what it measured, and its own part of the state.

    Args:
        agent: what learns.
        checkpointer: where to save.
        evaluate: greedy episodes at a step, or None for no evaluations.
        observers: see metrics and evaluations.
    """

    def __init__(
        self,
        agent: Learner,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], Evaluation] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.agent, self.config, self.checkpointer = agent, agent.config, checkpointer
        self.evaluate, self.observers = evaluate, observers
        self.step = self.episode = 0
        self.seconds = 0.0
        self.best: float | None = None
        self.saved_at = -1
        self.regret: Callable[[], float] | None = None
        self.profiler: RoundObserver | None = None
        self._clock_start = time.monotonic()
        self.interrupted = False

    def _cycle(self) -> bool:
        """Act and learn for some steps, none beyond `due`; whether there is anything left to do."""
        raise NotImplementedError

    def _row(self) -> dict[str, float | None]:
        """What was measured since the row before."""
        raise NotImplementedError

    def _publish(self) -> None:
        """Copy what was learned to the agent's variables, where it is kept elsewhere."""

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        """The loop's own counters and arrays."""
        raise NotImplementedError

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        """The inverse of `_state`."""
        raise NotImplementedError

    def due(self) -> int:
        """The next step at which something else is to be done than acting and learning."""
        c = self.config
        intervals = [c.log_interval, c.eval_interval, c.checkpoint_interval]
        return min(c.steps, *((self.step // n + 1) * n for n in intervals if n > 0))

    def run(self) -> str:
        """Train to the config's last step, or until an evaluation reaches the target return.

        Returns:
            "finished", "solved" or "interrupted" (by a signal; a checkpoint was saved).

        Raises:
            UserError: the loss is not finite, or a file cannot be written.
        """
        with ExitStack() as stack:
            stack.callback(self.checkpointer.write_best)
            stack.enter_context(self.interruptible())
            stack.enter_context(closing_profile(self.profiler))
            self.begin_run()
            going, status = True, None
            while going and status is None and self.step < self.config.steps:
                before = self.step
                going = self._cycle()
                status = self.attend(before)
            return self.finish(status or "finished")

    def begin_run(self) -> None:
        self._clock_start = time.monotonic() - self.seconds
        if self.saved_at < 0:
            self.save()

    def attend(self, before: int) -> str | None:
        """What fell due since a step; how the run has ended, if it has."""
        if self._due(self.config.log_interval, before):
            self._log()
        if self._due(self.config.eval_interval, before) and self._evaluate():
            return "solved"
        if self._due(self.config.checkpoint_interval, before):
            self.save()
        return "interrupted" if self.interrupted else None

    def _due(self, interval: int, before: int) -> bool:
        return interval > 0 and self.step // interval > before // interval

    def _log(self) -> None:
        """A row of metrics for the steps since the one before."""
        row = {"episode": self.episode, **self._row()}
        for observer in self.observers:
            observer.row(self.step, row, time.monotonic() - self._clock_start)

    def _evaluate(self) -> bool:
        """Evaluate, keep the best agent; whether the target return was reached."""
        if self.evaluate is None:
            return False
        evaluation = self.evaluate(self.step)
        better = self.best is None or evaluation.mean >= self.best
        if better or self.regret:
            self._publish()
        regret = self.regret() if self.regret else None
        for observer in self.observers:
            observer.evaluation(self.step, evaluation.returns, regret)
        if better:
            self.best = evaluation.mean
            self.checkpointer.keep_best(self.step)
        target = self.config.target_return
        return target is not None and evaluation.mean >= target

    def finish(self, status: str) -> str:
        if self.saved_at != self.step:
            self.save()
        return status

    def _diverged(self, loss: float) -> UserError:
        kept = self.saved_at
        return UserError(
            f"the loss is {loss} at step {self.step}: stopped; the last good checkpoint, of step {kept}, is "
            "kept; a smaller learning_rate or max_gradient_norm may help"
        )

    def save(self) -> None:
        """Write a checkpoint of everything that decides how the run goes on."""
        self.seconds = time.monotonic() - self._clock_start
        self._publish()
        counters, state = self._state()
        counters |= {"step": self.step, "episode": self.episode, "seconds": self.seconds, "best": self.best}
        self.checkpointer.save(self.step, {"counters": np.array(json.dumps(counters)), **state})
        self.saved_at = self.step

    def restore(self, report: Callable[[str], None]) -> None:
        """Continue from the newest good checkpoint; `report` is told what could not be had.

        Raises:
            UserError: there is none.
        """
        self.saved_at, state = self.checkpointer.restore(report)
        counters = json.loads(str(state["counters"]))
        self.step, self.episode = counters["step"], counters["episode"]
        self.seconds, self.best = counters["seconds"], counters["best"]
        self._restore(counters, state, report)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends the loop after the cycle in hand; the second one at once."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            del number, frame
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        try:
            previous = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever runs it there handles signals
            yield
            return
        try:
            yield
        finally:
            for s, handler in previous.items():
                signal.signal(s, handler)


class SteppingLoop(Loop):
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
        self.envs, self.updates = envs, updates
        self.rounds = 0
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        self._ended: list[tuple[float, int]] = []
        self._sums = np.zeros(len(agent.metrics))
        self._summed = 0

    def _step(self, actions: np.ndarray) -> Step:
        """Act in every env and count."""
        result = self.envs.step(actions)
        self._account(result.reward, result.terminated | result.truncated, result.valid)
        self.step += int(np.count_nonzero(result.valid))
        return result

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
        self._summed, self._sums = counters["summed"], state["sums"].copy()
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        if not restore_envs(self.envs, state, report):
            self._start_episodes()

    def _start_episodes(self) -> None:
        """Forget the episodes that were under way."""
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

    def _program(self) -> Program:
        return Program(self.agent, self.envs.observation_space, self.replay)

    def _cycle(self) -> bool:
        """One step of every env and the rounds of updates that are due after it."""
        c = self.config
        observation, before = self.envs.observation, self.step
        actions = self.program.act(observation, self.step, self.episode)
        self.replay.add(observation, actions, self._step(actions))
        due = self.step // c.train_interval - before // c.train_interval
        if due and self.step >= c.learning_starts and self.replay.usable().any():
            for _ in range(due):
                if self.profiler:
                    self.profiler.round(self.rounds)
                self._measure(self.program.learn(self.replay, self.rounds, self.step, self.episode))
        return True


def restore_envs(envs: Environments, state: Arrays, report: Callable[[str], None]) -> bool:
    """Put envs back to their part of a state; False, which `report` is told, if they start fresh episodes."""
    if envs.restore({k.removeprefix("env."): v for k, v in state.items() if k.startswith("env.")}):
        return True
    report("the env's own state cannot be restored: fresh episodes start, so the run does not go on bit for bit")
    return False
