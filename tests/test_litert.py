"""Policies as .tflite: by LiteRT alone, with a memory, in an interpreter that has no TensorFlow, and as a runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlkit.api import agent_run, training
from rlkit.api.playing import play
from rlkit.api.policy_models import write_tflite
from rlkit.errors import UserError
from rlkit.export.litert import LiteRT, LiteRTPolicy

Command = Callable[..., Any]
TINY: dict[str, Any] = {
    "preset": "none", "steps": 400, "learning_starts": 100, "hidden": (16,), "eval_interval": 0, "buffer_size": 500,
    "epsilon_duration": 300,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> agent_run.Run:
    return training.train("dqn", "CartPole-v1", run_dir=tmp_path_factory.mktemp("runs"), **TINY)


@pytest.fixture(scope="module")
def file(run: agent_run.Run) -> Path:
    path = run.path / "policy.tflite"
    write_tflite(run.agent()[0], path)
    return path


def written(path: Path, function: Callable[..., dict[str, tf.Tensor]], *specs: tf.TensorSpec) -> Path:
    """A .tflite of a function."""
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert())
    return path


def test_a_policy_is_that_of_the_function_in_the_file(tmp_path: Path) -> None:
    def answer(observation: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"action": tf.cast(observation[:, 0] > observation[:, 1], tf.int32), "q_values": 2 * observation}

    path = written(tmp_path / "f.tflite", answer, tf.TensorSpec([1, 2], tf.float32, "observation"))
    policy = LiteRTPolicy(path, 3)
    assert policy.shape == (2,)
    actions = policy(np.array([[1, 2], [3, 2], [0, 0]], np.float64))  # another dtype is brought to the file's
    assert actions.tolist() == [0, 1, 0]
    assert policy(np.array([[2.0, 1.0]], np.float32)).tolist() == [1]
    found = LiteRT(path)({"observation": np.array([[4, 5]], np.float32)})
    assert {name: value.tolist() for name, value in found.items()} == {"action": [0], "q_values": [[8, 10]]}


def test_a_memory_is_each_envs_own_and_ends_with_the_episode(tmp_path: Path) -> None:
    def answer(observation: tf.Tensor, memory: tf.Tensor) -> dict[str, tf.Tensor]:
        total = memory + observation  # what was seen of the episode, added up
        return {"action": tf.cast(total[:, 0], tf.int32), "next_memory": total}

    specs = [tf.TensorSpec([1, 1], tf.float32, name) for name in ("observation", "memory")]
    policy = LiteRTPolicy(written(tmp_path / "f.tflite", answer, *specs), 2)
    assert policy(np.array([[1.0], [10.0]])).tolist() == [1, 10]
    assert policy(np.array([[2.0], [20.0]])).tolist() == [3, 30]
    policy.reset(np.array([False, True]))
    assert policy(np.array([[3.0], [5.0]])).tolist() == [6, 5]


def test_a_recurrent_agents_file_plays_as_the_agent(tmp_path: Path) -> None:
    memory: dict[str, Any] = {"network": "lstm", "lstm_units": 8, "sequence_length": 4, "burn_in": 2, "batch_size": 4}
    run = training.train("dqn", "rlkit/MaskedCartPole-v0", run_dir=tmp_path, **TINY, **memory)
    write_tflite(run.agent()[0], tmp_path / "f.tflite")
    found = play(tmp_path / "f.tflite", "rlkit/MaskedCartPole-v0", {}, 25, 3)
    expected = run.evaluate(25, 3)
    assert found.returns == expected.returns


def test_the_runtime_changes_no_action(run: agent_run.Run) -> None:
    by_tensorflow, by_litert = (run.evaluate(30, 1, runtime=runtime) for runtime in ("tensorflow", "litert"))
    assert by_tensorflow.to_dict() == by_litert.to_dict()
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    policies = [run.policy(64, runtime=runtime)[0] for runtime in ("tensorflow", "litert")]
    np.testing.assert_array_equal(policies[0](observations), policies[1](observations))


def test_play_needs_no_tensorflow(run: agent_run.Run, file: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"  # importing them raises
        "from rlkit.cli import main\n"
        f"main(['play', {str(file)!r}, '--env', 'CartPole-v1', '--episodes', '25', '--json'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    found = json.loads(result.stdout)
    expected = run.evaluate(25, 0)
    assert found["returns"] == list(expected.returns)
    assert found["mean"] == expected.mean


def test_play_prints_and_films(rl: Command, file: Path) -> None:
    said = rl("play", file, "--env", "CartPole-v1", "--episodes", 3, "--seed", 5, "--to", "first.gif")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("mean return ")
    assert " over 3 episodes, 95% interval " in lines[0]
    assert lines[1] == "first.gif"
    assert Path("first.gif").read_bytes()[:3] == b"GIF"


def test_evaluate_and_render_take_the_runtime(rl: Command, run: agent_run.Run) -> None:
    found = [
        json.loads(rl("evaluate", run.path, "--episodes", 10, "--runtime", runtime, "--json").out)
        for runtime in ("tensorflow", "litert")
    ]
    assert found[0] == found[1]
    shown = rl("render", run.path, "--to", "a.gif", "--runtime", "litert")
    assert shown.code == 0, shown.err
    assert shown.out == rl("render", run.path, "--to", "a.gif").out


def test_arguments_reach_the_env(rl: Command, file: Path) -> None:
    short = rl("play", file, "--env", "CartPole-v1", "--set", "sutton_barto_reward=true", "--episodes", 4, "--json")
    assert set(json.loads(short.out)["returns"]) <= {-1.0, 0.0}  # that reward is -1 where the pole falls, else 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--env", "Acrobot-v1"), "takes observations of the shape (4,), and those of Acrobot-v1 have (6,)"),
        (("--env", "CartPole-v7"), "unknown env 'CartPole-v7'"),
        (("--env", "CartPole-v1", "--set", "speed"), "--set is 'speed', expected NAME=VALUE"),
        (("--env", "CartPole-v1", "--set", "speed=3"), "refuses its arguments"),
        (("--env", "CartPole-v1", "--to", "film.avi"), "must end in"),
        ((), "missing option '--env'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words: tuple[str, ...], sentence: str, rl: Command, file: Path) -> None:
    said = rl("play", file, *words)
    assert said.code == 2
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_files_of_something_else_are_refused(rl: Command, tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("no model")
    assert "is no .tflite with one signature" in rl("play", "text.tflite", "--env", "CartPole-v1").err
    assert "none.tflite is no file" in rl("play", "none.tflite", "--env", "CartPole-v1").err
    written(tmp_path / "f.tflite", lambda x: {"y": 2 * x}, tf.TensorSpec([1, 2], tf.float32, "x"))
    with pytest.raises(UserError, match=r"is of no agent: it takes x and gives y, expected observation and action"):
        LiteRTPolicy(tmp_path / "f.tflite")
