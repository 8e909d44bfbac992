"""The compiled loop: envs and learner in one XLA program, for envs that are functions of tensors.

off_policy.py and on_policy.py have the programs: what a learner draws from or learns from.

The program is called for some hundred steps at a time, so that metrics, evaluations, checkpoints and Ctrl-C come in
between; where it is cut makes no difference to a bit of the result. Several seeds share it, as many at a time as there
are cores.

Letters: N parallel envs, M metrics, E episodes of an evaluation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf

from rlkit.errors import EnvError, UserError
from rlkit.interaction import functional
from rlkit.interaction.evaluation import LONGEST, Evaluation
from rlkit.interaction.functional import FunctionalEnv, Outcome, Running
from rlkit.learning.agent import Agent, Clock, RolloutAgent, State
from rlkit.loops.stepping import AgentLoop
from rlkit.random_bits import draws
from rlkit.replay.uniform import Replay
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.seeding import Purpose, env_seed
from rlkit.spaces import Arrays

SCALAR = tf.TensorSpec([], tf.int64)


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
            UserError: a metric is not finite.
        """
        begun = time.monotonic()
        self.program.learn_function(self.variables, *self._seeds, tf.constant(np.array(cycles)))
        self.step, _, self.episode = map(int, self.variables.counts.numpy())
        seconds = time.monotonic() - begun
        self._chunk = max(1, min(8 * self._chunk, int(cycles * self.SECONDS / seconds)))
        self._check_env()
        self._check_finite(self.agent.metrics, self.variables.measured.numpy()[:-1])

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

    @property
    def _replay(self) -> Replay | None:
        """The replay, filled only where a checkpoint is written."""
        return cast("Replay | None", self.checkpointer.replay)

    def _others(self) -> list[tf.Variable]:
        """What a checkpoint keeps beside the agent and the replay."""
        v = self.variables
        return cast("list[tf.Variable]", tf.nest.flatten((v.counts, v.envs, v.returns, v.ended, v.measured)))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        self.program.store(self.variables, self._replay)
        return {}, {f"part_{i}": variable.numpy() for i, variable in enumerate(self._others())}

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        del counters, report
        tf.nest.map_structure(lambda v, value: v.assign(value), self.variables.agent, self.agent.state())
        for i, variable in enumerate(self._others()):
            part = state[f"part_{i}"]
            if variable is self.variables.measured:  # the last metrics may be newer than the checkpoint
                part = np.insert(part, [len(part) - 1] * (variable.shape[0] - len(part)), 0.0)
            variable.assign(part)
        self.program.load(self.variables, self._replay)


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
