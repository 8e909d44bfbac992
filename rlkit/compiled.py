"""The compiled loop: envs, replay and learner in one XLA program, for envs that are functions of tensors.

The program is called for some hundred steps at a time, so that metrics, evaluations, checkpoints and Ctrl-C come in
between; where it is cut makes no difference to a bit of the result. It trains several seeds at once.

Letters: S seeds, N parallel envs a seed, R rows of the replay, D numbers of a transition, K updates a round, B batch,
M metrics, E episodes of an evaluation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla  # the one way to write a slice in place inside a program

from rlkit import functional
from rlkit.agent import Agent, Clock, Rollout, State, Transition, update_round
from rlkit.checkpoint import Checkpointer
from rlkit.errors import UserError
from rlkit.evaluation import LONGEST, Evaluation
from rlkit.exploration import draws
from rlkit.functional import FunctionalEnv, Outcome, Running
from rlkit.loop import Loop
from rlkit.metrics import Observer
from rlkit.replay import Replay
from rlkit.seeding import Purpose, env_seed
from rlkit.vector import Arrays


class EachSeed:
    """An agent's pure functions for S seeds at once: each argument and result has a leading axis S.

    Args:
        agent: any of the S agents, which differ in their states alone.
        seeds: S.
    """

    def __init__(self, agent: Any, seeds: int) -> None:  # noqa: ANN401 - an Agent or a RolloutAgent
        self.agent, self.seeds, self.metrics, self.config = agent, seeds, agent.metrics, agent.config

    def _map(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - nests of tensors
        if self.seeds > 1:
            return tf.vectorized_map(lambda one: function(*one), arguments, fallback_to_while_loop=False)
        one = tf.nest.map_structure(lambda part: part[0], arguments)
        return tf.nest.map_structure(lambda part: part[None], function(*one))

    def choose(self, state: State, observations: tf.Tensor, clock: Clock, bits: tf.Tensor | None) -> tf.Tensor:
        """Actions [S, N] for observations [S, N, ...] and bits [S, 2, N]; the clock counts episodes [S]."""
        if bits is None:
            return self._map(
                lambda s, o, e: self.agent.choose(s, o, Clock(clock.step, e), None), state, observations, clock.episode
            )
        return self._map(
            lambda s, o, e, b: self.agent.choose(s, o, Clock(clock.step, e), b),
            state, observations, clock.episode, bits,
        )  # fmt: skip

    def update(self, state: State, batch: Transition, clock: Clock) -> tuple[State, tf.Tensor, tf.Tensor]:
        """An update of each seed on [S, B] transitions."""
        return cast(
            "tuple[State, tf.Tensor, tf.Tensor]",
            self._map(lambda s, e, *b: self.agent.update(s, Transition(*b), Clock(clock.step, e)), state,
                      clock.episode, *batch),
        )  # fmt: skip

    def learn(self, state: State, rollout: Rollout, clock: Clock, bits: tf.Tensor) -> tuple[State, tf.Tensor]:
        """A round of updates of each seed on rollouts [S, T, N, ...]."""
        return cast(
            "tuple[State, tf.Tensor]",
            self._map(
                lambda s, r, e, b: self.agent.learn(s, Rollout(*r), Clock(clock.step, e), b),
                state, tuple(rollout), clock.episode, bits,
            ),
        )  # fmt: skip

    def end_round(self, state: State, clock: Clock) -> State:
        """What follows a round of updates, of all seeds."""
        return self.agent.end_round(state, clock)


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
    """All that a program takes from step to step."""

    agent: State
    """[S, ...]"""
    envs: Running
    """[S N, ...]"""
    memory: tf.Tensor
    """What was seen and is kept: the replay, [R, S, N, D] float32."""
    counts: tf.Tensor
    """Env steps of a seed and rounds of updates, [2] int64."""
    episode: tf.Tensor
    """Episodes that have ended, [S] int64."""
    returns: tf.Tensor
    """Of the episodes under way, [S N] float32."""
    ended: tf.Tensor
    """Returns, lengths and number of the episodes that ended since the last row of metrics, [S, 3] float64."""
    measured: tf.Tensor
    """Metrics of the rounds since then, and their number, [S, M + 1] float64."""


class Program:
    """S agents and their envs, and the compiled program that runs them: `cycle` is what it repeats.

    Args:
        agents: S agents of the same config but for the seed.
        env: the functions.
        limit: steps after which an episode is truncated; none if None.
    """

    SECONDS = 0.5
    """Of a call, about, so that training can be interrupted."""

    def __init__(self, agents: Sequence[Any], env: FunctionalEnv, limit: int | None) -> None:
        self.agents, self.env, self.limit = agents, env, limit
        self.config = agents[0].config
        self.seeds = [agent.config.seed for agent in agents]
        self.each = EachSeed(agents[0], len(agents))
        self.num_envs, self.traces, self.step = self.config.num_envs, 0, 0
        self.stride = self.num_envs
        """Env steps of a seed in a cycle."""
        self.updates = 1
        """Updates in a round."""
        self.episodes, self.measured = np.zeros(len(agents), np.int64), np.zeros((len(agents), 1))
        """The carry's, as they are now."""
        self._chunk = 1
        self._taken: tuple[int, np.ndarray, np.ndarray] = (-1, np.zeros(0), np.zeros(0))
        self._evaluated: tuple[int, list[Evaluation]] = (-1, [])

    @cached_property
    def variables(self) -> Carry:
        """What the program keeps from call to call."""
        first = self._first()
        return cast("Carry", tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), first))

    def cycle(self, carry: Carry) -> Carry:
        """Act and learn for `stride` env steps."""
        raise NotImplementedError

    def memory(self) -> tf.Tensor:
        """The carry's memory at first."""
        return tf.zeros([0])

    def store(self, index: int) -> None:
        """Copy what a seed's checkpoint saves beside the agent to where it is taken from."""

    def _first(self) -> Carry:
        """How training begins."""
        seeds, envs = len(self.agents), len(self.agents) * self.num_envs
        state = tf.nest.map_structure(lambda *parts: tf.stack(parts), *[agent.state() for agent in self.agents])
        return Carry(
            state,
            functional.begin(self.env, self._env_bits(tf.constant(0, tf.int64))),
            self.memory(),
            tf.zeros([2], tf.int64),
            tf.zeros([seeds], tf.int64),
            tf.zeros([envs]),
            tf.zeros([seeds, 3], tf.float64),
            tf.zeros([seeds, len(self.each.metrics) + 1], tf.float64),
        )

    def draws(self, purpose: Purpose, count: tf.Tensor, shape: list[int]) -> tf.Tensor:
        """Random bits of each seed by itself, [S, ...]."""
        return tf.stack([draws(seed, purpose, count, shape) for seed in self.seeds])

    def _env_bits(self, count: tf.Tensor) -> tf.Tensor:
        """Of all envs, [S N, I + J]."""
        keys = [env_seed(seed, 0, 0) for seed in self.seeds]
        bits = [functional.env_draws(self.env, key, count, self.num_envs) for key in keys]
        return tf.concat(bits, axis=0)

    @cached_property
    def learn_function(self) -> Any:  # noqa: ANN401 - a tf.function has no type
        """The program: some cycles."""
        variables = self.variables  # made before the program is traced

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)], jit_compile=True, autograph=False)
        def run(cycles: tf.Tensor) -> None:
            self.traces += 1
            carry = tf.nest.map_structure(tf.convert_to_tensor, variables)
            _, carry = tf.while_loop(
                lambda i, _: i < cycles,
                lambda i, carry: (i + 1, self.cycle(carry)),
                (tf.constant(0, tf.int64), carry),
            )
            tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, carry)

        return run.get_concrete_function()

    def cycles(self, due: int) -> int:
        """How often to repeat the program: up to an env step, but not for much longer than `SECONDS`."""
        return int(min(-(-(due - self.step) // self.stride), self._chunk))

    def advance(self, cycles: int) -> None:
        """Go on for some cycles."""
        begun = time.monotonic()
        self.learn_function(tf.constant(np.array(cycles)))
        self.step += cycles * self.stride
        self.episodes, self.measured = self.variables.episode.numpy(), self.variables.measured.numpy()
        seconds = time.monotonic() - begun
        self._chunk = max(1, min(8 * self._chunk, int(cycles * self.SECONDS / seconds)))

    def act(self, carry: Carry) -> tuple[Carry, tf.Tensor, Outcome]:
        """One step of every env; the actions, [S N], and what they led to."""
        seeds, n = len(self.agents), self.num_envs
        step = carry.counts[0]
        observation = carry.envs.observation
        seen = tf.reshape(observation, [seeds, n, *observation.shape[1:]])
        bits = self.draws(Purpose.EXPLORATION, step, [2, n])
        actions = self.each.choose(carry.agent, seen, Clock(step, carry.episode), bits)  # [S, N]
        action = tf.reshape(actions, [seeds * n, *actions.shape[2:]])
        envs, outcome = functional.step(self.env, self.limit, carry.envs, action, self._env_bits(step // n + 1))
        returns = carry.returns + outcome.reward
        ended = outcome.terminated | outcome.truncated  # [S N]
        finished = tf.stack([returns, tf.cast(carry.envs.time + 1, tf.float32), tf.ones_like(returns)], axis=1)
        finished = tf.reshape(tf.where(ended[:, None], finished, 0.0), [seeds, n, 3])
        sums = tf.reduce_sum(finished, axis=1)  # [S, 3]
        carry = carry._replace(
            envs=envs,
            counts=carry.counts + tf.constant([n, 0], tf.int64),
            episode=carry.episode + tf.cast(sums[:, 2], tf.int64),
            returns=tf.where(ended, 0.0, returns),
            ended=carry.ended + tf.cast(sums, tf.float64),
        )
        return carry, action, outcome

    def measure(self, measured: tf.Tensor, metrics: tf.Tensor) -> tf.Tensor:
        """Add a round's metrics, [S, M]."""
        one = tf.ones([len(self.agents), 1])
        return measured + tf.cast(tf.concat([metrics, one], axis=1), tf.float64)

    @cached_property
    def _episodes(self) -> Any:  # noqa: ANN401 - a tf.function has no type
        """Greedy episodes of each seed: returns and lengths, [S, E]."""
        episodes, limit = self.config.eval_episodes, self.limit or LONGEST
        lead = [len(self.agents), episodes]
        env, shape = self.env, [episodes, self.env.initial_draws + self.env.transition_draws]
        purpose = Purpose.EVALUATION_ENV

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)], jit_compile=True, autograph=False)
        def play(occasion: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            agent = tf.nest.map_structure(tf.convert_to_tensor, self.variables.agent)
            none = Clock(tf.zeros([], tf.int64), tf.zeros(lead[:1], tf.int64))

            def bits(time: tf.Tensor) -> tf.Tensor:
                return tf.reshape(
                    self.draws(purpose, occasion * 2**20 + tf.cast(time, tf.int64), shape), [-1, shape[1]]
                )

            def body(
                time: tf.Tensor,
                state: functional.State,
                playing: tf.Tensor,
                returns: tf.Tensor,
                lengths: tf.Tensor,
            ) -> tuple[Any, ...]:
                observation = env.observation(state)
                seen = tf.reshape(observation, [*lead, *observation.shape[1:]])
                actions = self.each.choose(agent, seen, none, None)
                action = tf.reshape(actions, [-1, *actions.shape[2:]])
                following = env.transition(state, action, bits(time + 1)[:, env.initial_draws :])
                returns += tf.where(playing, env.reward(state, action, following), 0.0)
                lengths += tf.cast(playing, tf.int32)
                return time + 1, following, playing & ~env.terminal(following), returns, lengths

            state = env.initial(bits(tf.constant(0))[:, : env.initial_draws])
            count = lead[0] * lead[1]
            start = (tf.constant(0), state, tf.fill([count], True), tf.zeros([count]), tf.zeros([count], tf.int32))
            *_, returns, lengths = tf.while_loop(
                lambda time, _state, playing, *_: (time < limit) & tf.reduce_any(playing), body, start
            )
            return tf.reshape(returns, lead), tf.reshape(lengths, lead)

        return play.get_concrete_function()

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """The carry's `ended` and `measured` of all seeds, which begin anew; the same ones until it goes on."""
        if self._taken[0] != self.step:
            self._taken = self.step, self.variables.ended.numpy(), self.variables.measured.numpy()
            for variable in (self.variables.ended, self.variables.measured):
                variable.assign(tf.zeros_like(variable))
        return self._taken[1:]

    def evaluate(self, index: int) -> Evaluation:
        """Greedy episodes of one seed as it is now; those of all seeds are played at once."""
        if self._evaluated[0] != self.step:
            returns, lengths = (part.numpy() for part in self._episodes(tf.constant(np.array(self.step))))
            self._evaluated = (
                self.step,
                [
                    Evaluation(tuple(map(float, r)), tuple(map(int, n)), seed, self.step)
                    for r, n, seed in zip(returns, lengths, self.seeds, strict=True)
                ],
            )
        return self._evaluated[1][index]

    def publish(self, index: int) -> None:
        """Copy a seed's state to its agent's variables."""
        self.agents[index].assign(self._read(tf.constant(np.array(index))))

    @cached_property
    def _read(self) -> Any:  # noqa: ANN401 - a tf.function has no type
        """A seed's state, in one call."""
        agent = self.variables.agent

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)], autograph=False)
        def read(index: tf.Tensor) -> State:
            return tf.nest.map_structure(lambda v: v[index], agent)

        return read

    def export(self, index: int) -> Arrays:
        """What `load` needs beside the agent and the replay."""
        seeds = len(self.agents)
        per_env = tf.nest.flatten((self.variables.envs, self.variables.returns))
        parts = [np.split(v.numpy(), seeds)[index] for v in per_env]
        per_seed = (self.variables.episode, self.variables.ended, self.variables.measured)
        parts += [v.numpy()[index : index + 1] for v in per_seed]
        return {"counts": self.variables.counts.numpy(), **{f"part_{i}": part for i, part in enumerate(parts)}}

    def part(self, indices: Sequence[int]) -> Program:
        """A program that goes on with some of the seeds."""
        program, ours, keep = self._of(indices), self.variables, list(indices)
        seeds, n = len(self.agents), self.num_envs

        def envs(value: tf.Variable) -> tf.Tensor:
            split = tf.reshape(value, [seeds, n, *value.shape[1:]])
            return tf.reshape(tf.gather(split, keep), [len(keep) * n, *value.shape[1:]])

        def each(value: tf.Variable) -> tf.Tensor:
            return tf.gather(value, keep)

        values = Carry(
            tf.nest.map_structure(each, ours.agent),
            tf.nest.map_structure(envs, ours.envs),
            tf.gather(ours.memory, keep, axis=1) if ours.memory.shape.rank > 1 else ours.memory,
            ours.counts,
            each(ours.episode),
            envs(ours.returns),
            each(ours.ended),
            each(ours.measured),
        )
        tf.nest.map_structure(lambda variable, value: variable.assign(value), program.variables, values)
        program.step, program._chunk = self.step, self._chunk
        program.episodes, program.measured = self.episodes[keep], self.measured[keep]
        return program

    def _of(self, indices: Sequence[int]) -> Program:
        """A program of some of the agents, at its beginning."""
        return type(self)([self.agents[i] for i in indices], self.env, self.limit)

    def load(self, state: Arrays) -> None:
        """Go on from an exported state, with the agent as it is restored; for one seed."""
        (agent,) = self.agents
        v = self.variables
        tf.nest.map_structure(lambda variable, value: variable.assign(value[None]), v.agent, agent.state())
        for i, variable in enumerate(tf.nest.flatten((v.envs, v.returns, v.episode, v.ended, v.measured))):
            variable.assign(state[f"part_{i}"])
        v.counts.assign(state["counts"])
        self.step = int(state["counts"][0])


class ReplayProgram(Program):
    """Agents that learn from a replay: after each step of all envs, the rounds of updates that fall due.

    Args:
        agents: S agents of the same config but for the seed.
        replays: theirs; they hold what a checkpoint saves.
        env: the functions.
        limit: steps after which an episode is truncated; none if None.
    """

    agents: Sequence[Agent]

    def __init__(
        self, agents: Sequence[Agent], replays: Sequence[Replay], env: FunctionalEnv, limit: int | None
    ) -> None:
        super().__init__(agents, env, limit)
        self.replays, self.layout = replays, Layout(replays[0])
        self.updates = self.config.gradient_steps

    def _of(self, indices: Sequence[int]) -> Program:
        replays = [self.replays[i] for i in indices]
        return ReplayProgram([self.agents[i] for i in indices], replays, self.env, self.limit)

    def memory(self) -> tf.Tensor:
        return tf.zeros([self.replays[0].rows, len(self.agents), self.num_envs, self.layout.columns])

    def cycle(self, carry: Carry) -> Carry:
        observation = carry.envs.observation
        carry, action, outcome = self.act(carry)
        c, n = self.config, self.num_envs
        step = carry.counts[0]
        rows = self.layout.pack(observation, action, outcome)
        rows = tf.reshape(rows, [1, len(self.agents), n, self.layout.columns])
        at = tf.cast((step // n - 1) % self.replays[0].rows, tf.int32)
        carry = carry._replace(memory=xla.dynamic_update_slice(carry.memory, rows, tf.stack([at, 0, 0, 0])))
        rounds = step // c.train_interval - (step - n) // c.train_interval
        ready = (step >= c.learning_starts) & (step // n >= c.n_step)
        rounds = tf.where(ready, rounds, 0)

        def body(i: tf.Tensor, agent: State, measured: tf.Tensor) -> tuple[tf.Tensor, State, tf.Tensor]:
            agent, values = self._round(carry, agent, carry.counts[1] + i)
            return i + 1, agent, self.measure(measured, values)

        start = (tf.constant(0, tf.int64), carry.agent, carry.measured)
        _, agent, measured = tf.while_loop(lambda i, *_: i < rounds, body, start)
        counts = carry.counts + tf.stack([tf.zeros([], tf.int64), rounds])
        return carry._replace(agent=agent, measured=measured, counts=counts)

    def _round(self, carry: Carry, agent: State, number: tf.Tensor) -> tuple[State, tf.Tensor]:
        """K updates of each seed; their mean metrics, [S, M]."""
        c = self.config
        bits = self.draws(Purpose.REPLAY, number, [c.gradient_steps, c.batch_size])  # [S, K, B]
        batches = self._sample(carry, bits)

        def batch(k: tf.Tensor) -> Transition:
            return Transition(*(part[:, k] for part in batches))

        clock = Clock(carry.counts[0], carry.episode)
        agent, metrics, _ = update_round(cast("Agent", self.each), agent, batch, c.gradient_steps, clock)
        return agent, metrics

    def _sample(self, carry: Carry, bits: tf.Tensor) -> Transition:
        """The transitions that `Replay.sample` draws by the same bits, [S, K, B, ...]."""
        rows, n, horizon = self.replays[0].rows, self.num_envs, self.config.n_step
        flat = tf.reshape(carry.memory, [-1, self.layout.columns])
        written = carry.counts[0] // n
        usable = tf.minimum(written, rows) - (horizon - 1)  # of each env, all of which have written as many rows
        product = tf.cast(bits, tf.uint64) * tf.cast(usable * n, tf.uint64)
        position = tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int64)
        column, row = position // usable, tf.maximum(written - rows, 0) + position % usable
        seed = tf.range(len(self.agents), dtype=tf.int64)[:, None, None]

        def read(k: tf.Tensor | int) -> tf.Tensor:
            """The rows k steps later, [S, K, B, D]."""
            return tf.gather(flat, tf.cast(((row + k) % rows * len(self.agents) + seed) * n + column, tf.int32))

        first = read(0)
        found = self.layout.unpack(first)
        gamma = self.config.gamma
        reward, discount = found["reward"], tf.fill(bits.shape, tf.constant(gamma, tf.float32))
        last = first
        if horizon > 1:

            def body(
                k: tf.Tensor, last: tf.Tensor, reward: tf.Tensor, discount: tf.Tensor
            ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
                fields, following = self.layout.unpack(last), read(k)
                going = ~(fields["terminated"] | fields["truncated"])
                power = tf.pow(tf.constant(gamma, tf.float32), tf.cast(k, tf.float32))
                reward += tf.where(going, power * self.layout.unpack(following)["reward"], 0.0)
                return (
                    k + 1,
                    tf.where(going[..., None], following, last),
                    reward,
                    tf.where(going, power * gamma, discount),
                )

            start = (tf.constant(1, tf.int64), first, reward, discount)
            _, last, reward, discount = tf.while_loop(lambda k, *_: k < horizon, body, start)
        end = self.layout.unpack(last)
        discount = tf.where(end["terminated"], 0.0, discount)
        return Transition(found["observation"], found["action"], reward, discount, end["next_observation"])

    def store(self, index: int) -> None:
        """Copy a seed's new transitions to its replay."""
        replay, written = self.replays[index], self.step // self.num_envs
        new = np.arange(max(int(replay.written[0]), written - replay.rows), written) % replay.rows
        packed = tf.gather(self.variables.memory[:, index], new)  # [rows, N, D]
        for name, values in self.layout.unpack(packed).items():
            replay.fields[name][new] = values.numpy()
        replay.written[:] = written

    def load(self, state: Arrays) -> None:
        super().load(state)
        (replay,) = self.replays
        fields = {name: tf.constant(values) for name, values in replay.fields.items()}
        outcome = Outcome(*(fields[name] for name in ("next_observation", "reward", "terminated", "truncated")))
        packed = self.layout.pack(fields["observation"], fields["action"], outcome)  # [R, N, D]
        self.variables.memory.assign(packed[:, None])


class CompiledLoop(Loop):
    """One seed of a program: its metrics, evaluations and checkpoints.

    Args:
        program: of this seed, and others.
        index: which of the program's agents this is.
        checkpointer: where to save.
        observers: see metrics and evaluations.
    """

    agent: Agent
    program: Program
    index: int

    def __init__(
        self, program: Program, index: int, checkpointer: Checkpointer, observers: Sequence[Observer] = ()
    ) -> None:
        evaluate = (lambda _step: self.program.evaluate(self.index)) if program.config.eval_interval else None
        super().__init__(program.agents[index], checkpointer, evaluate, observers)
        self.program, self.index = program, index

    def _cycle(self) -> bool:
        """Run to the next step at which something is due, or for a while."""
        if self.profiler:
            self.profiler.round(self.step)
        self.program.advance(self.program.cycles(self.due()))
        self.follow()
        return True

    def follow(self) -> None:
        """Take the counts over from the program.

        Raises:
            UserError: the loss is not finite.
        """
        self.step = self.program.step
        self.episode = int(self.program.episodes[self.index])
        if not math.isfinite(self.loss):
            raise self._diverged(self.loss)

    @property
    def loss(self) -> float:
        """Sum of the rounds' losses since the last row of metrics."""
        return float(self.program.measured[self.index, 0])

    def _row(self) -> dict[str, float | None]:
        variables, s = self.program.variables, self.index
        clock = Clock(tf.constant(np.array(self.step)), tf.constant(np.array(self.episode)))
        row: dict[str, float | None] = {
            "updates": int(variables.counts[1]) * self.program.updates,
            **{name: float(value) for name, value in self.agent.scalars(clock).items()},
        }
        ended, measured = self.program.take()
        returns, lengths, number = ended[s]
        if number:
            row |= {"episode_return": float(returns / number), "episode_length": float(lengths / number)}
        *sums, rounds = measured[s]
        if rounds:
            row |= {name: float(total / rounds) for name, total in zip(self.agent.metrics, sums, strict=True)}
        return row

    def _publish(self) -> None:
        self.program.publish(self.index)

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        self.program.store(self.index)
        return {}, self.program.export(self.index)

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        del counters, report
        self.program.load(state)


def run_together(loops: Sequence[CompiledLoop], statuses: list[str]) -> None:
    """Train all seeds of a program, each until its last step or its target return.

    Args:
        loops: one for each seed.
        statuses: where each loop's is put as it ends: "finished", "solved" or "interrupted".

    Raises:
        UserError: a loss is not finite, or a file cannot be written; the other seeds are saved.
    """
    program, going = loops[0].program, dict(enumerate(loops))
    with ExitStack() as stack:
        for loop in loops:
            stack.callback(loop.checkpointer.write_best)
        stack.enter_context(loops[0].interruptible())
        try:
            for loop in loops:
                loop.begin_run()
            while going and program.step < program.config.steps:
                before = program.step
                program.advance(program.cycles(next(iter(going.values())).due()))
                for index, loop in list(going.items()):
                    loop.interrupted = loops[0].interrupted
                    loop.follow()
                    status = loop.attend(before)
                    if status is not None:
                        statuses[index] = loop.finish(status)
                        del going[index]
                if 0 < 2 * len(going) <= len(program.agents):  # the others would only cost time
                    program = program.part([loop.index for loop in going.values()])
                    for index, loop in enumerate(going.values()):
                        loop.program, loop.index = program, index
            for index, loop in going.items():
                statuses[index] = loop.finish("finished")
        except UserError:
            for index, loop in going.items():
                if math.isfinite(loop.loss):
                    statuses[index] = loop.finish("interrupted")
            raise
