"""The compiled loop: envs, replay and learner in one XLA program, for envs that are functions of tensors.

The program is called for some hundred steps at a time, so that metrics, evaluations, checkpoints and Ctrl-C come in
between; where it is cut makes no difference to a bit of the result. Several seeds share it, as many at a time as there
are cores.

Letters: N parallel envs, R rows of the replay, D numbers of a transition, K updates a round, B batch, M metrics,
E episodes of an evaluation.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla  # the one way to write a slice in place inside a program

from rlkit import functional
from rlkit.agent import Agent, Clock, RolloutAgent, State, Transition, update_round
from rlkit.checkpoint import Checkpointer
from rlkit.errors import EnvError, UserError
from rlkit.evaluation import LONGEST, Evaluation
from rlkit.exploration import draws
from rlkit.functional import FunctionalEnv, Outcome, Running
from rlkit.loop import AgentLoop
from rlkit.metrics import Observer
from rlkit.replay import Replay
from rlkit.seeding import Purpose, env_seed
from rlkit.vector import Arrays

SCALAR = tf.TensorSpec([], tf.int64)


class Layout:
    """Transitions as rows of float32: one write and one gather an update in place of six.

    Args:
        replay: whose fields are packed.
    """

    def __init__(self, replay: Replay) -> None:
        field = replay.fields["observation"]
        self.shape, self.dtype = field.shape[2:], field.dtype
        self.width = math.prod(self.shape)
        self.columns = 2 * self.width + 4

    def pack(self, observation: tf.Tensor, action: tf.Tensor, outcome: Outcome) -> tf.Tensor:
        """[..., D] of fields [..., *]."""
        lead = action.shape
        parts = [
            tf.reshape(observation, [*lead, self.width]),
            tf.reshape(outcome.next_observation, [*lead, self.width]),
            *(part[..., None] for part in (action, outcome.reward, outcome.terminated, outcome.truncated)),
        ]
        return tf.concat([tf.cast(part, tf.float32) for part in parts], axis=-1)

    def unpack(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The replay's fields [..., *] of rows [..., D]."""
        lead, w = rows.shape[:-1], self.width
        return {
            "observation": tf.cast(tf.reshape(rows[..., :w], [*lead, *self.shape]), self.dtype),
            "next_observation": tf.cast(tf.reshape(rows[..., w : 2 * w], [*lead, *self.shape]), self.dtype),
            "action": tf.cast(rows[..., 2 * w], tf.int32),
            "reward": rows[..., 2 * w + 1],
            "terminated": rows[..., 2 * w + 2] > 0,
            "truncated": rows[..., 2 * w + 3] > 0,
        }


class Carry(NamedTuple):
    """All that the program takes from step to step."""

    agent: State
    envs: Running
    """[N, ...]"""
    memory: tf.Tensor
    """What was seen and is kept: the replay, [R, N, D] float32."""
    lost: tf.Tensor
    """Rows of an env that no draw begins with, as a damaged file had them: from the first to the last and one; [2]
    int64, zeros where there are none."""
    counts: tf.Tensor
    """Env steps, rounds of updates, and episodes that have ended, [3] int64."""
    returns: tf.Tensor
    """Of the episodes under way, [N] float32."""
    ended: tf.Tensor
    """Returns, lengths and number of the episodes that ended since the last row of metrics, [3] float64."""
    measured: tf.Tensor
    """Metrics of the rounds since then, and their number, [M + 1] float64."""

    @property
    def clock(self) -> Clock:
        return Clock(self.counts[0], self.counts[2])


class Program:
    """A compiled program for an agent and its envs, of any seed: `cycle` is what it repeats.

    Args:
        agent: pure functions of a state; its own state is not used.
        env: the functions.
        limit: steps after which an episode is truncated; none if None.
    """

    def __init__(self, agent: Agent | RolloutAgent, env: FunctionalEnv, limit: int | None) -> None:
        self.agent, self.env, self.limit = agent, env, limit
        self.config: Any = agent.config
        self.num_envs, self.traces = self.config.num_envs, 0
        self.stride = self.num_envs
        """Env steps of a cycle."""
        self.updates = 1
        """Updates in a round."""

    def cycle(self, carry: Carry, seed: tf.Tensor, env_key: tf.Tensor) -> Carry:
        """Act and learn for `stride` env steps, with draws by the seed, those of the envs by their key."""
        raise NotImplementedError

    def memory(self) -> tf.Tensor:
        """The carry's memory at first."""
        return tf.zeros([0])

    def begin(self, agent: Agent | RolloutAgent) -> Carry:
        """How training begins: variables, which `learn_function` changes."""
        key = env_seed(agent.config.seed, 0, 0)
        first = Carry(
            agent.state(),
            functional.begin(self.env, functional.env_draws(self.env, key, tf.constant(0, tf.int64), self.num_envs)),
            self.memory(),
            tf.zeros([2], tf.int64),
            tf.zeros([3], tf.int64),
            tf.zeros([self.num_envs]),
            tf.zeros([3], tf.float64),
            tf.zeros([len(agent.metrics) + 1], tf.float64),
        )
        return cast("Carry", tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), first))

    @cached_property
    def learn_function(self) -> Any:  # noqa: ANN401 - a tf.function has no type
        """The program: a carry's variables, seed, the envs' key and a number of cycles."""

        @tf.function(jit_compile=True, autograph=False)
        def run(variables: Carry, seed: tf.Tensor, env_key: tf.Tensor, cycles: tf.Tensor) -> None:
            self.traces += 1
            carry = tf.nest.map_structure(tf.convert_to_tensor, variables)
            _, carry = tf.while_loop(
                lambda i, _: i < cycles,
                lambda i, carry: (i + 1, self.cycle(carry, seed, env_key)),
                (tf.constant(0, tf.int64), carry),
            )
            tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, carry)

        return run.get_concrete_function(self.begin(self.agent), SCALAR, SCALAR, SCALAR)

    def act(self, carry: Carry, seed: tf.Tensor, env_key: tf.Tensor) -> tuple[Carry, tf.Tensor, Outcome]:
        """One step of every env; the actions, [N], and what they led to."""
        n, step = self.num_envs, carry.counts[0]
        bits = draws(seed, Purpose.EXPLORATION, step, [2, n])
        action = self.agent.choose(carry.agent, carry.envs.observation, carry.clock, bits)  # [N]
        bits = functional.env_draws(self.env, env_key, step // n + 1, n)
        envs, outcome = functional.step(self.env, self.limit, carry.envs, action, bits)
        returns = carry.returns + outcome.reward
        ended = outcome.terminated | outcome.truncated  # [N]
        finished = tf.stack([returns, tf.cast(carry.envs.time + 1, tf.float32), tf.ones_like(returns)], axis=1)
        sums = tf.reduce_sum(tf.where(ended[:, None], finished, 0.0), axis=0)  # [3]
        zero = tf.zeros([], tf.int64)
        carry = carry._replace(
            envs=envs,
            counts=carry.counts + tf.stack([zero + n, zero, tf.cast(sums[2], tf.int64)]),
            returns=tf.where(ended, 0.0, returns),
            ended=carry.ended + tf.cast(sums, tf.float64),
        )
        return carry, action, outcome

    def measure(self, measured: tf.Tensor, metrics: tf.Tensor) -> tf.Tensor:
        """Add a round's metrics, [M]."""
        return measured + tf.cast(tf.concat([metrics, tf.ones([1])], axis=0), tf.float64)

    @cached_property
    def play_function(self) -> Any:  # noqa: ANN401 - a tf.function has no type
        """Greedy episodes of an agent's state, by a seed and an occasion.

        It returns their returns and lengths, and which of them have not ended by `limit` or `LONGEST`; [E] each.
        """
        episodes, limit = self.config.eval_episodes, self.limit or LONGEST
        env, shape = self.env, [episodes, self.env.initial_draws + self.env.transition_draws]
        none = Clock(tf.zeros([], tf.int64), tf.zeros([], tf.int64))

        @tf.function(jit_compile=True, autograph=False)
        def play(variables: State, seed: tf.Tensor, occasion: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            self.traces += 1
            agent = tf.nest.map_structure(tf.convert_to_tensor, variables)

            def bits(time: tf.Tensor) -> tf.Tensor:
                return draws(seed, Purpose.EVALUATION_ENV, occasion * 2**20 + tf.cast(time, tf.int64), shape)

            def body(
                time: tf.Tensor,
                state: functional.State,
                playing: tf.Tensor,
                returns: tf.Tensor,
                lengths: tf.Tensor,
            ) -> tuple[Any, ...]:
                action = self.agent.choose(agent, env.observation(state), none, None)
                following = env.transition(state, action, bits(time + 1)[:, env.initial_draws :])
                returns += tf.where(playing, env.reward(state, action, following), 0.0)
                lengths += tf.cast(playing, tf.int32)
                return time + 1, following, playing & ~env.terminal(following), returns, lengths

            state = env.initial(bits(tf.constant(0))[:, : env.initial_draws])
            counts = tf.zeros([episodes], tf.int32)
            start = (tf.constant(0), state, tf.fill([episodes], True), tf.zeros([episodes]), counts)
            *_, playing, returns, lengths = tf.while_loop(
                lambda time, _state, playing, *_: (time < limit) & tf.reduce_any(playing), body, start
            )
            return returns, lengths, playing

        return play.get_concrete_function(self.begin(self.agent).agent, SCALAR, SCALAR)

    def store(self, carry: Carry, replay: Replay | None) -> None:
        """Copy what a checkpoint saves beside the agent to where it is taken from."""

    def load(self, carry: Carry, replay: Replay | None) -> None:
        """The inverse of `store`."""


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


class CompiledLoop(AgentLoop):
    """One seed in a program: what it has learned, its metrics, evaluations and checkpoints.

    Args:
        program: of this seed, and others.
        agent: what learns.
        checkpointer: where to save.
        observers: see metrics and evaluations.
    """

    SECONDS = 0.5
    """Of a call of the program, about, so that training can be interrupted."""

    agent: Agent | RolloutAgent

    def __init__(
        self,
        program: Program,
        agent: Agent | RolloutAgent,
        checkpointer: Checkpointer,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(agent, checkpointer, self._greedy if agent.config.eval_interval else None, observers)
        self.program, self.variables = program, program.begin(agent)
        self.stride = program.stride
        seed = agent.config.seed
        self._seeds = [tf.constant(np.array(number, np.int64)) for number in (seed, env_seed(seed, 0, 0))]
        self._chunk = 1

    def _cycle(self) -> bool:
        if self.profiler and (rounds := int(self.variables.counts.numpy()[1])):
            self.profiler.round(rounds)
        self.advance(self._cycles())
        return True

    def _cycles(self) -> int:
        """How often to repeat the program: up to what is due next, but not for much longer than `SECONDS`."""
        return int(min(-(-(self.due() - self.step) // self.program.stride), self._chunk))

    def advance(self, cycles: int) -> None:
        """Go on for some cycles.

        Raises:
            UserError: the loss is not finite.
        """
        begun = time.monotonic()
        self.program.learn_function(self.variables, *self._seeds, tf.constant(np.array(cycles)))
        self.step, _, self.episode = map(int, self.variables.counts.numpy())
        seconds = time.monotonic() - begun
        self._chunk = max(1, min(8 * self._chunk, int(cycles * self.SECONDS / seconds)))
        self._check_env()
        if not math.isfinite(loss := float(self.variables.measured.numpy()[0])):
            raise self._diverged(loss)

    def _check_env(self) -> None:
        """Refuse rewards and observations that are not finite, which the loss would be blamed for."""
        v = self.variables
        parts = {"reward": (v.returns, v.ended), "observation": (v.envs.observation,)}
        for name, variables in parts.items():
            if not all(np.isfinite(variable.numpy()).all() for variable in variables):
                raise EnvError(f"env {self.config.env!r}: its {name} is not finite at or before step {self.step}")

    def _greedy(self, occasion: int) -> Evaluation:
        """Greedy episodes of the agent as it is now."""
        played = self.program.play_function(self.variables.agent, self._seeds[0], tf.constant(np.array(occasion)))
        returns, lengths, playing = (part.numpy() for part in played)
        cut = 0 if self.program.limit else int(playing.sum())
        return Evaluation(
            tuple(map(float, returns)), tuple(map(int, lengths)), self.config.seed, step=self.step, cut=cut
        )

    def _row(self) -> dict[str, float | None]:
        counts, sums = self.variables.counts.numpy(), (self.variables.ended, self.variables.measured)
        clock = Clock(tf.constant(counts[0]), tf.constant(counts[2]))
        row: dict[str, float | None] = {
            "episode": self.episode,
            "updates": int(counts[1]) * self.program.updates,
            **{name: float(value) for name, value in self.agent.scalars(clock).items()},
        }
        (returns, lengths, number), (*metrics, rounds) = (variable.numpy() for variable in sums)
        for variable in sums:
            variable.assign(tf.zeros_like(variable))
        if number:
            row |= {"episode_return": float(returns / number), "episode_length": float(lengths / number)}
        if rounds:
            row |= {name: float(total / rounds) for name, total in zip(self.agent.metrics, metrics, strict=True)}
        return row

    def _publish(self) -> None:
        self.agent.assign(self.variables.agent)

    def _others(self) -> list[tf.Variable]:
        """What a checkpoint keeps beside the agent and the replay."""
        v = self.variables
        return cast("list[tf.Variable]", tf.nest.flatten((v.counts, v.envs, v.returns, v.ended, v.measured)))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        self.program.store(self.variables, self.checkpointer.replay)
        return {}, {f"part_{i}": variable.numpy() for i, variable in enumerate(self._others())}

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        del counters, report
        tf.nest.map_structure(lambda v, value: v.assign(value), self.variables.agent, self.agent.state())
        for i, variable in enumerate(self._others()):
            part = state[f"part_{i}"]
            if variable is self.variables.measured:  # the last metrics may be newer than the checkpoint
                part = np.insert(part, [len(part) - 1] * (variable.shape[0] - len(part)), 0.0)
            variable.assign(part)
        self.program.load(self.variables, self.checkpointer.replay)


def run_together(loops: Sequence[CompiledLoop], statuses: list[str]) -> dict[int, UserError]:
    """Train the seeds of a program, as many at a time as there are cores.

    Args:
        loops: one for each seed.
        statuses: where each loop's is put as it ends: "finished", "solved" or "interrupted".

    Returns:
        By the index of each loop that failed, why: a loss is not finite, or a file cannot be written. The others go
        on to their ends.
    """
    program = loops[0].program
    assert program.learn_function, "traced once, before several threads want it"
    assert program.play_function
    device = loops[0].variables.counts.device

    def run(index: int) -> None:
        with tf.device(device):  # the caller's scope does not reach this thread
            statuses[index] = loops[index].run()

    with loops[0].interruptible(), ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(run, index) for index in range(len(loops))]
        while wait(running, timeout=0.1).not_done:
            for loop in loops:
                loop.interrupted = loops[0].interrupted
    failures: dict[int, UserError] = {}
    for index, future in enumerate(running):
        try:
            future.result()
        except UserError as error:
            failures[index] = error
    return failures
