"""The compiled loop: held to the host loop on the same env, cut anywhere, resumed, and seeds that share it."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.agents.dqn.recurrent import make
from rlkit.envs.functional.cartpole import CartPole
from rlkit.errors import UserError
from rlkit.interaction.functional import FunctionalVectorEnv
from rlkit.interaction.vector import Environments
from rlkit.loops.compiled import CompiledLoop, run_together
from rlkit.loops.off_policy import HostLoop, ReplayProgram
from rlkit.replay.uniform import Replay
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Row

LIMIT = 30

SMALL: dict[str, Any] = {
    "env": "CartPole-v1",
    "num_envs": 4,
    "hidden": (16,),
    "batch_size": 32,
    "buffer_size": 600,
    "learning_starts": 50,
    "train_interval": 4,
    "gradient_steps": 2,
    "target_interval": 40,
    "epsilon_duration": 1_000,
    "steps": 2_048,
    "log_interval": 256,
    "eval_interval": 0,
    "checkpoint_interval": 512,
}


class Recorder:
    def __init__(self) -> None:
        self.rows: list[tuple[int, Row]] = []
        self.evaluations: list[tuple[int, tuple[float, ...]]] = []

    def row(self, step: int, row: Row, seconds: float) -> None:
        del seconds
        self.rows.append((step, row))

    def evaluation(self, step: int, values: Mapping[str, float | None], returns: Sequence[float] = ()) -> None:
        del values
        self.evaluations.append((step, tuple(returns)))


def parts(config: DQNConfig) -> tuple[DQN, Replay]:
    env = CartPole()
    agent = make(config, env.observation_space, env.action_space)
    replay = Replay(config.buffer_size, config.num_envs, env.observation_space, config.n_step, config.gamma)
    return agent, replay


def compiled(path: Path, seeds: Sequence[int] = (0,), **fields: Any) -> list[CompiledLoop]:
    configs = [DQNConfig(**{**SMALL, "seed": seed, **fields}) for seed in seeds]
    agents, replays = zip(*map(parts, configs), strict=True)
    program = ReplayProgram(agents[0], replays[0], CartPole(), LIMIT)
    return [
        CompiledLoop(program, agent, Checkpointer(path / str(config.seed), agent, replay), [Recorder()])
        for config, agent, replay in zip(configs, agents, replays, strict=True)
    ]


def host(path: Path, **fields: Any) -> HostLoop:
    config = DQNConfig(**{**SMALL, **fields})
    agent, replay = parts(config)
    envs = Environments(FunctionalVectorEnv(CartPole(), config.num_envs, LIMIT, jit=True), config.seed)
    return HostLoop(agent, envs, replay, Checkpointer(path / "host", agent, replay), None, [Recorder()])


def held(loop: CompiledLoop) -> Replay:
    replay = loop.checkpointer.replay
    assert isinstance(replay, Replay)
    return replay


def weights(agent: Any) -> list[np.ndarray]:
    return [value.numpy() for value in tf.nest.flatten(agent.state())]


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_step": 3, "num_envs": 1, "train_interval": 2, "gradient_steps": 1},
        {"train_interval": 10, "gradient_steps": 5, "double": False, "loss": "squared", "target": "polyak"},
        {
            "train_interval": 1,
            "gradient_steps": 1,
            "learning_rate_end": 1e-5,
            "epsilon_unit": "episode",
            "dueling": True,
        },
    ],
    ids=str,
)
def test_both_loops_see_the_same_transitions_and_learn_the_same_weights(fields: dict[str, Any], tmp_path: Path) -> None:
    # The weights agree to rounding; as long as no action hangs on it, the transitions are equal to the bit.
    (program,) = compiled(tmp_path, **fields)
    python = host(tmp_path, **fields)
    assert program.run() == python.run() == "finished"
    assert python.rounds * python.config.gradient_steps >= 900
    assert program.variables.counts.numpy().tolist() == [python.step, python.rounds, python.episode]
    assert program.episode == python.episode > 20
    ours, theirs = held(program), python.replay
    assert ours.written.tolist() == theirs.written.tolist()
    for name, values in theirs.fields.items():
        np.testing.assert_allclose(ours.fields[name], values, rtol=0, atol=2e-6, err_msg=name)
    assert_close(program.agent, python.agent, 2e-4)
    (ours_rows,), (theirs_rows,) = (loop.observers for loop in (program, python))
    assert [step for step, _ in ours_rows.rows] == [step for step, _ in theirs_rows.rows]  # type: ignore[attr-defined]
    for (_, a), (_, b) in zip(ours_rows.rows, theirs_rows.rows, strict=True):  # type: ignore[attr-defined]
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert value == pytest.approx(b[name], rel=2e-3, abs=1e-4), name


def test_where_the_program_is_cut_makes_no_difference(tmp_path: Path) -> None:
    (whole,), (cut,) = compiled(tmp_path / "a"), compiled(tmp_path / "b")
    whole.run()
    cut.begin_run()
    while cut.step < cut.config.steps:
        before = cut.step
        cut._chunk = 1 + before % 7
        cut._cycle()
        cut.attend(before)
    cut.finish("finished")
    for a, b in zip(weights(whole.agent), weights(cut.agent), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.observers[0].rows == cut.observers[0].rows  # type: ignore[attr-defined]
    assert whole.program.traces == cut.program.traces == 1


def test_a_resumed_run_ends_bit_for_bit_where_the_whole_one_does(tmp_path: Path) -> None:
    (whole,) = compiled(tmp_path / "a", eval_interval=500, eval_episodes=5)
    whole.run()
    (half,) = compiled(tmp_path / "b", steps=1_024, eval_interval=500, eval_episodes=5)
    half.run()
    (rest,) = compiled(tmp_path / "b", eval_interval=500, eval_episodes=5)
    rest.restore(pytest.fail)
    assert rest.step == 1_024
    rest.run()
    for a, b in zip(weights(whole.agent), weights(rest.agent), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in held(whole).fields.items():
        np.testing.assert_array_equal(values, held(rest).fields[name], err_msg=name)
    before, after, all_of_them = (loop.observers[0] for loop in (half, rest, whole))
    assert before.rows + after.rows == all_of_them.rows  # type: ignore[attr-defined]
    *early, at_its_end = before.evaluations  # type: ignore[attr-defined]
    assert early + after.evaluations == all_of_them.evaluations  # type: ignore[attr-defined]
    assert [at_its_end[0], all_of_them.evaluations[-1][0]] == [1_024, 2_048]  # type: ignore[attr-defined]


def test_no_draw_of_either_loop_takes_rows_that_were_lost(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"n_step": 3, "buffer_size": 2400}
    (whole,) = compiled(tmp_path, **fields)
    whole.run()
    (tmp_path / "0" / "replay-1024.npz").unlink()  # rows 128 to 255 of each env
    (rest,) = compiled(tmp_path, **fields)
    told: list[str] = []
    rest.restore(told.append)
    assert told == [
        "a part of the replay is damaged (replay-1024.npz is missing): no draw takes what each env stored as its rows "
        "126 to 255"
    ]
    assert isinstance(rest.program, ReplayProgram)
    bits = np.random.default_rng(0).integers(2**32, size=(2, 3000), dtype=np.uint32)
    theirs, v = held(rest).sample(bits), rest.variables
    ours = rest.program._sample(tf.convert_to_tensor(v.memory), v.counts[0], tf.convert_to_tensor(v.lost), bits)
    for a, b in zip(ours[:5], theirs[:5], strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-6)
    seen = held(whole).fields["observation"]
    lost, kept = ({row.tobytes() for row in seen[part].reshape(-1, 4)} for part in (slice(126, 256), slice(256, 510)))
    drawn = {row.tobytes() for row in theirs.observation.reshape(-1, 4)}
    assert not lost & drawn
    assert len(kept & drawn) > 0.7 * len(kept)
    rest.advance(8)  # and learning goes on
    assert np.isfinite(rest.variables.measured.numpy()).all()


def test_metrics_that_are_newer_than_a_checkpoint_begin_at_nothing(tmp_path: Path) -> None:
    (loop,) = compiled(tmp_path, head="c51")
    measured = loop.variables.measured
    measured.assign(np.arange(1.0, 8.0))  # loss, error, q, gradient; below, above; rounds
    counters, state = loop._state()
    last = f"part_{len(loop._others()) - 1}"
    assert state[last].tolist() == [1, 2, 3, 4, 5, 6, 7]
    loop._restore(counters, state | {last: np.array([1.0, 2, 3, 4, 7])}, print)
    assert measured.numpy().tolist() == [1, 2, 3, 4, 0, 0, 7]


def test_each_of_several_seeds_ends_where_it_does_alone(tmp_path: Path) -> None:
    together = compiled(tmp_path / "all", seeds=(3, 5, 8), eval_interval=1_000, eval_episodes=3)
    statuses = ["failed"] * 3
    run_together(together, statuses)
    assert statuses == ["finished"] * 3
    for loop, seed in zip(together, (3, 5, 8), strict=True):
        (alone,) = compiled(tmp_path / "alone", seeds=(seed,), eval_interval=1_000, eval_episodes=3)
        alone.run()
        ours, theirs = held(loop), held(alone)
        for name, values in theirs.fields.items():
            np.testing.assert_array_equal(ours.fields[name], values, err_msg=name)
        assert_close(loop.agent, alone.agent, 0.0)
        assert loop.observers[0].rows == alone.observers[0].rows  # type: ignore[attr-defined]
    assert len({loop.episode for loop in together}) > 1, "the seeds differ"
    assert together[0].program.traces == 2, "to learn, and to play"


def test_seeds_end_on_their_own_and_the_others_go_on(tmp_path: Path) -> None:
    loops = compiled(tmp_path, seeds=(0, 1), eval_interval=256, eval_episodes=4, target_return=0.5)
    object.__setattr__(loops[1].config, "target_return", None)
    statuses = ["failed"] * 2
    run_together(loops, statuses)
    assert statuses == ["solved", "finished"]
    assert [loop.saved_at for loop in loops] == [256, 2_048]
    assert len(loops[0].observers[0].evaluations) == 1  # type: ignore[attr-defined]
    assert len(loops[1].observers[0].evaluations) == 8  # type: ignore[attr-defined]


def test_an_interruption_ends_all_seeds_and_they_go_on_to_the_bit(tmp_path: Path) -> None:
    loops = compiled(tmp_path / "cut", seeds=(0, 1, 2))
    first = loops[0].observers[0]

    def interrupt(step: int, row: Row, seconds: float) -> None:
        Recorder.row(first, step, row, seconds)  # type: ignore[arg-type]
        if step == 512:
            signal.raise_signal(signal.SIGINT)

    first.row = interrupt  # type: ignore[method-assign]
    statuses = ["failed"] * 3
    run_together(loops, statuses)
    assert statuses[0] == "interrupted"
    assert set(statuses) <= {"interrupted", "finished"}, "another may have been done"
    for loop in loops:
        assert loop.saved_at == loop.step > 0
    (rest,), (whole,) = compiled(tmp_path / "cut"), compiled(tmp_path / "whole")
    rest.restore(pytest.fail)
    assert 512 <= rest.step < 2_048
    rest.run()
    whole.run()
    assert_close(rest.agent, whole.agent, 0.0)


def test_greedy_episodes_are_those_of_the_policy(tmp_path: Path) -> None:
    (loop,) = compiled(tmp_path, eval_interval=512, eval_episodes=50)
    loop.run()
    (_, first), *_ = loop.observers[0].evaluations  # type: ignore[attr-defined]
    assert all(1 <= r <= LIMIT and r == int(r) for r in first)
    assert len(set(first)) > 3, "each on a draw of its own"
    result = loop._greedy(0)
    assert isinstance(loop.agent, DQN)
    assert result.lengths == tuple(map(int, result.returns)), "a step pays one"
    envs = FunctionalVectorEnv(CartPole(), 50, LIMIT)
    observation, _ = envs.reset(seed=7)
    returns, playing = np.zeros(50), np.ones(50, np.bool_)
    for _ in range(LIMIT):
        action = loop.agent.q_values(loop.agent.state().weights, observation).numpy().argmax(1)
        observation, reward, terminated, truncated, _ = envs.step(action)
        returns += reward * playing
        playing &= ~(terminated | truncated)
    spread = math.hypot(returns.std(), result.std) / math.sqrt(50)
    assert abs(returns.mean() - result.mean) <= 5 * spread + 1e-9, "false alarm below 1e-6"


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    (loop,) = compiled(tmp_path, learning_rate=1e30, max_gradient_norm=0.0, loss="squared")
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step"):
        loop.run()
    assert loop.saved_at == 0


def test_a_seed_whose_loss_is_not_finite_does_not_stop_the_others(tmp_path: Path) -> None:
    loops = compiled(tmp_path, seeds=(0, 1))
    for weights_of_one in loops[0].variables.agent.weights:
        weights_of_one.assign(weights_of_one * np.nan)
    statuses = ["failed"] * 2
    failures = run_together(loops, statuses)
    assert list(failures) == [0]
    assert "the loss is nan" in str(failures[0])
    assert statuses == ["failed", "finished"]
    assert loops[1].saved_at == loops[1].step == 2_048
