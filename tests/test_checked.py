"""Envs that break Gymnasium's interface: each fault is one sentence, and what they hand out is copied."""

from __future__ import annotations

import csv
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

import rlkit
from rlkit.api.agent_run import Run
from rlkit.api.training import resume, train
from rlkit.errors import EnvError, UserError
from rlkit.interaction.checked import Observations
from rlkit.interaction.evaluation import evaluate
from rlkit.interaction.vector import Environments, OneEnv, make_vector

SMALL: dict[str, Any] = {
    "preset": "none", "learning_starts": 20, "batch_size": 4, "buffer_size": 200, "hidden": (4,), "jit": False,
    "log_interval": 50, "eval_interval": 0, "checkpoint_interval": 1000,
}  # fmt: skip


class Walk(gymnasium.Env[Any, Any]):
    """Five cells from the middle one on; `how` names what it does wrong."""

    action_space = spaces.Discrete(2)
    crash_at = 0
    """Step, over all envs of this process, that raises; 0: none."""
    steps = 0

    def __init__(self, render_mode: str | None = None, how: str = "") -> None:
        self.render_mode, self.how, self.cell = render_mode, how, 2
        shape: tuple[int, ...] = (5,)
        of: tuple[float, Any] = (255, np.uint8) if "uint8" in how else (1, np.float32)
        self.observation_space = spaces.Box(0, of[0], shape, of[1])
        self.buffer = np.zeros(5, np.float32)

    def seen(self) -> Any:
        row = (np.arange(5) == self.cell).astype(np.float32)
        if self.how == "in place":
            self.buffer[:] = row
            return self.buffer
        wrong: dict[str, Callable[[], Any]] = {
            "one axis more": lambda: row[:, None],
            "one number less": lambda: row[:4],
            "floats in uint8": lambda: row / 2,
            "below uint8": lambda: row.astype(np.int64) - 1,
            "words": lambda: ["a"] * 5,
            "ragged": lambda: [[1], [1, 2]],
            "NaN seen": lambda: row * np.float32(np.nan),
            "infinite": lambda: np.where(row, np.float32(np.inf), row),
        }
        return wrong.get(self.how, lambda: row)()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.cell = 2
        wrong = {"bare reset": self.seen(), "reset None": None, "info None": (self.seen(), None)}
        info = {"action_mask": np.ones(2, np.int8)} if self.how == "mask" else {}
        return wrong.get(self.how, (self.seen(), info))

    def step(self, action: int) -> Any:
        Walk.steps += 1
        if Walk.crash_at and Walk.steps >= Walk.crash_at:
            raise RuntimeError("the simulator is\ngone")
        self.cell += 1 if action else -1
        ended: Any = self.cell in (0, 4)
        reward: Any = float(self.cell == 4)
        if self.how == "four values":
            return self.seen(), reward, ended, {}
        rewards = {"reward [1]": np.array([reward]), "reward []": np.array(reward, np.float32), "reward None": None,
                   "reward [2]": np.zeros(2), "NaN paid": float("nan"), "integer": int(reward),
                   "beyond float": 10**400, "beyond float32": 1e300}  # fmt: skip
        flags: dict[str, Any] = {"ended 0 or 1": int(ended), "ended 2": 2, "ended NumPy": np.bool_(ended)}
        truncated = None if self.how == "truncated None" else False
        return self.seen(), rewards.get(self.how, reward), flags.get(self.how, ended), truncated, {}


class OldReset(Walk):
    def reset(self) -> Any:  # type: ignore[override]
        return Walk.reset(self)


class NoOptions(Walk):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return Walk.reset(self, seed=seed)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    kinds: dict[str, Any] = {
        "Walk-v0": Walk,
        "OldReset-v0": OldReset,
        "NoOptions-v0": NoOptions,
        "Cells-v0": Cells,
        "Single-v0": Single,
    }
    for name, kind in kinds.items():
        gymnasium.register(name, entry_point=kind, max_episode_steps=50)
    Walk.crash_at, Walk.steps = 0, 0
    yield
    for name in kinds:
        del gymnasium.registry[name]


FINE = ("", "in place", "reward [1]", "reward []", "integer", "ended 0 or 1", "ended NumPy", "mask")
FAULTS = {
    "four values": r"step\(\) returns 4 values; expected the five values observation, reward, terminated, truncated",
    "bare reset": r"reset\(\) returns array.*; expected the two values observation, info",
    "reset None": r"reset\(\) returns None; expected the two values",
    "info None": "its info is None; expected a dictionary",
    "one axis more": r"its observation has the shape \(5, 1\); expected \(5,\)",
    "one number less": r"its observation has the shape \(4,\); expected \(5,\)",
    "floats in uint8": "its observation has the dtype float32; expected uint8",
    "below uint8": "its observation is .*, beyond uint8",
    "words": "its observation is .*'a'.*; expected one of Box",
    "ragged": r"its observation is \[\[1\], \[1, 2\]\]; expected one of Box",
    "NaN seen": "its observation holds nan; expected finite numbers, at the start of the episode of seed",
    "infinite": "its observation holds inf; expected finite numbers",
    "reward None": "its reward is None; expected a number",
    "reward [2]": r"its reward is array\(\[0., 0.\]\); expected a number",
    "beyond float": "its reward is inf; expected a finite number that float32 can hold, at most 3.4e38",
    "beyond float32": r"its reward is 1e\+300; expected a finite number that float32 can hold, at most 3.4e38",
    "NaN paid": "its reward is nan; expected a finite number that float32 can hold, at most 3.4e38",
    "ended 2": "its terminated is 2; expected true or false",
    "truncated None": "its truncated is None; expected true or false",
}


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("how", [*FINE, *FAULTS])
def test_one_env_and_several_are_taken_or_refused_alike(how: str, num_envs: int) -> None:
    def play() -> Environments:
        envs = Environments(make_vector("Walk-v0", {"how": how}, num_envs, "sync"), 0)
        for _ in range(9):
            result = envs.step(np.ones(num_envs, np.int32))
            assert result.reward.shape == result.terminated.shape == (num_envs,)
            assert result.reward.dtype == np.float64
        return envs

    if how in FAULTS:
        with pytest.raises(EnvError, match=f"env 'Walk-v0': {FAULTS[how]}"):
            play()
    else:
        assert play().masks == (how == "mask")


@pytest.mark.parametrize(
    ("env", "missing"), [("OldReset-v0", "no seed and no options"), ("NoOptions-v0", "no options")]
)
def test_a_reset_of_before_seeds_is_refused(env: str, missing: str) -> None:
    with pytest.raises(EnvError, match=rf"its reset\(\) takes {missing}; expected reset\(self, \*, seed=None"):
        Environments(make_vector(env, {}, 1, "sync"), 0)


class Counter(gymnasium.Env[Any, Any]):
    """Counts its steps in the array that it hands out."""

    observation_space, action_space = spaces.Box(0, 1e6, (1,), np.float32), spaces.Discrete(2)

    def __init__(self) -> None:
        self.state = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.state[:] = 0
        return self.state, {}

    def step(self, action: int) -> Any:
        self.state += 1
        return self.state, 1.0, False, bool(self.state[0] >= 9), {}


class CounterVector(VectorEnv):
    """Two of it as a vector env of their own, which writes over all its arrays."""

    def __init__(self) -> None:
        self.num_envs, self.metadata = 2, {"autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space, self.single_action_space = Counter.observation_space, Counter.action_space
        self.state, self.ended = np.zeros((2, 1), np.float32), np.zeros(2, np.bool_)
        self.paid, self.never = np.zeros(2), np.zeros(2, np.bool_)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        self.state[(options or {}).get("reset_mask", slice(None))] = 0
        return self.state, {}

    def step(self, actions: np.ndarray) -> Any:
        self.state += 1
        self.paid += 1
        self.ended[:] = self.state[:, 0] >= 9
        return self.state, self.paid, self.never, self.ended, {}


@pytest.mark.parametrize("make", [lambda: OneEnv(Counter), CounterVector], ids=["one", "native"])
def test_arrays_that_an_env_writes_over_are_copied(make: Callable[[], VectorEnv]) -> None:
    envs = Environments(make(), 0)
    rows = []
    for _ in range(30):
        before = envs.observation
        rows.append((before, envs.step(np.zeros(envs.num_envs, np.int32))))
    for i, (before, step) in enumerate(rows):
        # an episode is nine steps: observation i mod 9, and the next one is larger by 1, also at its end
        assert (before == i % 9).all()
        assert (step.next_observation == i % 9 + 1).all()
        assert (step.truncated == (i % 9 == 8)).all()
    seen = []

    def policy(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return np.zeros(len(observations), np.int32)

    evaluate(policy, make(), 2, 0)
    assert [int(o[0, 0]) for o in seen[:9]] == list(range(9))


class Cells(gymnasium.Env[Any, Any]):
    """Its states are counted from 1 in Discrete(5): the last one is outside."""

    observation_space, action_space = spaces.Discrete(5), spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.cell = 3

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.cell = 3
        return self.cell, {}

    def step(self, action: int) -> Any:
        self.cell += 1 if action else -1
        return self.cell, float(self.cell == 5), self.cell in (1, 5), False, {}


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_state_outside_its_space_is_refused(num_envs: int) -> None:
    envs = Environments(make_vector("Cells-v0", {}, num_envs, "sync"), 0)
    envs.step(np.ones(num_envs, np.int32))
    with pytest.raises(
        EnvError, match=r"its observation is 5; expected one of Discrete\(5\), at step 2 of the episode"
    ):
        envs.step(np.ones(num_envs, np.int32))


@pytest.mark.parametrize(("num_envs", "how"), [(1, "sync"), (2, "sync"), (2, "native")])
@pytest.mark.parametrize("action", [-1, 2])
def test_an_action_outside_its_space_is_refused(action: int, num_envs: int, how: str) -> None:
    envs = Environments(make_vector("CartPole-v1", {}, num_envs, how), 0)
    with pytest.raises(UserError, match=rf"{action}.*; expected .* of Discrete\(2\), of env 'CartPole-v1'"):
        envs.step(np.full(num_envs, action))


@pytest.mark.parametrize(
    ("space", "value", "kept"),
    [
        (spaces.Discrete(3, start=-1), np.int8(-1), -1),
        (spaces.Discrete(3), np.array(2), 2),
        (spaces.Box(0, 255, (2,), np.uint8), [0, 255], [0, 255]),
        (spaces.Box(0, 1, (2,), np.float32), [0, 1], [0, 1]),
        (spaces.Box(0, 1, (2,), np.float32), np.array([0.1, 1e-30]), np.array([0.1, 1e-30], np.float32)),
        (spaces.Box(0, 1, (), np.float64), 0.5, 0.5),
        (spaces.Box(0, 1, (2, 0), np.float32), np.zeros((2, 0)), np.zeros((2, 0))),
    ],
)
def test_observations_become_the_spaces_dtype(space: Any, value: Any, kept: Any) -> None:
    found = Observations(space).read(value)
    np.testing.assert_array_equal(found, kept)
    assert found.dtype == space.dtype


@pytest.mark.parametrize("space", [
    spaces.Dict({"x": spaces.Box(0, 9, (2,), np.float32)}), spaces.Tuple((spaces.Box(0, 9, (2,), np.float32),)),
], ids=["dict", "tuple"])  # fmt: skip
def test_observations_of_several_parts_are_copied_with_their_parts(space: Any) -> None:
    inner = np.zeros(2, np.float32)
    found = Observations(space).read({"x": inner} if isinstance(space, spaces.Dict) else (inner,))
    inner += 5
    np.testing.assert_array_equal(found["x" if isinstance(space, spaces.Dict) else 0], [0, 0])


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(3), 3), (spaces.Discrete(3), -1), (spaces.Discrete(3), 1.0), (spaces.Discrete(3), [1]),
        (spaces.Discrete(3, start=1), 0), (spaces.MultiDiscrete([2, 3]), [1, 3]), (spaces.MultiBinary(2), [0, 2]),
        (spaces.Box(0, 255, (2,), np.uint8), [0, 256]), (spaces.Box(0, 1, (1,), np.float32), [1e300]),
        (spaces.Box(0, 1, (1,), cast("Any", np.bool_)), [2]), (spaces.Box(0, 1, (1,), np.float32), None),
    ],
)  # fmt: skip
def test_observations_that_the_space_cannot_hold_are_refused(space: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        Observations(space).read(value)


@pytest.mark.parametrize(("agent", "fields"), [
    ("dqn", {"train_interval": 3}),
    ("dqn", {"network": "lstm", "burn_in": 2, "sequence_length": 4}),
    ("pqn", {"num_envs": 1, "rollout_length": 20, "minibatches": 2}),
])  # fmt: skip
def test_a_run_whose_env_fails_is_saved_and_goes_on_bit_for_bit(
    agent: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields = {**SMALL, "steps": 120, "env_args": {"how": "ended 0 or 1"}, **fields}
    if agent != "dqn":
        fields = {k: v for k, v in fields.items() if k not in ("learning_starts", "batch_size", "buffer_size")}
    whole = train(agent, "Walk-v0", run_dir=tmp_path / "whole", **fields)
    Walk.steps, Walk.crash_at = 0, 32 + 67  # the trial before training takes 2 times 16 steps
    with pytest.raises(UserError) as caught:
        train(agent, "Walk-v0", run_dir=tmp_path / "broken", **fields)
    Walk.crash_at = 0
    broken = rlkit.load(tmp_path / "broken")
    said = r"env 'Walk-v0': step\(\) raised RuntimeError: the simulator is gone, at step \d+ of the episode of seed \d+"
    said += rf"; training stopped at step 66, saved at 66: resume with rlkit train --resume {broken.path}$"
    assert re.search(said, str(caught.value)), str(caught.value)
    heard: list[str] = []
    resumed = resume(broken.path, say=heard.append)
    assert "resumed at step 66" in heard
    assert not any("fresh episodes" in line for line in heard)
    for a, b in zip(variables(whole), variables(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_action_mask_is_not_ignored_in_silence(tmp_path: Path) -> None:
    heard: list[str] = []
    train("dqn", "Walk-v0", run_dir=tmp_path, say=heard.append, steps=30, env_args={"how": "mask"}, **SMALL)
    assert "env 'Walk-v0' reports an action_mask, which is ignored: agents may take any action" in heard


class Single(gymnasium.Env[Any, Any]):
    """Only so many copies of it can be open."""

    observation_space, action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)
    opened = 0

    def __init__(self, render_mode: str | None = None, most: int = 1) -> None:
        if Single.opened == most:
            raise OSError(98, "Address already in use")
        Single.opened += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 9
        return np.array([self.np_random.random()], np.float32), {}

    def step(self, action: int) -> Any:
        self.left -= 1
        return np.array([self.np_random.random()], np.float32), float(action), self.left == 0, False, {}

    def close(self) -> None:
        Single.opened -= 1


def test_an_env_of_which_one_copy_can_be_open_trains_as_any_other(tmp_path: Path) -> None:
    fields = {**SMALL, "steps": 95, "eval_interval": 40, "eval_episodes": 3, "learning_starts": 10}
    heard: list[str] = []
    single = train("dqn", "Single-v0", run_dir=tmp_path / "single", say=heard.append, **fields)
    assert any("evaluations play in these" in line for line in heard)
    assert Single.opened == 0
    several = train("dqn", "Single-v0", run_dir=tmp_path / "several", env_args={"most": 9}, **fields)
    names = ("step", "episode", "episode_return", "loss", "mean")
    assert columns(single.path / "metrics.csv", names) == columns(several.path / "metrics.csv", names)
    for a, b in zip(variables(single), variables(several), strict=True):
        np.testing.assert_array_equal(a, b)


def variables(run: Run) -> list[np.ndarray]:
    agent = cast("tf.Module", run.agent("last")[0])
    return [variable.numpy() for variable in agent.variables]


def columns(path: Path, names: tuple[str, ...]) -> list[tuple[str | None, ...]]:
    return [tuple(row.get(name) for name in names) for row in csv.DictReader(path.read_text().splitlines())]


def test_an_env_that_cannot_be_made_is_told_and_closes_its_copies() -> None:
    with pytest.raises(UserError, match=r"Single-v0 cannot be made: it raised OSError: .*Address already in use"):
        make_vector("Single-v0", {}, 2, "sync")
    assert Single.opened == 0


class Dies(Walk):
    """Its process ends at the third step of the second copy."""

    def step(self, action: int) -> Any:
        name = multiprocessing.current_process().name
        if Walk.steps == 2 and name.endswith("-1"):
            if self.how == "raises":
                raise RuntimeError("no more")
            if self.how == "exits":
                sys.exit("out of licences")
            os._exit(3)
        return super().step(action)


gymnasium.register("DiesInWorker-v0", entry_point=cast("Any", Dies), max_episode_steps=50)


@pytest.mark.parametrize(("how", "text"), [
    ("", "the process of copy 1 of 2 has died, with the exit code 3"),
    ("raises", r"step\(\) raised RuntimeError: no more, at step 1 of the episode of seed"),
    ("exits", r"step\(\) raised SystemExit: out of licences, at step 1 of the episode of seed"),
])  # fmt: skip
def test_a_worker_that_dies_is_told_and_closing_does_not_wait(how: str, text: str) -> None:
    envs = Environments(make_vector("tests.test_checked:DiesInWorker-v0", {"how": how}, 2, "async"), 0)
    for _ in range(2):
        envs.step(np.zeros(2, np.int32))
    with pytest.raises(EnvError, match=text):
        envs.step(np.zeros(2, np.int32))
    begun = time.monotonic()
    envs.close()
    assert time.monotonic() - begun < 20
    assert not any(process.is_alive() for process in envs.envs.processes)  # type: ignore[attr-defined]
