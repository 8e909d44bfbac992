"""Off-policy learning from a replay: the host loop, also for agents with a memory, and the compiled loop's program.

Letters: N parallel envs, R rows of the replay, D numbers of a transition, K updates a round, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import gymnasium
import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlkit.errors import EnvError
from rlkit.interaction.evaluation import Evaluation
from rlkit.interaction.functional import FunctionalEnv, Outcome
from rlkit.interaction.vector import Environments, Step
from rlkit.learning.agent import Agent, Clock, State, Transition, update_round
from rlkit.learning.config import ReplayConfig
from rlkit.loops.acting import (
    BehaviourPolicy,
    EpsilonGreedyAgent,
    HostActor,
    RecurrentActor,
    RecurrentAgent,
    numpy_forward,
)
from rlkit.loops.compiled import Carry, Program
from rlkit.loops.stepping import SteppingLoop
from rlkit.random_bits import draws
from rlkit.replay.packed import Layout
from rlkit.replay.uniform import Replay
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.seeding import Purpose
from rlkit.spaces import Arrays, observation_dtype
from rlkit.traced import COUNT, COUNTS, call_flat, counts


class HostProgram:
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

    def _program(self) -> HostProgram:
        return HostProgram(self.agent, self.envs.observation_space, self.replay)

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


class ReplayProgram(Program):
    """An agent that learns from a replay: after each step of all envs, the rounds of updates that fall due.

    Args:
        agent: pure functions of a state; its own state is not used.
        replay: how much is held and how; its contents are not used.
        env: the functions.
        limit: steps after which an episode is truncated; none if None.
    """

    agent: Agent

    def __init__(self, agent: Agent, replay: Replay, env: FunctionalEnv, limit: int | None) -> None:
        super().__init__(agent, env, limit)
        self.rows, self.layout = replay.rows, Layout(replay)
        self.updates = self.config.gradient_steps

    def memory(self) -> tf.Tensor:
        return tf.zeros([self.rows, self.num_envs, self.layout.columns])

    def cycle(self, carry: Carry, seed: tf.Tensor, env_key: tf.Tensor) -> Carry:
        observation = carry.envs.observation
        carry, action, outcome = self.act(carry, seed, env_key)
        c, n = self.config, self.num_envs
        step = carry.counts[0]
        if c.clip_reward:
            outcome = outcome._replace(reward=tf.clip_by_value(outcome.reward, -1.0, 1.0))
        rows = self.layout.pack(observation, action, outcome)[None]  # [1, N, D]
        at = tf.cast((step // n - 1) % self.rows, tf.int32)
        carry = carry._replace(memory=xla.dynamic_update_slice(carry.memory, rows, tf.stack([at, 0, 0])))
        rounds = step // c.train_interval - (step - n) // c.train_interval
        ready = (step >= c.learning_starts) & (self._usable(step, carry.lost)[0] > 0)
        rounds = tf.where(ready, rounds, 0)

        def body(i: tf.Tensor, agent: State, measured: tf.Tensor, memory: tf.Tensor) -> tuple[Any, ...]:
            bits = draws(seed, Purpose.REPLAY, carry.counts[1] + i, [c.gradient_steps, c.batch_size])
            batches = self._sample(memory, step, carry.lost, bits)  # [K, B, ...]
            agent, metrics, _ = update_round(
                self.agent,
                agent,
                lambda k: tf.nest.map_structure(lambda part: part[k], batches),
                c.gradient_steps,
                carry.clock,
            )
            return i + 1, agent, self.measure(measured, metrics), memory

        # The memory goes through the loop: one that it only saw would be copied in each cycle.
        start = (tf.constant(0, tf.int64), carry.agent, carry.measured, carry.memory)
        _, agent, measured, memory = tf.while_loop(lambda i, *_: i < rounds, body, start)
        zero = tf.zeros([], tf.int64)
        return carry._replace(
            agent=agent, memory=memory, measured=measured, counts=carry.counts + tf.stack([zero, rounds, zero])
        )

    def _usable(self, step: tf.Tensor, lost: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """How many rows of each env a draw can begin with; those between them that were lost: the first, how many."""
        written = step // self.num_envs  # by each env, all of which have written as many
        oldest, end = tf.maximum(written - self.rows, 0), tf.maximum(written - (self.config.n_step - 1), 0)
        first, last = (tf.minimum(tf.maximum(row, oldest), end) for row in (lost[0], lost[1]))
        return end - oldest - (last - first), first, last - first

    def _sample(self, memory: tf.Tensor, step: tf.Tensor, lost: tf.Tensor, bits: tf.Tensor) -> Transition:
        """The transitions that `Replay.sample` draws by the same bits, [K, B, ...]."""
        rows, n, horizon, gamma = self.rows, self.num_envs, self.config.n_step, self.config.gamma
        flat, written = tf.reshape(memory, [-1, self.layout.columns]), step // n
        usable, gap, width = self._usable(step, lost)
        product = tf.cast(bits, tf.uint64) * tf.cast(usable * n, tf.uint64)
        position = tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int64)
        column, row = position // usable, tf.maximum(written - rows, 0) + position % usable
        row += tf.where(row >= gap, width, 0)

        def read(k: int) -> tf.Tensor:
            """The rows k steps later, [K, B, D]."""
            return tf.gather(flat, tf.cast((row + k) % rows * n + column, tf.int32))

        last = read(0)
        first = end = self.layout.unpack(last)
        reward, discount = first["reward"], tf.fill(bits.shape, tf.constant(gamma, tf.float32))
        for k in range(1, horizon):  # not a loop of TensorFlow's, into which the memory would be copied
            going, following = ~(end["terminated"] | end["truncated"]), read(k)
            reward += tf.where(going, gamma**k * self.layout.unpack(following)["reward"], 0.0)
            discount = tf.where(going, gamma ** (k + 1), discount)
            last = tf.where(going[..., None], following, last)
            end = self.layout.unpack(last)
        discount = tf.where(end["terminated"], 0.0, discount)
        return Transition(first["observation"], first["action"], reward, discount, end["next_observation"])

    def store(self, carry: Carry, replay: Replay | None) -> None:
        assert replay is not None
        written = int(carry.counts.numpy()[0]) // self.num_envs
        new = np.arange(max(int(replay.written[0]), written - self.rows), written) % self.rows
        for name, values in self.layout.unpack(tf.gather(carry.memory, new)).items():
            replay.fields[name][new] = values.numpy()
        replay.written[:] = written

    def load(self, carry: Carry, replay: Replay | None) -> None:
        assert replay is not None
        fields = {name: tf.constant(values) for name, values in replay.fields.items()}
        outcome = Outcome(*(fields[name] for name in ("next_observation", "reward", "terminated", "truncated")))
        carry.memory.assign(self.layout.pack(fields["observation"], fields["action"], outcome))
        carry.lost.assign(np.array(replay.gap()))


_PREFIX = "memory."


class RecurrentProgram(HostProgram):
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
