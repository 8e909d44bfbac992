"""A checkpoint restores everything, and one that is damaged or cannot be written never costs the one before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.errors import UserError
from rlkit.files import steps_in
from rlkit.interaction.vector import Step
from rlkit.replay.uniform import Replay
from rlkit.runs.checkpoint import Checkpointer

SPACE, ACTIONS = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)


def agent(seed: int = 0) -> DQN:
    return DQN(DQNConfig(env="toy", hidden=(4,), seed=seed), SPACE, ACTIONS)


def fill(replay: Replay, steps: int, start: int = 0) -> None:
    for i in range(start, start + steps):
        o = np.full((1, 3), i, np.float32)
        flag = np.array([i % 7 == 0])
        replay.add(o, np.array([i % 2]), Step(o + 0.5, np.array([float(i)]), flag, ~flag, np.array([True])))


def variables(module: DQN) -> list[np.ndarray]:
    return [v.numpy() for v in tf.nest.flatten(module.kept)]


def saved_run(path: Path, steps: tuple[int, ...] = (10, 20, 30), capacity: int = 25) -> tuple[DQN, Replay]:
    """Checkpoints after 10, 20 and 30 transitions; weights and optimizer moved before each."""
    made, replay = agent(), Replay(capacity, 1, SPACE)
    checkpointer = Checkpointer(path, made, replay, keep=2)
    before = 0
    for step in steps:
        fill(replay, step - before, before)
        for v in made.q.trainable_variables:
            v.assign_add(tf.ones_like(v) * step)
        made.assign(tf.nest.map_structure(lambda value: value + 1, made.state()))
        checkpointer.save(step, {"counters": np.array(f"of step {step}")})
        before = step
    return made, replay


def restore(path: Path, capacity: int = 25) -> tuple[int, str, DQN, Replay, list[str]]:
    other, replay, told = agent(seed=1), Replay(capacity, 1, SPACE), list[str]()
    step, state = Checkpointer(path, other, replay, keep=2).restore(told.append)
    return step, str(state["counters"]), other, replay, told


def test_everything_comes_back(tmp_path: Path) -> None:
    made, replay = saved_run(tmp_path)
    step, counters, other, again, told = restore(tmp_path)
    assert (step, counters, told) == (30, "of step 30", [])
    assert all(np.array_equal(a, b) for a, b in zip(variables(made), variables(other), strict=True))
    for name, field in replay.fields.items():
        np.testing.assert_array_equal(field, again.fields[name])
    np.testing.assert_array_equal(replay.written, again.written)


def test_only_what_is_new_is_written_and_what_no_checkpoint_needs_is_deleted(tmp_path: Path) -> None:
    saved_run(tmp_path, tuple(range(10, 101, 10)))
    assert steps_in(tmp_path) == [100, 90]
    # the checkpoint of step 90 needs the last 25 rows before it: 66 to 90, in the segments of 70, 80 and 90
    segments = {f.name: dict(np.load(f)) for f in tmp_path.glob("replay-*.npz")}
    assert set(segments) == {f"replay-{s}.npz" for s in (70, 80, 90, 100)}
    assert all(len(s["reward"]) == 10 for s in segments.values())


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for i in range(len(content) // 3, 2 * len(content) // 3):
        content[i] ^= 0xFF
    file.write_bytes(bytes(content))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, flip, empty, one_bit, folder, Path.unlink])
@pytest.mark.parametrize(
    "name", ["digests-30.json", "ckpt-30.index", "ckpt-30.data-00000-of-00001", "replay-30.npz", "checkpoint"]
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    saved_run(tmp_path)
    damage(tmp_path / name)
    step, counters, other, replay, told = restore(tmp_path)
    if name == "checkpoint":  # TensorFlow's list of checkpoints: not needed to find them
        assert (step, told) == (30, [])
    else:
        assert (step, counters) == (20, "of step 20")
        assert replay.written[0] == 20
        assert len(told) == 1
        assert told[0].startswith(f"the checkpoint of step 30 is damaged and passed over ({name} ")
    # and the run goes on from there: what it writes next is good
    Checkpointer(tmp_path, other, replay, keep=2).save(30 + (step == 30), {"counters": np.array("next")})
    assert restore(tmp_path)[:2] == (30 + (step == 30), "next")


@pytest.mark.parametrize("damage", [cut, one_bit, Path.unlink])
def test_an_old_segment_of_the_replay_costs_its_own_rows(damage: Callable[[Path], None], tmp_path: Path) -> None:
    _, replay = saved_run(tmp_path, (10, 20, 30, 40), capacity=100)
    damage(tmp_path / "replay-20.npz")  # rows 10 to 19, which each of the checkpoints needs
    step, counters, other, again, told = restore(tmp_path, capacity=100)
    assert (step, counters) == (40, "of step 40")
    assert len(told) == 1
    assert told[0].startswith("a part of the replay is damaged (replay-20.npz ")
    assert told[0].endswith("): no draw takes what each env stored as its rows 10 to 19")
    drawn = again.sample(np.arange(0, 2**32, 2**25, dtype=np.uint32)[None])
    assert set(drawn.reward[0].astype(int)) == {*range(10), *range(20, 40)}
    # the next checkpoints are whole but for these rows, as long as they would be held
    checkpointer = Checkpointer(tmp_path, other, again, keep=2)
    assert checkpointer.restore(told.append)[0] == 40
    fill(again, 10, 40)
    checkpointer.save(50, {"counters": np.array("of step 50")})
    step, _, _, third, told = restore(tmp_path, capacity=100)
    assert (step, len(told)) == (50, 1)
    np.testing.assert_array_equal(third.usable(), [40])
    assert replay.usable().tolist() == [40]


def test_a_bit_of_a_checkpoint_of_old_is_found_as_it_was(tmp_path: Path) -> None:
    saved_run(tmp_path)
    for file in tmp_path.glob("digests-*"):  # which versions of old did not write
        file.unlink()
    assert restore(tmp_path)[0::4] == (30, [])
    cut(tmp_path / "ckpt-30.index")
    step, _, other, replay, told = restore(tmp_path)
    assert step == 20
    assert told[0].startswith("the checkpoint of step 30 is damaged and passed over")
    Checkpointer(tmp_path, other, replay, keep=2).save(25, {"counters": np.array("next")})
    assert (tmp_path / "digests-25.json").exists()


def test_without_a_good_checkpoint_the_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint in"):
        restore(tmp_path / "none")
    saved_run(tmp_path)
    for file in tmp_path.glob("ckpt-*"):
        cut(file)
    with pytest.raises(UserError, match=r"none of the 2 checkpoints in .* can be read; the one of step 30: ckpt-30"):
        restore(tmp_path)


def test_the_best_agent_is_kept_beside_the_last(tmp_path: Path) -> None:
    made, replay = saved_run(tmp_path)
    checkpointer = Checkpointer(tmp_path, made, replay)
    best = variables(made)
    checkpointer.keep_best(30)
    made.q.trainable_variables[0].assign_add(tf.ones_like(made.q.trainable_variables[0]))
    assert not (tmp_path / "best").exists(), "written with the next checkpoint"
    checkpointer.save(40, {"counters": np.array("")})
    np.testing.assert_array_equal(made.q.variables[0].numpy(), best[0] + 1, "the agent goes on as it was")
    other = agent(seed=2)
    reader = Checkpointer(tmp_path, other)
    assert reader.restore_agent("best") == 30
    np.testing.assert_array_equal(other.q.variables[0].numpy(), best[0])
    assert reader.restore_agent("last") == 40
    np.testing.assert_array_equal(other.q.variables[0].numpy(), best[0] + 1)
    assert reader.restore_agent("20") == 20
    with pytest.raises(UserError, match=r"no checkpoint '25' in .*: there is best, last, 20, 30, 40"):
        reader.restore_agent("25")


def bests(path: Path) -> tuple[DQN, list[np.ndarray]]:
    """A run with checkpoints of steps 10 to 40, whose best agents are those of 10 and 30; their first weights."""
    made, seen = agent(), []
    checkpointer = Checkpointer(path, made, keep=2)
    for step in (10, 20, 30, 40):
        weight = made.q.trainable_variables[0]
        weight.assign_add(tf.ones_like(weight) * step)
        if step in (10, 30):
            checkpointer.keep_best(step, float(step))
            seen.append(weight.numpy())
        checkpointer.save(step, {"counters": np.array(f"of step {step}")})
    return made, seen


@pytest.mark.parametrize("damage", [cut, flip, empty, one_bit, Path.unlink])
@pytest.mark.parametrize("end", ["index", "data-00000-of-00001", "digests"])
def test_a_damaged_best_agent_is_told_and_never_the_last(
    end: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    _, (first, second) = bests(tmp_path)
    other = agent(seed=2)
    reader = Checkpointer(tmp_path, other)
    assert reader.restore_agent() == 30
    np.testing.assert_array_equal(other.q.trainable_variables[0].numpy(), second)
    damage(tmp_path / "best" / ("digests-30.json" if end == "digests" else f"ckpt-30.{end}"))
    with pytest.raises(
        UserError, match=r"'best', of step 30, .* damaged .*: try another with --checkpoint: 30, 10, 40, last$"
    ):
        reader.restore_agent()
    assert reader.restore_agent("last") == 40
    assert reader.restore_agent("10") == 10, "the best one before it is there still"
    np.testing.assert_array_equal(other.q.trainable_variables[0].numpy(), first)
    # no checkpoint that is kept has another best agent: the newest goes on with the one before
    said: list[str] = []
    again = Checkpointer(tmp_path, agent(seed=3), keep=2)
    assert again.restore(said.append)[0] == 40
    assert len(said) == 1
    assert said[0].startswith("the best agent, of step 30, is damaged (best/")
    assert said[0].endswith("the one before it, of step 10, counts in its place")
    assert (again.best_lost, again.best_score) == (True, 10.0)
    again.save(50, {"counters": np.array("")})
    assert Checkpointer(tmp_path, agent(seed=4)).restore_agent() == 10


def test_a_checkpoint_whose_best_agent_is_whole_comes_before_one_whose_is_not(tmp_path: Path) -> None:
    made, _ = bests(tmp_path)
    checkpointer, told = Checkpointer(tmp_path, made, keep=2), list[str]()
    checkpointer.restore(told.append)
    checkpointer.keep_best(50, 50.0)
    checkpointer.save(50, {"counters": np.array("of step 50")})
    cut(tmp_path / "best" / "ckpt-50.index")
    other = Checkpointer(tmp_path, agent(seed=5), keep=2)
    assert str(other.restore(told.append)[1]["counters"]) == "of step 40"
    assert other.best_lost is False
    assert len(told) == 1
    assert told[0].startswith("the checkpoint of step 50 is damaged and passed over (best/ckpt-50.index has ")


def test_a_lost_best_agent_without_another_stays_told(tmp_path: Path) -> None:
    made = agent()
    checkpointer, told = Checkpointer(tmp_path, made, keep=1), list[str]()
    checkpointer.keep_best(10, 1.0)
    checkpointer.save(10, {"counters": np.array("")})
    (tmp_path / "best" / "ckpt-10.index").unlink()
    again = Checkpointer(tmp_path, made, keep=1)
    again.restore(told.append)
    assert told[0].endswith("is missing): the next evaluation's counts in its place")
    assert (again.best_lost, again.best_score) == (True, None)
    again.save(20, {"counters": np.array("")})
    with pytest.raises(
        UserError, match=r"'best', of step 10, .* is missing\): try another with --checkpoint: 20, last"
    ):
        Checkpointer(tmp_path, made).restore_agent()


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import numpy as np
from test_checkpoint import agent, fill, saved_run, SPACE
from rlkit.runs.checkpoint import Checkpointer
from rlkit.errors import UserError
from rlkit.replay.uniform import Replay
folder = Path({folder!r})
made, replay = saved_run(folder, (10, 20), capacity=20_000)
checkpointer = Checkpointer(folder, made, replay, keep=2)
fill(replay, 10_000, 20)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
state = {{"counters": np.array("x" * {size})}}
try:
    checkpointer.save(10_020, state)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("limit", "size"),
    [(50_000, 1), (2_000_000, 5_000_000)],
    ids=["no room for the replay", "no room for the rest"],
)
def test_a_full_disk_costs_nothing_that_was_saved(limit: int, size: int, tmp_path: Path) -> None:
    # a limit on the size of a file ends a write half-way, as a full disk does
    script = FULL.format(tests=str(Path(__file__).parent), folder=str(tmp_path), limit=limit, size=size)
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "the checkpoint of step 10020 cannot be written" in result.stdout
    assert "the last good checkpoint is of step 20" in result.stdout
    step, counters, *_ = restore(tmp_path, capacity=20_000)
    assert (step, counters) == (20, "of step 20")
    assert not list(tmp_path.glob(".*.part"))
