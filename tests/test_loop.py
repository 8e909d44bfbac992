"""The host loop: what it stores and bootstraps, when it calls whom, and what it must not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
import tensorflow as tf
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.errors import UserError
from rlkit.interaction.evaluation import Evaluation
from rlkit.interaction.vector import Environments, OneEnv
from rlkit.loops.off_policy import HostLoop
from rlkit.replay.uniform import Replay
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Row
from rlkit.seeding import CONFIRMATION


class Corridor(gymnasium.Env[np.int64, Any]):
    """Observes 0 at the start and 1 later. Action 1 ends it with reward 1/2; action 0 pays what is observed."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return np.int64(0), {}

    def step(self, action: int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        reward = 0.5 if action == 1 else float(self.place)
        self.place = 1
        return np.int64(1), reward, bool(action == 1), False, {}


def corridor() -> gymnasium.Env[np.int64, Any]:
    return TimeLimit(Corridor(), 3)


def make_loop(
    envs: VectorEnv,
    path: Path,
    evaluate: Callable[[int], Evaluation] | None = None,
    observers: Sequence[Any] = (),
    **fields: Any,
) -> tuple[HostLoop, DQN]:
    config = DQNConfig(**{"env": "toy", "num_envs": envs.num_envs, "threads": 0, **fields})
    environments = Environments(envs, config.seed)
    agent = DQN(config, envs.single_observation_space, envs.single_action_space)
    space, c = envs.single_observation_space, config
    replay = Replay(c.buffer_size, c.num_envs, space, c.n_step, c.gamma, c.priority_exponent)
    checkpointer = Checkpointer(path / "checkpoints", agent, replay, config.keep_checkpoints)
    return HostLoop(agent, environments, replay, checkpointer, evaluate, observers), agent


MODES: dict[str, Callable[[], VectorEnv]] = {
    "one": lambda: OneEnv(corridor),
    "disabled": lambda: SyncVectorEnv([corridor] * 3, autoreset_mode=AutoresetMode.DISABLED),
    "next step": lambda: SyncVectorEnv([corridor] * 3, autoreset_mode=AutoresetMode.NEXT_STEP),
    "same step": lambda: SyncVectorEnv([corridor] * 3, autoreset_mode=AutoresetMode.SAME_STEP),
    "async": lambda: AsyncVectorEnv([corridor] * 3, autoreset_mode=AutoresetMode.DISABLED),
}


class Paying(Corridor):
    """Pays ten times as much."""

    def step(self, action: int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, 10.0 * reward - 3.0, terminated, truncated, info


def test_rewards_are_clipped_for_learning_alone(tmp_path: Path) -> None:
    small: dict[str, Any] = {"hidden": (4,), "steps": 60, "learning_starts": 10, "batch_size": 4, "clip_reward": True}
    loop, _ = make_loop(OneEnv(lambda: TimeLimit(Paying(), 3)), tmp_path, **small, eval_interval=0)
    loop.run()
    stored = loop.replay.fields["reward"][:60]
    assert set(np.unique(stored).tolist()) == {-1.0, 1.0}, "of -3, 2 and 7"
    assert {-3.0, 2.0, 7.0} >= {r for returns, n in loop._ended if n == 1 for r in [returns]}
    assert any(abs(returns) > 3 for returns, _ in loop._ended)


class Elsewhere(gymnasium.Env[np.ndarray, Any]):
    """Observes how often any of its copies was reset, so that no episode can be had again."""

    observation_space = spaces.Box(0, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)
    resets = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        Elsewhere.resets += 1
        return np.array([Elsewhere.resets], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.array([Elsewhere.resets], np.float32), 1.0, False, False, {}


def test_what_was_resumed_with_fresh_episodes_stays_cut_there_when_it_is_resumed_again(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"hidden": (4,), "n_step": 3, "gamma": 1.0, "learning_starts": 10**6, "eval_interval": 0}
    told: list[str] = []
    loop, _ = make_loop(OneEnv(Elsewhere), tmp_path, steps=5, **fields)
    loop.run()
    for steps in (12, 16):
        loop, _ = make_loop(OneEnv(Elsewhere), tmp_path, steps=steps, **fields)
        loop.restore(told.append)
        loop.run()
    assert ["fresh episodes start" in text for text in told] == [True, True]
    assert np.flatnonzero(loop.replay.fields["truncated"]).tolist() == [4, 11]
    got = loop.replay.sample((np.arange(14)[None] * 2**32 // 14 + 1).astype(np.uint32))
    assert got.reward[0].tolist() == [3, 3, 3, 2, 1, 3, 3, 3, 3, 3, 2, 1, 3, 3]


@pytest.mark.parametrize("gradient_steps", [1, 3])
def test_updates_beside_the_envs_are_those_between_their_steps_one_action_later(
    gradient_steps: int, tmp_path: Path
) -> None:
    """The same rounds on the same rows; only that the action between them was chosen before."""
    fields: dict[str, Any] = {
        "hidden": (4,), "steps": 41, "learning_starts": 39, "batch_size": 4, "train_interval": 1, "eval_interval": 0,
        "gradient_steps": gradient_steps, "epsilon_start": 1.0, "epsilon_end": 1.0, "priority_exponent": 0.5,
    }  # fmt: skip
    (beside, one), (between, other) = (
        make_loop(OneEnv(corridor), tmp_path / str(overlap), **fields, overlap=overlap) for overlap in (True, False)
    )
    beside.run()
    between.run()
    assert (beside.rounds, between.rounds) == (2, 3), "rounds of steps 39 and 40; that of 41 is owed"
    assert beside._owed == 1
    between_two, third = make_loop(OneEnv(corridor), tmp_path / "two", **{**fields, "steps": 40})
    between_two.run()
    for a, b in zip(tf.nest.flatten(one.state()), tf.nest.flatten(third.state()), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one.q.get_weights(), other.q.get_weights(), strict=True))


@pytest.mark.parametrize("make", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize("n_step", [1, 2])
def test_three_steps_of_a_time_limit_give_the_q_values_worked_by_hand(
    make: Callable[[], VectorEnv], n_step: int, tmp_path: Path
) -> None:
    # gamma 1/2. Q(1,1) = Q(0,1) = 1/2: it terminates, so nothing is bootstrapped (else 3/2).
    # Q(1,0) = 1 + Q(1,0)/2 = 2: the time limit truncates, so it is bootstrapped from the real next
    # observation, 1 (as terminated, the third step would pull it to 1; from the reset's 0, to 3/2).
    # Q(0,0) = 0 + Q(1,0)/2 = 1. A stored reset transition (from 1 to 0 with reward 0) would pull Q(1,.) down.
    # Two-step targets are those of the behaviour policy, which here is uniform: with mean value
    # v = (Q(1,0) + Q(1,1))/2 unused, as the first reward is followed by max Q: Q(1,0) by two steps is
    # 1 + 1/2 E[r + ...], where the second action is uniform: action 1 gives 1/2 and ends, action 0 gives
    # 1 + Q(1,0)/2. A third of the (1,0) starts see it second-last or last, so those have other shares; what
    # is the same for all is checked: the terminating action's 1/2, and that Q(1,0) lies between.
    loop, agent = make_loop(
        make(), tmp_path, steps=6000, gamma=0.5, hidden=(), loss="squared", learning_rate=0.05,
        learning_rate_end=1e-4, learning_rate_duration=6000, epsilon_start=1.0, epsilon_end=1.0, n_step=n_step,
        buffer_size=3000, batch_size=64, learning_starts=300, train_interval=6, target_interval=60,
    )  # fmt: skip
    assert loop.run() == "finished"
    q = agent.q(tf.constant([0, 1])).numpy()
    np.testing.assert_allclose(q[:, 1], [0.5, 0.5], atol=0.02)
    if n_step == 1:
        np.testing.assert_allclose(q[:, 0], [1.0, 2.0], atol=0.02)
    else:
        assert 1.25 < q[1, 0] < 2.0
    loop.envs.close()


class Recorder:
    def __init__(self) -> None:
        self.rows: list[tuple[int, Row]] = []
        self.evaluations: list[int] = []

    def row(self, step: int, row: Row, seconds: float) -> None:
        assert seconds >= 0
        self.rows.append((step, row))

    def evaluation(self, step: int, values: Mapping[str, float | None], returns: Sequence[float] = ()) -> None:
        self.evaluations.append(step)


SMALL: dict[str, Any] = {
    "buffer_size": 400,
    "batch_size": 16,
    "learning_starts": 40,
    "hidden": (8,),
    "epsilon_duration": 200,
}


def test_everything_happens_at_its_steps_and_counts_add_up(tmp_path: Path) -> None:
    recorder = Recorder()
    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, lambda step: Evaluation((float(step),), (1,), 0, step), [recorder],
        steps=400, log_interval=50, eval_interval=100, checkpoint_interval=150, train_interval=5,
        gradient_steps=3, **SMALL,
    )  # fmt: skip
    assert loop.run() == "finished"
    assert [step for step, _ in recorder.rows] == list(range(50, 401, 50))
    assert recorder.evaluations == [100, 200, 300, 400]
    assert [row["updates"] for _, row in recorder.rows] == [9, 39, 69, 99, 129, 159, 189, 219]
    assert loop.rounds == (400 - 40) // 5 + 1  # the first at step 40
    assert loop.replay.written.sum() == 400
    names = {f.name for f in (tmp_path / "checkpoints").glob("ckpt-*.index")}
    assert names == {"ckpt-150.index", "ckpt-300.index", "ckpt-400.index"}
    bests = {f.name for f in (tmp_path / "checkpoints/best").glob("*.index")}
    assert bests == {"ckpt-100.index", "ckpt-300.index", "ckpt-400.index"}, "as of each of these checkpoints"
    # epsilon falls in a straight line from 1 to 0.05 over 200 steps
    assert [row["epsilon"] for _, row in recorder.rows[:4]] == pytest.approx([0.7625, 0.525, 0.2875, 0.05])


def test_a_target_return_ends_the_run_and_saves(tmp_path: Path) -> None:
    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, lambda step: Evaluation((float(step),), (1,), 0, step),
        steps=400, eval_interval=100, target_return=200.0, **SMALL,
    )  # fmt: skip
    assert loop.run() == "solved"
    assert loop.step == 200
    assert (tmp_path / "checkpoints/ckpt-200.index").exists()


def test_a_target_that_fresh_episodes_do_not_confirm_is_not_reached(tmp_path: Path) -> None:
    found = {100: 250.0, 100 + CONFIRMATION: 130.0, 200: 180.0, 300: 240.0, 300 + CONFIRMATION: 200.0, 400: 0.0}
    seen: list[tuple[int, float | None, float | None]] = []

    class Watch(Recorder):
        def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
            seen.append((step, values["mean"], values["confirmation"]))

    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, lambda occasion: Evaluation((found[occasion],), (1,), 0), [Watch()],
        steps=400, eval_interval=100, target_return=200.0, **SMALL,
    )  # fmt: skip
    assert loop.run() == "solved"
    assert seen == [(100, 250.0, 130.0), (200, 180.0, None), (300, 240.0, 200.0)]
    assert loop.best == 220.0, "of both evaluations"
    assert [f.name for f in (tmp_path / "checkpoints/best").glob("*.index")] == ["ckpt-300.index"]


def test_an_agent_that_was_lucky_once_counts_as_best_with_its_fresh_episodes_too(tmp_path: Path) -> None:
    # 250 and 130 are 190 on average, less than the 195 that follow.
    found = {100: 250.0, 100 + CONFIRMATION: 130.0, 200: 195.0, 300: 191.0}
    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, lambda occasion: Evaluation((found[occasion],), (1,), 0),
        steps=300, eval_interval=100, target_return=200.0, **SMALL,
    )  # fmt: skip
    assert loop.run() == "finished"
    assert loop.best == 195.0
    assert [f.name for f in (tmp_path / "checkpoints/best").glob("*.index")] == ["ckpt-200.index"]


@pytest.mark.parametrize(
    ("steps", "interval", "at"), [(250, 100, [100, 200, 250]), (200, 100, [100, 200]), (50, 0, [])]
)
def test_the_last_weights_are_evaluated_once(steps: int, interval: int, at: list[int], tmp_path: Path) -> None:
    recorder = Recorder()
    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, lambda step: Evaluation((float(step),), (1,), 0), [recorder],
        steps=steps, eval_interval=interval, **SMALL,
    )  # fmt: skip
    assert loop.run() == "finished"
    assert recorder.evaluations == at


def test_episode_returns_and_lengths_are_those_of_whole_episodes(tmp_path: Path) -> None:
    recorder = Recorder()
    # epsilon 0 and gamma 0: the untrained policy is constant, so every episode of an env is the same
    loop, agent = make_loop(
        OneEnv(corridor), tmp_path, None, [recorder], steps=60, log_interval=60, epsilon_start=0.0,
        epsilon_end=0.0, **{**SMALL, "learning_starts": 1000},
    )  # fmt: skip
    loop.run()
    first = int(agent.q(tf.constant([0])).numpy().argmax())
    later = int(agent.q(tf.constant([1])).numpy().argmax())
    # going on three times pays 0 + 1 + 1; ending pays 1/2 at once, or after a step that pays 0
    expected = (0.5, 1) if first == 1 else (0.5, 2) if later == 1 else (2.0, 3)
    row = recorder.rows[0][1]
    assert [row["episode_return"], row["episode_length"]] == list(expected)
    assert row["episode"] == 60 // expected[1]


def test_nothing_retraces_after_the_first_call_and_memory_stays_flat(tmp_path: Path) -> None:
    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, steps=200_000, checkpoint_interval=10**9, log_interval=1000,
        train_interval=20, **SMALL,
    )  # fmt: skip
    process, traces, used = psutil.Process(), [], []

    class Watch(Recorder):
        def row(self, step: int, row: Row, seconds: float) -> None:
            if step in (60_000, 200_000):
                traces.append(loop.program.traces)
                used.append(process.memory_info().rss)

    loop.observers = [Watch()]
    loop.run()
    assert traces == [3, 3]  # acting, learning, drawing: once each
    assert used[1] - used[0] < 8e6  # bytes; a leak of one 64-byte object a step would be 9e6


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    loop, agent = make_loop(OneEnv(corridor), tmp_path, steps=400, checkpoint_interval=100, **SMALL)

    class Poison(Recorder):
        def row(self, step: int, row: Row, seconds: float) -> None:
            if step == 250:
                agent.q.trainable_variables[0].assign(agent.q.trainable_variables[0] * np.nan)

    loop.observers = [Poison()]
    object.__setattr__(loop.config, "log_interval", 50)
    with pytest.raises(UserError, match=r"the loss is nan at step 25\d: .* checkpoint, of step 200, is kept"):
        loop.run()
    again = DQN(agent.config, loop.envs.observation_space, loop.envs.action_space)
    assert Checkpointer(tmp_path / "checkpoints", again).restore_agent("last") == 200
    assert all(np.isfinite(w.numpy()).all() for w in again.q.trainable_variables)


@pytest.mark.parametrize("place", range(4))
def test_any_metric_that_is_not_finite_stops_and_is_named(place: int, tmp_path: Path) -> None:
    loop, agent = make_loop(OneEnv(corridor), tmp_path, steps=400, **SMALL)
    values = np.ones(len(agent.metrics))
    loop._measure(values)
    values[place] = np.inf
    with pytest.raises(UserError, match=f"^the {agent.metrics[place]} is inf at step 0: stopped"):
        loop._measure(values)


def test_learning_waits_for_its_start_and_for_a_transition(tmp_path: Path) -> None:
    loop, agent = make_loop(
        OneEnv(corridor), tmp_path, steps=30, train_interval=1, **{**SMALL, "learning_starts": 0, "n_step": 4}
    )
    loop.run()
    # with four-step returns the first transition can be drawn after four steps
    assert loop.rounds == 27
    assert int(agent.kept.optimizer.iterations) == 27


def test_an_evaluation_that_is_no_number_is_never_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means = iter([float("nan"), 1.0, float("nan"), 5.0, 9.0])
    loop, _ = make_loop(
        OneEnv(corridor), tmp_path, lambda step: Evaluation((next(means),), (1,), 0, step), steps=50, eval_interval=10,
        **SMALL,
    )  # fmt: skip
    best: list[int] = []
    monkeypatch.setattr(loop.checkpointer, "keep_best", lambda step, score: best.append(step))
    loop.run()
    assert best == [20, 40, 50]
