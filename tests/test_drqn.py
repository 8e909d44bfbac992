"""Recurrent Q-learning: sequences against lists, the unrolled network and its loss against NumPy, memory at work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlkit
from rlkit.agents import agent_class
from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.agents.dqn.recurrent import DRQN
from rlkit.api import session, training
from rlkit.errors import UserError
from rlkit.interaction.evaluation import RecurrentPolicy, begin, evaluate
from rlkit.interaction.vector import Environments, OneEnv, Step
from rlkit.learning.agent import Clock, History, Transition
from rlkit.loops.acting import RecurrentActor, RecurrentAgent
from rlkit.loops.off_policy import RecurrentLoop
from rlkit.pictures.rollouts import record
from rlkit.replay.sequences import SequenceReplay
from rlkit.replay.uniform import Replay
from rlkit.runs.checkpoint import Checkpointer

BOX = spaces.Box(-1, 1, (3,), np.float32)
ZERO = Clock(tf.constant(0, tf.int64), tf.constant(0, tf.int64))


class Recall(gymnasium.Env[np.ndarray, Any]):
    """Shows which of two numbers is meant, then nothing for some steps, then pays 1 for naming it.

    Without a memory no policy pays more than 1/2 on average.
    """

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, wait: int = 1, truncates: bool = False) -> None:
        self.wait, self.truncates = wait, truncates

    def look(self) -> np.ndarray:
        shown = (2 * self.meant - 1) if self.time == 0 else 0
        return np.array([shown, self.time == self.wait], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.meant, self.time = int(self.np_random.integers(2)), 0
        return self.look(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        asked = self.time == self.wait
        self.time += 1
        ended = asked or self.time > self.wait
        reward = float(asked and action == self.meant)
        return self.look(), reward, ended and not self.truncates, ended and self.truncates, {}


if "test/Recall-v0" not in gymnasium.registry:
    gymnasium.register("test/Recall-v0", entry_point=cast("Any", Recall))

QUICK: dict[str, Any] = {
    "network": "lstm", "lstm_units": 16, "hidden": (), "sequence_length": 6, "burn_in": 2, "steps": 4_000,
    "learning_rate": 1e-2, "learning_starts": 100, "train_interval": 8, "batch_size": 16, "buffer_size": 4_000,
    "epsilon_duration": 2_000, "gamma": 0.9, "target": "polyak", "polyak": 0.05, "eval_interval": 0,
    "log_interval": 500, "checkpoint_interval": 1_500,
}  # fmt: skip


def agent_of(space: spaces.Space[Any] = BOX, actions: int = 2, **fields: Any) -> DRQN:
    """A recurrent agent whose weights, target's included, are not those that it begins with, and large."""
    config = DQNConfig(**{"env": "toy", "network": "lstm", "lstm_units": 5, "hidden": (4,), **fields})
    agent = agent_class("dqn")(config, space, spaces.Discrete(actions, start=3))
    assert isinstance(agent, DRQN)
    rng = np.random.default_rng(1)
    for model in (agent.q, agent.target):
        for v in model.trainable_variables:
            v.assign(rng.normal(0, 0.7, v.shape))
    return agent


def weights_of(model: Any) -> list[np.ndarray]:
    return [v.numpy().astype(np.float64) for v in model.trainable_variables]


# ---- the network, in NumPy and float64


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def reference_step(
    weights: list[np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row through a long short-term memory, a dense layer with ReLU and a linear layer.

    Gers, Schmidhuber and Cummins 2000: gates i, f, candidate g, gate o, in Keras' order.
    """
    wx, wh, b, w0, b0, w1, b1 = weights
    i, f, g, o = np.split(x @ wx + h @ wh + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return np.maximum(h @ w0 + b0, 0) @ w1 + b1, h, c


def reference_values(
    weights: list[np.ndarray], seen: np.ndarray, fresh: np.ndarray, following: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of one sequence: values at each step and after it, step by step."""
    units = weights[1].shape[0]
    h = c = np.zeros(units)
    q_tm1, q_t = [], []
    for x, new, x_after in zip(seen, fresh, following, strict=True):
        if new:
            h = c = np.zeros(units)
        q, h, c = reference_step(weights, x, h, c)
        q_tm1.append(q)
        q_t.append(reference_step(weights, x_after, h, c)[0])
    return np.array(q_tm1), np.array(q_t)


def sequences(agent: DRQN, size: int = 4, seed: int = 2) -> tuple[Transition, np.ndarray]:
    """A batch with ends of both kinds in its midst, and the next observations of all steps, [B, T, D]."""
    c, rng = agent.config, np.random.default_rng(seed)
    steps = c.burn_in + c.sequence_length
    seen, following = rng.normal(size=(2, size, steps, 3)).astype(np.float32)
    terminated, truncated = rng.random((2, size, steps)) < 0.2
    fresh = np.concatenate([np.ones((size, 1), np.bool_), (terminated | truncated)[:, :-1]], axis=1)
    learned = np.s_[:, c.burn_in :]
    batch = Transition(
        cast("Any", History(seen, fresh)),
        rng.integers(3, 3 + agent.actions, (size, steps)).astype(np.int32)[learned],
        rng.normal(size=(size, steps)).astype(np.float32)[learned],
        np.where(terminated, 0, 0.9).astype(np.float32)[learned],
        following[learned],
    )
    return batch, following


def history(batch: Transition) -> History:
    return cast("History", batch.observation)


@pytest.mark.parametrize("burn_in", [0, 3])
def test_the_unrolled_network_is_its_steps_one_by_one(burn_in: int) -> None:
    agent = agent_of(sequence_length=6, burn_in=burn_in)
    batch, following = sequences(agent)
    assert history(batch).fresh[:, 1:].any(), "an episode begins within a sequence"

    @tf.function(jit_compile=True)
    def values(batch: Transition) -> tuple[tf.Tensor, tf.Tensor]:
        return agent.values([v.value for v in agent.q.trainable_variables], batch)

    q_tm1, q_t = values(tf.nest.map_structure(tf.constant, batch))
    for b in range(4):
        expected = reference_values(
            weights_of(agent.q), history(batch).observation[b], history(batch).fresh[b], following[b]
        )
        np.testing.assert_allclose(q_tm1[b], expected[0][burn_in:], atol=1e-5)
        np.testing.assert_allclose(q_t[b], expected[1][burn_in:], atol=1e-5)


def test_what_was_before_an_episode_began_does_not_matter() -> None:
    agent = agent_of(sequence_length=6, burn_in=2)
    weights = [v.value for v in agent.q.trainable_variables]
    batch, _ = sequences(agent)
    fresh = np.zeros((4, 8), np.bool_)
    fresh[:, [0, 4]] = True
    seen = history(batch).observation
    other = np.concatenate([seen[:, :4] + 1, seen[:, 4:]], axis=1)
    (a, _), (b, _) = (
        agent.values(weights, batch._replace(observation=cast("Any", History(tf.constant(s), fresh))))
        for s in (seen, other)
    )
    np.testing.assert_array_equal(a[:, 2:], b[:, 2:])  # the learned steps begin with the third
    assert (a[:, :2].numpy() != b[:, :2].numpy()).all()


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_the_loss_is_that_of_a_slow_reference(double: bool, loss: str) -> None:
    agent = agent_of(sequence_length=5, burn_in=3, double=double, loss=loss, actions=4)
    batch, following = sequences(agent, seed=5)
    rows = []
    for b in range(4):
        run = (history(batch).observation[b], history(batch).fresh[b], following[b])
        q_tm1, online = reference_values(weights_of(agent.q), *run)
        _, q_t = reference_values(weights_of(agent.target), *run)
        for t in range(5):
            chosen = (online if double else q_t)[3 + t].argmax()
            # the discount is 0 where the step terminated and only there, so nothing else is asked of an end
            target = batch.reward[b, t] + batch.discount[b, t] * q_t[3 + t, chosen]
            rows.append((target - q_tm1[3 + t, batch.action[b, t] - 3], q_tm1[3 + t, batch.action[b, t] - 3]))
    error, q = np.array(rows).T
    size = np.abs(error)
    expected = 0.5 * error**2 if loss == "squared" else np.where(size < 1, 0.5 * error**2, size - 0.5)
    assert (batch.discount == 0).any()
    state, metrics, priorities = agent.update(agent.state(), tf.nest.map_structure(tf.constant, batch), ZERO)
    np.testing.assert_allclose(metrics[:3], [expected.mean(), size.mean(), q.mean()], rtol=1e-4)
    np.testing.assert_allclose(priorities.numpy().ravel(), size, rtol=1e-3, atol=1e-5)
    assert all((a.numpy() != b.numpy()).any() for a, b in zip(state.weights, agent.state().weights, strict=True))


def test_gradients_are_those_of_finite_differences_and_none_come_through_the_burn_in() -> None:
    agent = agent_of(sequence_length=4, burn_in=3, double=False, loss="squared", max_gradient_norm=0.0)
    batch, following = sequences(agent, seed=7)
    burnt = history(batch).fresh[:, :3].shape[1]

    def loss(weights: list[np.ndarray], before: list[np.ndarray]) -> float:
        """The mean loss, the first steps by the weights `before`, the last by `weights`."""
        total = 0.0
        for b in range(4):
            h = c = np.zeros(5)
            _, q_t = reference_values(
                weights_of(agent.target), history(batch).observation[b], history(batch).fresh[b], following[b]
            )
            for t in range(7):
                if history(batch).fresh[b, t]:
                    h = c = np.zeros(5)
                q, h, c = reference_step(before if t < burnt else weights, history(batch).observation[b, t], h, c)
                if t >= burnt:
                    target = batch.reward[b, t - burnt] + batch.discount[b, t - burnt] * q_t[t].max()
                    total += 0.5 * (target - q[batch.action[b, t - burnt] - 3]) ** 2
        return total / 16

    weights = weights_of(agent.q)
    squares = 0.0
    for part in weights:
        for place in np.ndindex(part.shape):
            kept = part[place]
            both = []
            for change in (1e-5, -1e-5):
                part[place] = kept + change
                both.append(loss(weights, weights_of(agent.q)))
            part[place] = kept
            squares += ((both[0] - both[1]) / 2e-5) ** 2
    _, metrics, _ = agent.update(agent.state(), tf.nest.map_structure(tf.constant, batch), ZERO)
    assert float(metrics[3]) == pytest.approx(np.sqrt(squares), rel=1e-3)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(4, start=2), spaces.Box(0, 255, (2, 3), np.uint8), BOX], ids=["discrete", "image", "box"]
)
@pytest.mark.parametrize(
    "fields", [{}, {"dueling": True}, {"hidden": ()}, {"dueling": True, "hidden": (3, 2)}], ids=str
)
def test_any_space_and_head_learns_and_acts_on_shapes_as_told(space: spaces.Space[Any], fields: dict[str, Any]) -> None:
    agent = agent_of(space, 3, sequence_length=3, burn_in=1, gradient_steps=2, batch_size=4, **fields)
    space.seed(0)
    replay = SequenceReplay(40, 2, space, 0.9, 1, 3)
    never = np.zeros(2, np.bool_)
    seen, after = (np.stack([space.sample() for _ in range(2)]) for _ in range(2))
    for _ in range(10):
        replay.add(seen, np.array([3, 5]), Step(after, np.ones(2), never, never, ~never))
    batch = replay.sample(np.random.default_rng(0).integers(2**32, size=(2, 4), dtype=np.uint32))
    told = replay.specs([2, 4])
    for part, spec in zip(tf.nest.flatten(batch), tf.nest.flatten(told), strict=True):
        assert spec.shape == part.shape
        assert spec.dtype == part.dtype
    metrics, priorities = tf.function(agent.learn, jit_compile=True)(tf.nest.map_structure(tf.constant, batch), ZERO)
    assert priorities.shape == (2, 4, 3)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    actor = RecurrentActor(agent, space, 2, explore=False)
    assert set(actor(seen)) <= {3, 4, 5}
    assert actor.state()["hidden"].shape == (2, 10)


def test_without_a_memory_an_observation_is_an_episodes_first() -> None:
    agent = agent_of()
    seen = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    weights = weights_of(agent.q)
    expected = [3 + reference_step(weights, x, np.zeros(5), np.zeros(5))[0].argmax() for x in seen]
    assert agent.act(tf.constant(seen), ZERO, explore=False).numpy().tolist() == expected


# ---- sequences


def play(replay: Replay, ends: list[list[int]]) -> list[list[tuple[int, bool, bool]]]:
    """Fill a replay with steps numbered by env and time; how each ended (1 terminated, 2 truncated, 3 no step)."""
    columns: list[list[tuple[int, bool, bool]]] = [[] for _ in ends[0]]
    for t, row in enumerate(ends):
        how = np.array(row)
        number = np.arange(len(row)) * 1000.0 + t
        pair = np.stack([number, -number], axis=1).astype(np.float32)
        replay.add(pair, number.astype(np.int32), Step(pair + 0.5, number / 8, how == 1, how == 2, how != 3))
        for column, n, h in zip(columns, number, how, strict=True):
            if h != 3:
                column.append((int(n), bool(h == 1), bool(h == 2)))
    return columns


PAIR = spaces.Box(-np.inf, np.inf, (2,), np.float32)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(("burn_in", "length"), [(0, 1), (0, 4), (2, 1), (3, 4)])
@pytest.mark.parametrize("steps", [3, 7, 8, 9, 40], ids=lambda steps: f"{steps} steps")
@pytest.mark.parametrize("uneven", [False, True])
def test_samples_are_all_runs_of_consecutive_steps_that_are_held(
    num_envs: int, burn_in: int, length: int, steps: int, uneven: bool
) -> None:
    rows, span = 9, burn_in + length
    rng = np.random.default_rng(steps + 10 * uneven)
    ends = rng.choice(
        [0, 1, 2, 3] if uneven else [0, 1, 2],
        (steps, num_envs),
        p=[0.6, 0.15, 0.15, 0.1][: 3 + uneven] / np.sum([0.6, 0.15, 0.15, 0.1][: 3 + uneven]),
    )
    replay = SequenceReplay(rows * num_envs + num_envs - 1, num_envs, PAIR, 0.75, burn_in, length)
    columns = [column[-rows:] for column in play(replay, ends.tolist())]
    runs = [column[i : i + span] for column in columns for i in range(len(column) - span + 1)]
    usable = int(replay.usable().sum())
    assert usable == len(runs)
    if not runs:
        return
    bits = np.array([[-(-place * 2**32 // usable) for place in range(usable)]], np.uint32)  # each run once
    got = replay.sample(bits)
    seen, fresh = got.observation
    assert seen.shape == (1, usable, span, 2)
    assert fresh.shape == (1, usable, span)
    assert got.next_observation.shape == (1, usable, length, 2)
    for k, run in enumerate(runs):
        numbers = [n for n, _, _ in run]
        learned = run[burn_in:]
        assert seen[0, k, :, 0].tolist() == numbers
        assert fresh[0, k].tolist() == [True, *(terminated or truncated for _, terminated, truncated in run[:-1])]
        assert got.action[0, k].tolist() == [n for n, _, _ in learned]
        assert got.reward[0, k].tolist() == [n / 8 for n, _, _ in learned]
        assert got.discount[0, k].tolist() == [0.0 if terminated else 0.75 for _, terminated, _ in learned]
        assert got.next_observation[0, k, :, 0].tolist() == [n + 0.5 for n, _, _ in learned]


def test_a_break_begins_episodes_within_a_sequence() -> None:
    replay = SequenceReplay(40, 2, PAIR, 0.75, 2, 4)
    play(replay, [[0, 0], [0, 0], [0, 1]])
    replay.cut()
    play(replay, [[0, 0]] * 4)
    seen, fresh = replay.sample(np.array([[0, 2**31]], np.uint32)).observation
    assert (seen[0, :, 3, 0] - [0, 1000]).tolist() == [0, 0], "the first step after it"
    assert fresh[0].tolist() == [[True, False, False, True, False, False]] * 2
    discount = replay.sample(np.array([[0, 2**31]], np.uint32)).discount
    assert discount[0, :, 0].tolist() == [0.75, 0.0], "cut short in one env, terminated in the other"


def test_what_is_stored_is_what_any_replay_stores() -> None:
    plain, other = Replay(20, 2, PAIR), SequenceReplay(20, 2, PAIR, 0.99, 2, 3)
    for replay in (plain, other):
        play(replay, [[t % 3, (t + 1) % 3] for t in range(14)])
    a, b = (replay.export(np.zeros(2, np.int64)) for replay in (plain, other))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert plain.nbytes == other.nbytes
    again = SequenceReplay(20, 2, PAIR, 0.99, 2, 3)
    again.load([b])
    bits = np.random.default_rng(0).integers(2**32, size=(2, 5), dtype=np.uint32)
    for x, y in zip(tf.nest.flatten(again.sample(bits)), tf.nest.flatten(other.sample(bits)), strict=True):
        np.testing.assert_array_equal(x, y)


# ---- acting


def test_an_actor_forgets_where_an_episode_begins_and_only_there() -> None:
    agent = agent_of()
    actor = RecurrentActor(agent, BOX, 3, explore=False)
    assert isinstance(agent, RecurrentAgent)
    assert isinstance(actor, RecurrentPolicy)
    weights, rng = weights_of(agent.q), np.random.default_rng(3)
    memory = [(np.zeros(5), np.zeros(5))] * 3
    for t in range(30):
        fresh = rng.random(3) < 0.2
        actor.reset(fresh & (np.arange(3) < 2))  # told in two parts
        actor.reset(fresh & (np.arange(3) == 2))
        seen = rng.normal(size=(3, 3)).astype(np.float32)
        actions = actor(seen)
        for e in range(3):
            h, c = (np.zeros(5), np.zeros(5)) if fresh[e] else memory[e]
            q, h, c = reference_step(weights, seen[e].astype(np.float64), h, c)
            memory[e] = h, c
            assert actions[e] == 3 + q.argmax(), (t, e)
        np.testing.assert_allclose(actor.state()["hidden"], [np.concatenate(m) for m in memory], atol=1e-4)
    assert actor.traces == 1


def test_an_actor_goes_on_from_its_state() -> None:
    agent = agent_of(epsilon_start=0.3)
    first, second = (RecurrentActor(agent, BOX, 4, explore=True) for _ in range(2))
    rng = np.random.default_rng(3)
    for t in range(5):
        first.act(rng.normal(size=(4, 3)), t, 0)
    first.reset(np.array([True, False, False, True]))
    second.restore({name: array.copy() for name, array in first.state().items()})
    for t in range(5, 25):
        seen = rng.normal(size=(4, 3))
        assert first.act(seen, t, 0).tolist() == second.act(seen, t, 0).tolist()
    for name, array in first.state().items():
        np.testing.assert_array_equal(array, second.state()[name])


def test_exploration_is_the_feed_forward_agents() -> None:
    fields: dict[str, Any] = {"epsilon_start": 1.0, "epsilon_end": 1.0}
    recurrent, plain = agent_of(**fields), agent_of(**fields)
    actor = RecurrentActor(recurrent, BOX, 6, explore=True)
    for step in range(0, 60, 6):
        clock = Clock(tf.constant(step, tf.int64), tf.constant(0, tf.int64))
        expected = DQN.act(plain, tf.zeros([6, 3]), clock, explore=True)
        assert actor.act(np.zeros((6, 3)), step, 0).tolist() == expected.numpy().tolist()


class Remembered:
    """A policy that answers what it was first shown in the episode."""

    def __init__(self, num_envs: int) -> None:
        self.first, self.fresh = np.zeros(num_envs), np.ones(num_envs, np.bool_)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        self.first = np.where(self.fresh, observations[:, 0], self.first)
        self.fresh = np.zeros_like(self.fresh)
        return (self.first > 0).astype(np.int32)

    def reset(self, fresh: np.ndarray) -> None:
        self.fresh = self.fresh | fresh


@pytest.mark.parametrize("num_envs", [1, 5])
def test_an_evaluation_says_where_episodes_begin(num_envs: int) -> None:
    def make() -> Recall:
        return Recall(2)

    envs = OneEnv(make) if num_envs == 1 else SyncVectorEnv([make] * 5, autoreset_mode=AutoresetMode.DISABLED)
    policy = Remembered(num_envs)
    policy.fresh[:] = False  # as an evaluation before it may have left it
    assert evaluate(policy, envs, 23, 0).returns == (1.0,) * 23
    begin(lambda observations: observations, np.ones(1, np.bool_))  # nothing to tell
    envs.close()


def make_loop(path: Path, mode: AutoresetMode = AutoresetMode.DISABLED, **fields: Any) -> RecurrentLoop:
    def make() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.TimeLimit(Recall(4, truncates=True), 3)

    config = DQNConfig(**{"env": "toy", **QUICK, "num_envs": 3, "threads": 0, **fields})
    envs = Environments(SyncVectorEnv([make] * 3, autoreset_mode=mode), config.seed)
    agent = agent_class("dqn")(config, envs.observation_space, envs.action_space)
    replay = session.make_replay(config, envs.observation_space)
    return RecurrentLoop(
        cast("Any", agent), envs, replay, Checkpointer(path / "checkpoints", cast("DRQN", agent), replay)
    )


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_loop_remembers_each_envs_episode_whichever_way_it_resets(mode: AutoresetMode, tmp_path: Path) -> None:
    loop = make_loop(tmp_path, mode, steps=90, learning_starts=10**6)
    agent, actor = cast("DRQN", loop.agent), loop.program.actor
    fed: list[tuple[np.ndarray, np.ndarray]] = []
    weights = [v.value for v in agent.q.trainable_variables]
    for _ in range(30):
        fed.append((loop.envs.observation.copy(), actor.state()["fresh"]))
        loop._cycle()
    fresh = np.array([f for _, f in fed])
    begun = np.array([np.abs(seen[:, 0]) for seen, _ in fed]) == 1  # only an episode's first observation is not 0
    np.testing.assert_array_equal(fresh & begun, begun)
    if mode != AutoresetMode.NEXT_STEP:
        np.testing.assert_array_equal(fresh, begun)
    assert begun.sum() >= 3 * 7
    for e in range(3):  # the memory is that of the observations since the episode began
        first = int(np.flatnonzero(fresh[:, e])[-1])
        memory = tf.zeros([1, agent.memory_size])
        for seen, _ in fed[first:]:
            _, memory = agent.recall(weights, tf.constant(seen[e : e + 1]), memory)
        np.testing.assert_allclose(actor.state()["hidden"][e], memory[0], atol=1e-5)
    loop.envs.close()


def test_nothing_retraces_after_the_first_call(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, steps=3_000)
    assert loop.run() == "finished"
    assert loop.rounds > 100
    assert loop.program.traces == 2  # learning and drawing
    assert loop.program.actor.traces == 1
    loop.envs.close()


def test_memory_is_void_where_fresh_episodes_have_to_start(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, steps=300)
    loop.run()
    assert not loop.program.actor.state()["fresh"].all()
    counters, state = loop._state()
    other = make_loop(tmp_path / "other", steps=300)
    state["env.observation"] = state["env.observation"] + 1  # where the env will not come back to
    told: list[str] = []
    other._restore(json.loads(json.dumps(counters)), state, told.append)
    assert ["cannot be restored" in text for text in told] == [True]
    assert other.program.actor.state()["fresh"].all()
    for each in (loop, other):
        each.envs.close()


# ---- whole runs


@pytest.mark.parametrize("fields", [{}, {"num_envs": 4}, {"jit": False, "num_envs": 4, "dueling": True}], ids=str)
def test_a_memory_is_learned_that_a_feed_forward_network_cannot_have(fields: dict[str, Any], tmp_path: Path) -> None:
    run = rlkit.train("dqn", "test/Recall-v0", run_dir=tmp_path, env_args={"wait": 2}, **{**QUICK, **fields})
    assert run.evaluate(episodes=50, checkpoint="last").returns == (1.0,) * 50
    with np.errstate(all="raise"):
        assert run.evaluate(episodes=1, checkpoint="last").returns == (1.0,)


def test_a_feed_forward_network_stays_at_chance(tmp_path: Path) -> None:
    run = rlkit.train("dqn", "test/Recall-v0", run_dir=tmp_path, **{**QUICK, "network": "mlp", "hidden": (16,)})
    # 100 fair coins: more than 75 heads have probability 3e-7
    assert run.evaluate(episodes=100, checkpoint="last").mean < 0.75


def test_evaluations_leave_training_as_it_is(tmp_path: Path) -> None:
    fields = {**QUICK, "steps": 1_500, "num_envs": 3, "jit": False}
    found = []
    for interval in (0, 250):
        run = rlkit.train(
            "dqn", "test/Recall-v0", run_dir=tmp_path / str(interval), **{**fields, "eval_interval": interval}
        )
        found.append((run.path / "metrics.csv").read_bytes())
    assert found[0] == found[1]


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **QUICK, "steps": 2_000, "num_envs": 3, "env_args": {"wait": 5}, "eval_interval": 300, "eval_episodes": 4,
        "checkpoint_interval": 333,
    }  # fmt: skip
    whole = rlkit.train("dqn", "test/Recall-v0", run_dir=tmp_path / "whole", **fields)
    stopped = rlkit.train(
        "dqn", "test/Recall-v0", run_dir=tmp_path / "parts", **{**fields, "steps": 700}
    )  # within episodes
    for steps in (1_001, 2_000):
        stopped = training.resume(stopped.path, steps=steps)
    assert (stopped.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()
    rows, others = ((run.path / "evaluations.csv").read_text().splitlines() for run in (whole, stopped))
    assert [line for line in others if line.split(",")[0] not in ("702", "1002")] == rows, "but where parts ended"
    for a, b in zip(
        *(cast("Any", run.agent("last")[0]).q.trainable_variables for run in (stopped, whole)), strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_run_is_rendered_with_its_memory(tmp_path: Path) -> None:
    pytest.importorskip("pygame")
    run = rlkit.train(
        "dqn", "rlkit/MaskedCartPole-v0", run_dir=tmp_path, preset="none", **{**QUICK, "steps": 300, "num_envs": 2}
    )
    policy, _ = run.policy()
    assert isinstance(policy, RecurrentPolicy)
    shown = record(policy, "rlkit/MaskedCartPole-v0", {}, tmp_path / "a.gif", episodes=3)
    # the same episodes, so the same lengths: the memory of the one before is gone
    assert shown.lengths == run.evaluate(episodes=3).lengths
    assert shown.lengths == record(policy, "rlkit/MaskedCartPole-v0", {}, tmp_path / "b.gif", episodes=3).lengths


def test_a_recurrent_run_on_a_model_has_no_regret(tmp_path: Path) -> None:
    fields = {**QUICK, "steps": 400, "eval_interval": 200, "eval_episodes": 2, "jit": False}
    run = rlkit.train("dqn", "FrozenLake-v1", run_dir=tmp_path, preset="none", **fields)
    rows = (run.path / "evaluations.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in rows] == ["", ""]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n_step": 3}, "n_step is 3, expected 1 where network is lstm"),
        (
            {"buffer_size": 100, "num_envs": 4, "batch_size": 10},
            "buffer_size is 100, expected at least num_envs times the steps of a sequence, burn_in and "
            "sequence_length, 120",
        ),
        ({"head": "c51"}, "head is c51, expected expected where network is lstm"),
        ({"noisy": True}, "noisy is true, expected false where network is lstm"),
        ({"lstm_units": 0}, "lstm_units is 0, expected at least 1"),
        ({"sequence_length": 0}, "sequence_length is 0, expected at least 1"),
        ({"burn_in": -1}, "burn_in is -1, expected at least 0"),
        ({"network": "gru"}, "network is 'gru', expected one of auto, mlp, lstm, nature-cnn, minatar-cnn"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        DQNConfig(**{"env": "CartPole-v1", "network": "lstm", **fields})
    assert str(refused.value) == sentence


def test_fields_of_the_memory_are_nothing_to_a_feed_forward_network() -> None:
    DQNConfig(env="CartPole-v1", n_step=3, buffer_size=300, num_envs=100)


def test_the_loop_of_a_memory_is_the_hosts() -> None:
    config = DQNConfig(env="CartPole-v1", network="lstm")
    assert session.looping(config) == ("host", "as network is lstm")
    with pytest.raises(UserError, match=r"^loop is compiled, but network is lstm: take host$"):
        session.looping(config.replace(loop="compiled"))
    assert session.looping(config.replace(network="mlp"))[0] == "compiled"
