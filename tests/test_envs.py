"""Looking envs up by id, and the arguments that they take."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled, DeprecatedEnv

from rlkit.envs import lookup
from rlkit.errors import UserError, install

ARGUMENTS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"sutton_barto_reward": False},
    "Acrobot-v1": {},
    "MountainCar-v0": {"goal_velocity": 0},
    "FrozenLake-v1": {
        "desc": None,
        "map_name": "4x4",
        "is_slippery": True,
        "success_rate": 1 / 3,
        "reward_schedule": (1, 0, 0),
    },
    "Taxi-v4": {"is_rainy": False, "fickle_passenger": False, "rainy_probability": 0.8, "fickle_probability": 0.3},
    "CliffWalking-v1": {"is_slippery": False},
    "LunarLander-v3": {
        "continuous": False,
        "gravity": -10.0,
        "enable_wind": False,
        "wind_power": 15.0,
        "turbulence_power": 1.5,
    },
}
"""As Gymnasium's documentation lists them."""


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def needs(env: str) -> None:
    if env == "LunarLander-v3":
        pytest.importorskip("Box2D")


@pytest.mark.parametrize("env", ARGUMENTS)
def test_an_env_is_found_with_its_arguments_and_made_with_them(env: str) -> None:
    needs(env)
    spec = lookup.find(env)
    assert spec.id == env
    found = lookup.arguments(env)
    assert found == ARGUMENTS[env]
    constructor = inspect.signature(load_env_creator(str(spec.entry_point))).parameters
    assert {name: constructor[name].default for name in found} == {**found, **_overridden(env, constructor)}
    gymnasium.make(env, **found).close()


def _overridden(env: str, constructor: Any) -> dict[str, Any]:
    """Constructor's own defaults of what the registration sets."""
    return {name: constructor[name].default for name in gymnasium.spec(env).kwargs}


def test_what_the_registration_sets_goes_before_the_constructors_default() -> None:
    assert lookup.arguments("FrozenLake8x8-v1") == {**ARGUMENTS["FrozenLake-v1"], "map_name": "8x8"}


def test_arguments_without_a_default_or_for_rendering_are_left_out() -> None:
    def make(size: int, render_mode: str | None = None, speed: float = 1.0, **rest: object) -> None: ...

    gymnasium.register("test/Made-v0", entry_point=make, kwargs={"speed": 2.0, "size": 3})  # type: ignore[arg-type]
    assert lookup.arguments("test/Made-v0") == {"speed": 2.0}


def test_names_are_the_newest_versions_in_order() -> None:
    names = lookup.names()
    assert names == sorted(names, key=str.casefold)
    assert set(names) >= ARGUMENTS.keys()
    assert {"CartPole-v0", "Ant-v4", "Ant-v2"} & set(names) == set()
    assert set(names) <= set(gymnasium.registry)
    stems = [re.sub(r"-v\d+$", "", name) for name in names]
    assert len(set(stems)) == len(stems)
    # Versions count as numbers, and a namespace's env is another one.
    for name in ("test/New-v10", "test/New-v9", "other/New-v1"):
        gymnasium.register(name, entry_point="module:Env")
    assert set(lookup.names()) - set(names) == {"test/New-v10", "other/New-v1"}


def test_every_name_can_be_found_or_says_what_is_missing() -> None:
    for name in lookup.names():
        try:
            told = lookup.find(name).id
        except UserError as error:
            told = str(error)
        assert told == name or told.startswith(f"env '{name}' needs a package: ")


def test_an_id_may_begin_with_the_module_that_registers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import gymnasium\ngymnasium.register('Own-v0', entry_point='own_envs_of_test:Own')\n"
    text += "class Own(gymnasium.Env):\n    def __init__(self, size=4): pass\n"
    (tmp_path / "own_envs_of_test.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert "Own-v0" not in gymnasium.registry
    assert lookup.find("own_envs_of_test:Own-v0").id == "Own-v0"
    assert lookup.arguments("own_envs_of_test:Own-v0") == {"size": 4}
    assert lookup.find("gymnasium.envs:CartPole-v1").id == "CartPole-v1"
    del sys.modules["own_envs_of_test"]


@pytest.mark.parametrize("module", ["module_that_is_missing", "missing.below", "", ".relative", "a:b", "not a name"])
def test_a_module_that_cannot_be_imported_is_refused(module: str) -> None:
    with pytest.raises(UserError, match=rf"^env '{module}:Own-v0': the module '{module}' cannot be imported \(.+\)"):
        lookup.find(f"{module}:Own-v0")


def test_where_to_look_for_a_module_is_told_only_where_it_is_the_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"give the command in the folder that holds it, or set PYTHONPATH$"):
        lookup.find("module_that_is_missing:Own-v0")
    (tmp_path / "module_of_test_that_lacks.py").write_text("import module_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"\(No module named 'module_that_is_missing'\)$"):
        lookup.find("module_of_test_that_lacks:Own-v0")


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ("", "no env is given: name one, such as --env CartPole-v1"),
        ("cartpole", "unknown env 'cartpole': did you mean 'CartPole-v1'"),
        ("Cartpole-v1", "unknown env 'Cartpole-v1': did you mean 'CartPole-v1'"),
        ("LunarLander-v2", "unknown env 'LunarLander-v2': did you mean 'LunarLander-v3'"),
        ("Taxi-v3", "unknown env 'Taxi-v3': did you mean 'Taxi-v4'"),
        ("os:FrozenLak-v1", "unknown env 'FrozenLak-v1': did you mean 'FrozenLake-v1'"),
        ("zzz", "unknown env 'zzz': there is Acrobot-v1, ALE/Adventure-v5, "),
    ],
)
def test_an_unknown_env_is_answered_with_the_nearest(env: str, told: str) -> None:
    for look in (lookup.find, lookup.arguments):
        with pytest.raises(UserError) as refused:
            look(env)
        assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DeprecatedEnv("take Old-v1"), "env 'test/Old-v0' is retired: take Old-v1"),
        (
            ModuleNotFoundError("No module named 'jax'", name="jax"),
            "env 'test/Old-v0' needs a package: No module named 'jax'",
        ),
        (
            DependencyNotInstalled("Box2D is not installed"),
            f"env 'test/Old-v0' needs a package: box2d is not installed: {install('box2d')}",
        ),
        (
            ModuleNotFoundError("No module named 'pygame'", name="pygame"),
            f"env 'test/Old-v0' needs a package: pygame is not installed: {install('video')}",
        ),
    ],
    ids=["retired", "package", "extra box2d", "extra video"],
)
def test_an_env_that_cannot_be_loaded_says_why(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def attribute(name: str) -> Any:
        raise error if name == "Old" else AttributeError(name)

    module = types.ModuleType("old_envs_of_test")
    module.__dict__["__getattr__"] = attribute
    monkeypatch.setitem(sys.modules, "old_envs_of_test", module)
    gymnasium.register("test/Old-v0", entry_point="old_envs_of_test:Old")
    with pytest.raises(UserError) as refused:
        lookup.find("test/Old-v0")
    assert str(refused.value) == told
