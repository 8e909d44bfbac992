"""The Python API as its callers meet it: types, arguments of wrong kinds, what is loaded, and by which backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlkit
from rlkit.errors import UserError

untyped: Any = rlkit
"""As a caller sees it who checks no types."""

QUICK: dict[str, Any] = {
    "preset": "none", "steps": 60, "learning_starts": 30, "hidden": (4,), "eval_interval": 0, "loop": "host",
    "jit": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> rlkit.Run:
    """A short run, trained with progress=True."""
    return rlkit.train("dqn", "CartPole-v1", run_dir=tmp_path_factory.mktemp("runs"), progress=True, **QUICK)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600
    )


SNIPPET = """
import rlkit

run = rlkit.train("dqn", "CartPole-v1", seed=0)
reveal_type(run)
reveal_type(run.evaluate(episodes=10).mean)
reveal_type(rlkit.solve("FrozenLake-v1"))
reveal_type(rlkit.fit("mlp", "digits"))
reveal_type(rlkit.load("runs"))
reveal_type(rlkit.resume("runs", steps=5))
reveal_type(rlkit.train_seeds("dqn", "CartPole-v1", [0]))
reveal_type(rlkit.compare)
rlkit.trian
rlkit.train(3)
"""


def test_the_public_names_have_types(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    root = Path(rlkit.__file__).parents[1]  # whose checks have filled mypy's cache
    command = [sys.executable, "-m", "mypy", str(tmp_path / "snippet.py")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=600)
    lines = [line.partition("snippet.py:")[2] for line in done.stdout.splitlines() if "snippet.py:" in line]
    told = {int(line.partition(":")[0]): line for line in lines}
    revealed = {number: line.partition('"')[2].rstrip('"') for number, line in told.items() if "Revealed" in line}
    assert [revealed[n] for n in range(5, 12)] == [
        "rlkit.api.agent_run.Run",
        "float",
        "rlkit.exact.solution.Solution",
        "rlkit.api.fitting.FitRun",
        "rlkit.api.agent_run.Run | rlkit.api.fitting.FitRun",
        "rlkit.api.agent_run.Run | rlkit.api.fitting.FitRun",
        "list[rlkit.api.agent_run.Run]",
    ], done.stdout
    assert "Comparison" in revealed[12]
    assert 'Module has no attribute "trian"' in told[13]
    assert 'expected "str"' in told[14]


def test_every_public_name_is_there_and_importing_rlkit_loads_none_of_them() -> None:
    done = python(
        "import sys, rlkit\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'gymnasium'} & set(sys.modules)\n"
        "rlkit.solve, rlkit.compare\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    assert done.returncode == 0, done.stderr
    assert all(getattr(rlkit, name) is not None for name in rlkit.__all__)


def made() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


ID = "expected the id of a registered env as text, such as 'CartPole-v1'"


@pytest.mark.parametrize(
    ("env", "how"),
    [
        (made(), "give 'CartPole-v1', and its arguments as env_args"),
        (made().spec, "give 'CartPole-v1', and its arguments as env_args"),
        (made, "register it, gymnasium.register("),
        (type(made().unwrapped), "register it, gymnasium.register("),
        (3, "register it, gymnasium.register("),
    ],
    ids=["made", "spec", "function", "class", "number"],
)
def test_an_env_that_is_no_id_is_refused_with_what_to_do(env: Any, how: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        rlkit.train("dqn", env=env, run_dir=tmp_path / "runs", **QUICK)
    assert ID in str(refused.value)
    assert how in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: untyped.train(dict, "CartPole-v1"), "agent is <class 'dict'>, expected a name, as text"),
        (lambda: untyped.train(["dqn"], "CartPole-v1"), "agent is ['dqn'], expected a name, as text"),
        (lambda: untyped.train("dqn", "CartPole-v1", preset=3), "preset of dqn is 3, expected a name, as text"),
        (lambda: untyped.train("dqn", "CartPole-v1", config=3), "config is 3, expected a path"),
        (lambda: untyped.train("dqn", "CartPole-v1", run_dir=None), "run_dir is None, expected a path"),
        (lambda: untyped.train("dqn", "CartPole-v1", progress=3), "progress is 3, expected True, False or a label"),
        (lambda: untyped.train_seeds("dqn", "CartPole-v1", 3), "seeds is 3, expected whole numbers"),
        (lambda: untyped.train_seeds("dqn", "CartPole-v1", []), "seeds is empty, expected at least one"),
        (lambda: untyped.solve(made), "the problem is <function made"),
        (lambda: untyped.solve(type(made().unwrapped)), "the problem is <class 'gymnasium"),
        (lambda: untyped.solve(gymnasium.spec("FrozenLake-v1")), "the problem is EnvSpec(id='FrozenLake-v1'"),
        (lambda: untyped.solve(None), "the problem is None, expected an env's id such as 'FrozenLake-v1', an env that"),
        (lambda: untyped.solve("FrozenLake-v1", 3, gamma=0.9), "solver is 3, expected a name, as text"),
        (lambda: untyped.solve("FrozenLake-v1", gamma="x"), "gamma is 'x', expected a number"),
        (lambda: untyped.solve("FrozenLake-v1", gamma=0.9, horizon=2.5), "horizon is 2.5, expected a whole number"),
        (
            lambda: untyped.solve("FrozenLake-v1", gamma=0.9, max_iterations=[]),
            "max_iterations is [], expected",
        ),
        (lambda: untyped.solve("FrozenLake-v1", gamma=0.9, tolerance="x"), "tolerance is 'x', expected a number"),
        (lambda: untyped.fit("mlp", np.zeros((2, 2))), "data set is array([[0., 0.], [0., 0.]]), expected a name"),
        (lambda: untyped.fit(dict, "digits"), "model is <class 'dict'>, expected a name, as text"),
        (lambda: untyped.fit("mlp", "digits", run_dir=3), "run_dir is 3, expected a path"),
        (lambda: untyped.load(None), "run is None, expected a path"),
        (lambda: untyped.resume(3), "run is 3, expected a path"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_in_a_sentence(
    call: Callable[[], Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        call()
    assert str(refused.value).startswith(told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"episodes": "many"}, "episodes is 'many', expected a whole number"),
        ({"episodes": 0}, "episodes is 0, expected at least 1"),
        ({"episodes": 1.5}, "episodes is 1.5, expected a whole number"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"epsilon": 2}, "epsilon is 2, expected at least 0 and at most 1"),
        ({"runtime": "onnx"}, "runtime is 'onnx', expected one of tensorflow, litert"),
        ({"checkpoint": 7}, "there is no checkpoint '7' in "),
    ],
    ids=str,
)
def test_an_evaluation_checks_its_arguments(arguments: dict[str, Any], told: str, run: rlkit.Run) -> None:
    with pytest.raises(UserError) as refused:
        run.evaluate(**arguments)
    assert str(refused.value).startswith(told)


def test_progress_true_is_a_bar_and_a_step_may_be_a_number(run: rlkit.Run) -> None:
    assert run.status == "finished"
    assert run.evaluate(episodes=2, checkpoint=60).step == 60  # type: ignore[arg-type] # as the step is known


@pytest.mark.parametrize("runtime", ["tensorflow", "litert"])
def test_a_policy_names_the_shape_and_dtype_that_it_takes(run: rlkit.Run, runtime: str) -> None:
    policy, _ = run.policy(1, "last", runtime)
    one = np.zeros(4, np.float32)
    assert policy(one[None]).shape == (1,)
    assert policy([[0, 0, 0, 0]]).shape == (1,)  # type: ignore[arg-type]
    n = "1" if runtime == "tensorflow" else "N"
    for observations, told in (
        (one, rf"are of shape \[4\], expected \[{n}, 4\], one observation a row: one .* is observation\[None\]$"),
        (np.zeros((1, 3)), rf"are of shape \[1, 3\], expected \[{n}, 4\], one observation a row$"),
        (np.array([["a"] * 4]), r"are of dtype <U1, expected float32$"),
    ):
        with pytest.raises(UserError, match="observations " + told):
            policy(observations)


def test_a_table_takes_whole_numbers_only(tmp_path: Path) -> None:
    run = rlkit.train("q-learning", "FrozenLake-v1", steps=100, eval_interval=0, run_dir=tmp_path)
    policy, _ = run.policy(2)
    assert policy(np.array([0, 1])).shape == (2,)
    with pytest.raises(UserError, match=r"^observations are of dtype float64, expected int32$"):
        policy(np.array([0.5, 1]))


@pytest.mark.parametrize("where", ["environment", "file"])
def test_keras_on_another_backend_is_one_sentence(where: str, tmp_path: Path) -> None:
    chosen = {"KERAS_BACKEND": "jax"}
    if where == "file":
        (tmp_path / "keras.json").write_text('{"backend": "torch"}')
        chosen = {"KERAS_BACKEND": "", "KERAS_HOME": str(tmp_path)}
    name, source = ("jax", "KERAS_BACKEND") if where == "environment" else ("torch", tmp_path / "keras.json")
    command = [sys.executable, "-m", "rlkit", "train", "dqn", "--env", "CartPole-v1"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **chosen}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"rlkit: Keras' backend is '{name}' ({source}), expected 'tensorflow': set KERAS_BACKEND=tensorflow in the "
        "environment before Keras is loaded\n"
    )
    assert not (tmp_path / "runs").exists()
    code = "import rlkit\ntry:\n    rlkit.train\nexcept Exception as e: print(type(e).__name__, e)"
    assert python(code, **chosen).stdout.startswith(f"UserError Keras' backend is '{name}'")
