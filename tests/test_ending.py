"""How runs end where one of a series fails, and where Ctrl-C comes twice or late."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlkit.api import agent_run, training
from rlkit.api.agent_run import Run
from rlkit.api.ending import in_turn
from rlkit.errors import FailedRunsError, UserError
from rlkit.loops.tabular import TabularLoop
from rlkit.runs.run_directory import RunDirectory

FIELDS: dict[str, Any] = {
    "steps": 400,
    "simulate": "env",
    "eval_interval": 0,
    "checkpoint_interval": 100,
    "preset": "none",
}


def train(folder: Path, seeds: list[int], say: Any = print) -> list[Run]:
    return training.train_seeds("q-learning", "FrozenLake-v1", seeds, run_dir=folder, say=say, **FIELDS)


def statuses(folder: Path) -> dict[int, str]:
    found = [json.loads(path.read_text()) for path in folder.rglob("run.json")]
    return {info["seed"]: info["status"] for info in found}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run of seed 0 fails at step 150."""
    whole = TabularLoop._cycle

    def cycle(self: TabularLoop) -> bool:
        if self.config.seed == 0 and self.step == 150:
            raise self._diverged("loss", float("nan"))
        return whole(self)

    monkeypatch.setattr(TabularLoop, "_cycle", cycle)


@pytest.mark.usefixtures("failing")
def test_a_series_goes_on_after_a_failed_seed_and_says_which_it_was(tmp_path: Path) -> None:
    with pytest.raises(
        FailedRunsError, match=r"^seed 0 failed: the loss is nan at step 150: .*; 2 of 3 seeds did"
    ) as told:
        train(tmp_path, [0, 1, 2])
    assert statuses(tmp_path) == {0: "failed", 1: "finished", 2: "finished"}
    assert [run.config.seed for run in told.value.runs] == [1, 2]
    assert list(told.value.failures) == [0]


class FirstBad(gymnasium.Env[np.ndarray, Any]):
    """Observes infinity in the copy that is made first."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(2)
    made = 0

    def __init__(self) -> None:
        FirstBad.made += 1
        self.size = np.inf if FirstBad.made == 1 else 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.array([self.size], np.float32), 1.0, bool(self.np_random.random() < 0.2), False, {}


gymnasium.register("test/FirstBad-v0", entry_point=lambda **_: FirstBad())


def test_a_fault_of_the_env_before_the_first_run_is_that_seeds(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"steps": 60, "learning_starts": 50, "buffer_size": 100, "batch_size": 4, "jit": False}
    with pytest.raises(
        FailedRunsError, match=r"^seed 0 failed: env 'test/FirstBad-v0': its observation holds inf"
    ) as told:
        training.train_seeds("dqn", "test/FirstBad-v0", [0, 1], run_dir=tmp_path, eval_interval=0, **fields)
    assert [run.config.seed for run in told.value.runs] == [1]
    assert statuses(tmp_path) == {1: "finished"}


@pytest.mark.usefixtures("failing")
def test_the_command_evaluates_the_other_seeds_and_exits_with_1(
    rl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words: tuple[object, ...] = (
        "train",
        "q-learning",
        "--env",
        "FrozenLake-v1",
        "--steps",
        400,
        "--simulate",
        "env",
        "--seeds",
        "0-2",
    )
    words = (*words, "--eval-interval", 0, "--final-episodes", 4, "--preset", "none")
    said = rl(*words)
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("seed 0 failed: the loss is nan at step 150")
    assert said.out.count("mean return") == 2
    assert "\n2 seeds, best agents: mean " in said.out
    found = json.loads(rl(*words, "--json").out)
    assert [row["seed"] for row in found["runs"]] == [1, 2]
    assert found["failed"]["0"].startswith("the loss is nan")
    alone = rl(*words[:-4], "--final-episodes", 0, "--seeds", 0)
    assert (alone.code, alone.out) == (1, "")


@pytest.mark.usefixtures("failing")
def test_a_run_that_fails_alone_says_only_why(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^the loss is nan at step 150: stopped; the last good checkpoint, of step 100"
    ):
        training.train("q-learning", "FrozenLake-v1", run_dir=tmp_path, seed=0, **FIELDS)
    assert statuses(tmp_path) == {0: "failed"}


def test_what_is_wrong_with_all_seeds_ends_the_series_at_once() -> None:
    begun = []

    def start(seed: int) -> list[Run]:
        begun.append(seed)
        raise UserError("the env refuses its arguments")

    with pytest.raises(UserError, match=r"^the env refuses its arguments$"):
        in_turn([3, 4], start)
    assert begun == [3]


@pytest.mark.parametrize(
    ("at", "status", "following"), [(150, "interrupted", "train --resume"), (400, "finished", "evaluate")]
)
def test_two_interrupts_or_a_late_one_keep_what_is_saved_and_say_how_to_go_on(
    at: int, status: str, following: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TabularLoop._cycle

    def cycle(self: TabularLoop) -> bool:
        going = whole(self)
        if self.step == at:
            signal.raise_signal(signal.SIGINT)
            if at < 400:
                signal.raise_signal(signal.SIGINT)
        return going

    monkeypatch.setattr(TabularLoop, "_cycle", cycle)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [5, 6], told.append)
    assert statuses(tmp_path) == {5: status}, "and the series is over"
    (path,) = (file.parent for file in tmp_path.rglob("run.json"))
    saved = {150: 100, 400: 400}[at]
    assert told[-1].startswith(f"seed 5: the run is {status} at step {saved}")
    assert told[-1].endswith(f"; go on with: rlkit {following} {path}")
    if status == "interrupted":
        monkeypatch.setattr(TabularLoop, "_cycle", whole)
        assert training.resume(path).status == "finished"
    assert RunDirectory(path).info["step"] == 400


def test_an_interrupted_evaluation_says_that_the_run_is_done(
    rl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(agent_run, "evaluate", interrupt)
    monkeypatch.chdir(tmp_path)
    said = rl("train", "q-learning", "--env", "FrozenLake-v1", "--steps", 50, "--eval-interval", 0, "--preset", "none")
    assert said.code == 130
    last = said.err.splitlines()[-1]
    assert last.startswith(
        "the evaluation was interrupted, the run is finished; go on with: rlkit evaluate runs/Frozen"
    )


def test_a_long_evaluation_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], list[str]()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = agent_run.watching(100, told.append)
    for steps in range(1, 13):
        now[0] += 1.0
        watch(steps // 5, steps)
    assert told == [
        "evaluation: 1 of 100 episodes have ended, after 5 steps of each env",
        "evaluation: 2 of 100 episodes have ended, after 10 steps of each env",
    ]
