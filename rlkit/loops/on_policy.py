"""Learning from rollouts, T steps of N envs at a time, on the host and in a compiled program.

Letters: N parallel envs, T steps of a rollout, M metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import tensorflow as tf

from rlkit.interaction.evaluation import Evaluation
from rlkit.interaction.functional import FunctionalEnv
from rlkit.interaction.vector import Environments
from rlkit.learning.agent import Clock, Rollout, RolloutAgent
from rlkit.loops.compiled import Carry, Program
from rlkit.loops.stepping import SteppingLoop
from rlkit.random_bits import draws
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.seeding import Purpose
from rlkit.spaces import Arrays, observation_dtype
from rlkit.traced import COUNT, COUNTS, call_flat, counts


class RolloutProgram(Program):
    """An agent that learns from rollouts: T steps of all envs, then a round of updates.

    Args:
        agent: pure functions of a state; its own state is not used.
        env: the functions.
        limit: steps after which an episode is truncated; none if None.
    """

    agent: RolloutAgent

    def __init__(self, agent: RolloutAgent, env: FunctionalEnv, limit: int | None) -> None:
        super().__init__(agent, env, limit)
        self.stride, self.updates = agent.length * self.num_envs, agent.updates

    def cycle(self, carry: Carry, seed: tf.Tensor, env_key: tf.Tensor) -> Carry:
        def write(t: tf.Tensor, carry: Carry, rows: tuple[tf.TensorArray, ...]) -> tuple[Any, ...]:
            observation = carry.envs.observation
            carry, action, outcome = self.act(carry, seed, env_key)
            parts = [observation, action, outcome.reward, outcome.terminated, outcome.truncated]
            parts.append(outcome.next_observation)
            return t + 1, carry, tuple(row.write(t, part) for row, part in zip(rows, parts, strict=True))

        length, seen = self.agent.length, carry.envs.observation
        flat = [seen.shape[0]]
        kinds = [(seen.dtype, seen.shape), (tf.int32, flat), (tf.float32, flat), (tf.bool, flat), (tf.bool, flat)]
        kinds.append((seen.dtype, seen.shape))
        rows = tuple(tf.TensorArray(dtype, length, element_shape=shape) for dtype, shape in kinds)
        _, carry, rows = tf.while_loop(lambda t, *_: t < length, write, (tf.constant(0), carry, rows))
        fields = dict(zip(Rollout._fields, [row.stack() for row in rows], strict=False))
        rollout = Rollout(**fields, valid=tf.fill(fields["action"].shape, True))
        bits = draws(seed, Purpose.MINIBATCHES, carry.counts[1], list(self.agent.draws))
        agent, metrics = self.agent.learn(carry.agent, rollout, carry.clock, bits)
        return carry._replace(
            agent=agent,
            counts=carry.counts + tf.constant([0, 1, 0], tf.int64),
            measured=self.measure(carry.measured, metrics),
        )


class RolloutLoop(SteppingLoop):
    """Steps N envs T times, and learns from that.

    Args:
        agent: what learns.
        envs: N envs.
        checkpointer: where to save.
        evaluate: greedy episodes at a step, or None for no evaluations.
        observers: see metrics and evaluations.
    """

    agent: RolloutAgent

    def __init__(
        self,
        agent: RolloutAgent,
        envs: Environments,
        checkpointer: Checkpointer,
        evaluate: Callable[[int], Evaluation] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(agent, envs, agent.updates, checkpointer, evaluate, observers)
        c, space = agent.config, envs.observation_space
        self.dtype, shape = observation_dtype(space), list(space.shape or ())
        lead = [agent.length, envs.num_envs]
        self.stride = agent.length * envs.num_envs
        self.traces = 0

        signature = [tf.TensorSpec([lead[1], *shape], self.dtype), COUNTS]

        @tf.function(input_signature=signature, jit_compile=c.jit, autograph=False)
        def act(observations: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            return agent.act(observations, Clock(now[0], now[1]), explore=True)

        kinds: list[tuple[list[int], Any]] = [(shape, self.dtype), ([], tf.int32), ([], tf.float32)]
        kinds += [([], tf.bool), ([], tf.bool), (shape, self.dtype), ([], tf.bool)]
        specs = [tf.TensorSpec([*lead, *size], dtype) for size, dtype in kinds]

        @tf.function(input_signature=[*specs, COUNTS, COUNT], jit_compile=c.jit, autograph=False)
        def learn(*arguments: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            *parts, now, number = arguments
            bits = draws(c.seed, Purpose.MINIBATCHES, number, list(agent.draws))
            state, metrics = agent.learn(agent.state(), Rollout(*parts), Clock(now[0], now[1]), bits)
            agent.assign(state)
            return metrics

        self.learn_function = learn.get_concrete_function()
        self._act, self._learn = call_flat(act.get_concrete_function()), call_flat(self.learn_function)
        self._rows = [np.zeros([*lead, *size], tf.as_dtype(dtype).as_numpy_dtype) for size, dtype in kinds]
        self._filled = 0  # rows of a rollout in which an env has failed

    @property
    def program(self) -> RolloutLoop:
        """What is profiled."""
        return self

    def _cycle(self) -> bool:
        for t in range(self._filled, self.agent.length):
            observation = self.envs.observation
            seen = tf.constant(observation, self.dtype)
            actions = cast("np.ndarray", self._act(seen, counts(self.step, self.episode)).numpy())
            result = self._step(actions)
            self._count(result)
            parts = (observation, actions, result.reward, ~result.bootstraps, result.truncated)
            for row, part in zip(self._rows, (*parts, result.next_observation, result.valid), strict=True):
                row[t] = part
            self._filled = t + 1
        self._filled = 0
        if self.profiler:
            self.profiler.round(self.rounds)
        now = (counts(self.step, self.episode), tf.constant(np.array(self.rounds)))
        self._measure(self._learn(*map(tf.constant, self._rows), *now).numpy())
        return True

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        counters, state = super()._state()
        return counters, state | {f"rollout.{i}": row[: self._filled].copy() for i, row in enumerate(self._rows)}

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        for i, row in enumerate(self._rows):
            begun = state.get(f"rollout.{i}", row[:0])
            self._filled = len(begun)
            row[: self._filled] = begun
        super()._restore(counters, state, report)

    def _start_episodes(self) -> None:
        super()._start_episodes()
        self._filled = 0
