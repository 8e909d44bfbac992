"""Configs: what each field takes, what is said where it does not, and which layer has the last word."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import tomllib
import typing
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlkit import agents
from rlkit.agents.dqn.config import DQNConfig
from rlkit.api import presets
from rlkit.api.configuration import resolve
from rlkit.config import build, read_toml
from rlkit.envs import lookup
from rlkit.errors import UserError
from rlkit.learning.config import ReplayConfig, TrainConfig

FIELDS = {field.name: field for field in dataclasses.fields(DQNConfig)}
HINTS = typing.get_type_hints(DQNConfig)
REALS = [name for name, hint in HINTS.items() if hint is float or float in typing.get_args(hint)]
WORDS = [name for name, hint in HINTS.items() if typing.get_origin(hint) is typing.Literal]


def config(**fields: Any) -> DQNConfig:
    return DQNConfig(**{"env": "toy", **fields})


def refusal(**fields: Any) -> str:
    with pytest.raises(UserError) as caught:
        config(**fields)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- what a field takes


def test_every_field_has_help_and_a_default_that_it_takes() -> None:
    defaults = config()
    for name, field in FIELDS.items():
        assert field.metadata["help"].strip().endswith("."), name
        value = getattr(defaults, name)
        assert getattr(config(**{name: value}), name) == value
        assert type(value) in (bool, int, float, str, tuple, dict, type(None))


COERCED = [
    # A field, what it is given, what it takes.
    ("num_envs", "8", 8),
    ("num_envs", "+8", 8),
    ("num_envs", 8.0, 8),
    ("steps", "150_000", 150_000),
    ("steps", "1e6", 1_000_000),
    ("steps", "2.5e5", 250_000),
    ("seed", "0", 0),
    ("gamma", "0.98", 0.98),
    ("gamma", "1", 1.0),
    ("gamma", 1, 1.0),
    ("learning_rate", "3e-4", 3e-4),
    ("learning_rate", ".001", 0.001),
    ("target_return", "none", None),
    ("target_return", "None", None),
    ("target_return", None, None),
    ("target_return", "475", 475.0),
    ("target_return", "-110.5", -110.5),
    ("target_return", 475, 475.0),
    ("learning_rate_end", "0", 0.0),
    ("double", "true", True),
    ("double", "Yes", True),
    ("double", "1", True),
    ("double", "FALSE", False),
    ("double", "no", False),
    ("double", "0", False),
    ("hidden", "64,32", (64, 32)),
    ("hidden", "64, 32", (64, 32)),
    ("hidden", "64", (64,)),
    ("hidden", "64,", (64,)),
    ("hidden", "", ()),
    ("hidden", [64, 32], (64, 32)),
    ("hidden", (64.0, "32"), (64, 32)),
    ("hidden", [], ()),
    ("loss", "squared", "squared"),
    ("env_args", {"slips": False, "p": 0.5, "n": 3, "m": "4"}, {"slips": False, "p": 0.5, "n": 3, "m": "4"}),
    ("env_args", {"desc": ("S", "G"), "a": {"x": [[1], [0.5]]}}, {"desc": ["S", "G"], "a": {"x": [[1], [0.5]]}}),
    ("env_args", '{desc = ["SF", "HG"]}', {"desc": ["SF", "HG"]}),
    ("num_envs", np.int64(3), 3),
    ("learning_rate", np.logspace(-3, -3, 1)[0], 0.001),
    ("learning_rate", np.float32(0.5), 0.5),
    ("double", np.bool_(False), False),
    ("hidden", np.array([64, 32]), (64, 32)),
    ("env_args", {"size": np.float64(2.5), "desc": np.array(["SF", "HG"])}, {"size": 2.5, "desc": ["SF", "HG"]}),
    ("device", "gpu:1", "gpu:1"),
    ("device", "cpu", "cpu"),
    ("visible_gpus", "0,2", "0,2"),
    ("visible_gpus", "none", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "taken"), COERCED)
def test_values_are_coerced(name: str, given: object, taken: object) -> None:
    value = getattr(config(**{name: given}), name)
    assert value == taken
    assert type(value) is type(taken)


WRONG = [
    # A field, what it is given, words of the message.
    ("num_envs", "many", "num_envs is 'many', expected a whole number"),
    ("num_envs", "2.5", "expected a whole number"),
    ("num_envs", 2.5, "num_envs is 2.5, expected a whole number"),
    ("num_envs", "inf", "expected a whole number"),
    ("num_envs", "²", "num_envs is '²', expected a whole number"),
    ("num_envs", True, "num_envs is True, expected a whole number"),
    ("num_envs", None, "num_envs is None, expected a whole number"),
    ("num_envs", [1], "num_envs is [1], expected a whole number"),
    ("gamma", "high", "gamma is 'high', expected a number"),
    ("gamma", "", "gamma is '', expected a number"),
    ("gamma", True, "gamma is True, expected a number"),
    ("gamma", None, "gamma is None, expected a number"),
    ("target_return", "best", "target_return is 'best', expected a number"),
    ("double", "maybe", "double is 'maybe', expected true or false"),
    ("double", 1, "double is 1, expected true or false"),
    ("double", None, "double is None, expected true or false"),
    ("env", 3, "env is 3, expected text"),
    ("hidden", 64, "hidden is 64, expected whole numbers such as 64,64"),
    ("hidden", "64x64", "hidden is '64x64', expected a whole number"),
    ("hidden", [64, 0.5], "hidden is 0.5, expected a whole number"),
    ("hidden", [64, [64]], "hidden is [64], expected a whole number"),
    ("loss", "l2", "loss is 'l2', expected one of huber, squared"),
    ("loss", None, "loss is None, expected one of huber, squared"),
    ("vectorization", "Sync", "vectorization is 'Sync', expected one of auto, native, sync, async"),
    ("env_args", "slippery", "env_args is 'slippery', expected a table"),
    ("env_args", {"desc": ["SF", None]}, "env_args.desc is None, expected text, a number, true or false, or a list or"),
    ("env_args", {"a": {"b": {1}}}, "env_args.a.b is {1}, expected text, a number"),
    ("env_args", {"a": {1: 2}}, "env_args.a is {1: 2}, expected text, a number"),
    ("env_args", "[1]", "env_args is '[1]', expected a table"),
    ("env_args", None, "env_args is None, expected a table"),
    ("device", "tpu", "device is 'tpu', expected auto, cpu, gpu or one by number such as gpu:1"),
    ("device", "gpu:", "device is 'gpu:', expected auto, cpu, gpu or one by number such as gpu:1"),
    ("device", "gpu:one", "device is 'gpu:one', expected auto, cpu, gpu or one by number such as gpu:1"),
    ("visible_gpus", "some", "visible_gpus is 'some', expected all, none or numbers such as 0,2"),
    ("visible_gpus", "", "visible_gpus is '', expected all, none or numbers such as 0,2"),
    ("visible_gpus", "-1", "visible_gpus is '-1', expected all, none or numbers such as 0,2"),
    ("visible_gpus", "0,", "visible_gpus is '0,', expected all, none or numbers such as 0,2"),
    ("visible_gpus", "0,,2", "visible_gpus is '0,,2', expected all, none or numbers such as 0,2"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_a_wrong_value_is_named_with_what_was_expected(name: str, given: object, message: str) -> None:
    assert message in refusal(**{name: given})


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_takes_an_object_that_is_no_value(name: str) -> None:
    for value in (object(), {1, 2}, b"1", 1j):
        assert refusal(**{name: value}).startswith(f"{name} is ")


# ---- bounds

BOUNDS = [
    # A field, the last values that it takes, the first that it refuses, what is expected.
    ("num_envs", [1, 100_000], [0, 100_001], "at least 1 and at most 100000"),
    ("seed", [0, 2**31 - 1], [-1, 2**31], "at least 0 and at most 2147483647"),
    ("steps", [1], [0], "at least 1"),
    ("eval_interval", [0], [-1], "at least 0"),
    ("eval_episodes", [1], [0], "at least 1"),
    ("log_interval", [1], [0], "at least 1"),
    ("checkpoint_interval", [1], [0], "at least 1"),
    ("keep_checkpoints", [1], [0], "at least 1"),
    ("memory_limit", [0], [-1], "at least 0"),
    ("logical_devices", [1, 64], [0, 65], "at least 1 and at most 64"),
    ("threads", [0], [-1], "at least 0"),
    ("gamma", [0.0, 1.0], [-0.01, 1.01], "at least 0 and at most 1"),
    ("n_step", [1, 1000], [0, 1001], "at least 1 and at most 1000"),
    ("batch_size", [1], [0], "at least 1"),
    ("buffer_size", [1], [0], "at least 1"),
    ("learning_starts", [0], [-1], "at least 0"),
    ("train_interval", [1], [0], "at least 1"),
    ("gradient_steps", [1, 10_000], [0, 10_001], "at least 1 and at most 10000"),
    ("hidden", [(1,), ()], [(0,), (64, -1)], "at least 1"),
    ("learning_rate", [1e-12], [0.0, -1e-3], "above 0"),
    ("learning_rate_end", [0.0], [-1e-12], "at least 0"),
    ("learning_rate_duration", [1], [0], "at least 1"),
    ("adam_epsilon", [1e-12], [0.0], "above 0"),
    ("max_gradient_norm", [0.0], [-0.1], "at least 0"),
    ("target_interval", [1], [0], "at least 1"),
    ("polyak", [1e-9, 1.0], [0.0, 1.5], "above 0 and at most 1"),
    ("epsilon_start", [0.0, 1.0], [-0.5, 1.5], "at least 0 and at most 1"),
    ("epsilon_end", [0.0, 1.0], [-0.5, 1.5], "at least 0 and at most 1"),
    ("epsilon_duration", [1e-3], [0.0], "above 0"),
]


def items(value: object) -> list[object]:
    return list(value) if isinstance(value, tuple) else [value]


@pytest.mark.parametrize(("name", "taken", "refused", "expected"), BOUNDS, ids=[case[0] for case in BOUNDS])
def test_bounds(name: str, taken: list[Any], refused: list[Any], expected: str) -> None:
    for value in taken:
        assert getattr(config(**{"batch_size": 1, name: value}), name) == value
    for value in refused:
        message = refusal(**{"batch_size": 1, name: value})
        assert message == f"{name} is {items(value)[-1]:.15g}, expected {expected}"


@pytest.mark.parametrize("name", REALS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", "-inf", "1e999"])
def test_no_number_is_nan_or_infinite(name: str, value: object) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name} is {float(str(value)):g}, expected ")


@pytest.mark.parametrize("name", ["steps", "target_interval", "seed", "gamma", "target_return"])
@pytest.mark.parametrize("value", [10**400, "1" + 400 * "0"], ids=["number", "text"])
def test_a_number_too_large_for_a_float_is_refused(name: str, value: object) -> None:
    assert refusal(**{name: value}).startswith(f"{name} is ")


def test_gamma_of_a_file_that_is_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("gamma = nan\n")
    with pytest.raises(UserError, match=r"my\.toml: gamma is nan, expected at least 0 and at most 1"):
        build(DQNConfig, (str(path), read_toml(path)))


def test_fields_that_exclude_each_other() -> None:
    assert refusal(batch_size=65, buffer_size=64) == "batch_size is 65, expected at most buffer_size, 64"
    assert config(batch_size=64, buffer_size=64).batch_size == 64
    few = {"batch_size": 1, "num_envs": 8, "n_step": 3}
    expected = "buffer_size is 23, expected at least num_envs times n_step, 24"
    assert refusal(buffer_size=23, **few) == expected
    assert config(buffer_size=24, **few).buffer_size == 24


@pytest.mark.parametrize("name", ["epsilon_start", "epsilon_end"])
def test_an_exponential_decay_needs_ends_above_zero(name: str) -> None:
    assert refusal(epsilon_decay="exponential", **{name: 0.0}).startswith(f"{name} is 0, expected above 0")
    assert getattr(config(epsilon_decay="linear", **{name: 0.0}), name) == 0.0


# ---- copies


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().gamma = 0.5  # type: ignore[misc]


def test_replace_checks_like_a_new_one() -> None:
    before = config(gamma=0.9)
    assert before.replace(gamma="0.5").gamma == 0.5
    assert before.gamma == 0.9
    with pytest.raises(UserError, match="gamma is 2, expected at least 0 and at most 1"):
        before.replace(gamma=2)
    with pytest.raises(UserError, match=r"unknown field 'gama': did you mean 'gamma'\?"):
        before.replace(gama=0.5)


def test_the_default_env_args_are_not_shared() -> None:
    config().env_args["is_slippery"] = False
    assert config().env_args == {}


# ---- layers


def test_later_layers_win_and_dashes_are_underscores() -> None:
    built = build(DQNConfig, ("first", {"batch-size": 32, "gamma": 0.9}), ("second", {"batch_size": "16"}))
    assert (built.batch_size, built.gamma, built.n_step) == (16, 0.9, DQNConfig().n_step)


def test_a_later_layer_may_make_up_for_an_earlier_one() -> None:
    # 64 transitions are fewer than the default batch of 128, but no batch of 128 is asked for in the end.
    built = build(DQNConfig, ("my.toml", {"buffer_size": 64}), ("", {"batch_size": 32}))
    assert (built.buffer_size, built.batch_size) == (64, 32)


@pytest.mark.parametrize(
    ("cls", "name", "nearest"),
    [
        (DQNConfig, "learning_rat", "learning_rate"),
        (DQNConfig, "lerning-rate", "learning_rate"),
        (DQNConfig, "Gamma", "gamma"),
        (DQNConfig, "num_env", "num_envs"),
        (ReplayConfig, "batchsize", "batch_size"),
        (TrainConfig, "step", "steps"),
    ],
)
def test_an_unknown_field_is_answered_with_the_nearest(cls: type[TrainConfig], name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"^my\.toml: unknown field '{name}': did you mean '{nearest}'") as caught:
        build(cls, ("my.toml", {name: 1}))
    assert "\n" not in str(caught.value)


def test_a_field_of_no_resemblance_is_answered_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"^unknown field 'zzz': there is .*batch_size.* and more$"):
        build(DQNConfig, ("", {"zzz": 1}))


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of dqn for FrozenLake-v1, in place of those that there are."""
    folder = tmp_path / "presets" / "dqn"
    folder.mkdir(parents=True)
    (folder / "FrozenLake-v1.toml").write_text(
        'num_envs = 16\ngamma = 0.8\nbatch_size = 16\nenv_args = {is_slippery = false, map_name = "8x8"}\n'
    )
    monkeypatch.setattr(presets, "_folder", lambda agent: tmp_path / "presets" / agent)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(
        'agent = "dqn"\nenv = "FrozenLake-v1"\ngamma = 0.7\nbatch-size = 32\nn_step = 3\n'
        "env_args = {is_slippery = true}\n"
    )
    return path


@pytest.mark.usefixtures("preset")
def test_defaults_then_preset_then_file_then_flags(file: Path) -> None:
    fields = {"gamma": "0.6", "env_args": {"map_name": "4x4"}}
    layers = [
        # (what is given, preset taken, num_envs, gamma, batch_size, n_step, env_args)
        ({"preset": "none"}, None, 1, 0.99, 128, 1, {}),
        ({}, "FrozenLake-v1", 16, 0.8, 16, 1, {"is_slippery": False, "map_name": "8x8"}),
        ({"config": file}, "FrozenLake-v1", 16, 0.7, 32, 3, {"is_slippery": True, "map_name": "8x8"}),
        (
            {"config": file, "fields": fields},
            "FrozenLake-v1", 16, 0.6, 32, 3, {"is_slippery": True, "map_name": "4x4"},
        ),
        ({"preset": "none", "config": file}, None, 1, 0.7, 32, 3, {"is_slippery": True}),
    ]  # fmt: skip
    for asked, name, *expected in layers:
        c, taken = resolve("dqn", "FrozenLake-v1", **typing.cast("dict[str, Any]", asked))
        assert isinstance(c, DQNConfig)
        assert c.env == "FrozenLake-v1"
        assert taken == name
        assert [c.num_envs, c.gamma, c.batch_size, c.n_step, c.env_args] == expected
    assert fields == {"gamma": "0.6", "env_args": {"map_name": "4x4"}}, "the caller's own are left alone"


@pytest.mark.usefixtures("preset")
def test_the_env_may_come_from_the_file_or_the_fields(file: Path) -> None:
    assert resolve("dqn", None, config=file)[0].env == "FrozenLake-v1"
    c, taken = resolve("dqn", None, fields={"env": "CartPole-v1"})
    assert (c.env, taken) == ("CartPole-v1", None)
    c, taken = resolve("dqn", "FrozenLake8x8-v1", preset="FrozenLake-v1")
    assert (c.env, taken) == ("FrozenLake8x8-v1", "FrozenLake-v1")


@pytest.mark.usefixtures("preset")
def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown preset of dqn 'FrozenLake': did you mean 'FrozenLake-v1'\?"):
        resolve("dqn", "CartPole-v1", preset="FrozenLake")


def test_no_env_no_agent_and_misspelt_ones_are_told() -> None:
    with pytest.raises(UserError, match="no env is given: name one, such as --env"):
        resolve("dqn", None)
    with pytest.raises(UserError, match=r"unknown env 'CartPole-v11': did you mean 'CartPole-v1'"):
        resolve("dqn", "CartPole-v11")
    with pytest.raises(UserError, match=r"unknown agent 'dqm': did you mean 'dqn'\?"):
        resolve("dqm", "CartPole-v1")


def test_an_unknown_env_argument_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        resolve("dqn", "FrozenLake-v1", preset="none", fields={"env_args": {"slippery": True}})
    message = str(caught.value)
    assert message.startswith("env 'FrozenLake-v1' takes no argument 'slippery': it takes ")
    assert "is_slippery" in message
    assert "map_name" in message


def test_a_config_of_another_agent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text('agent = "sarsa"\n')
    with pytest.raises(UserError, match=r"other\.toml is a config of sarsa, not of dqn"):
        resolve("dqn", "CartPole-v1", config=path)
    path.write_text("[agent]\ngamma = 0.5\n")
    with pytest.raises(UserError, match=r"other\.toml: agent is \{'gamma': 0\.5\}; expected a name such as 'dqn'"):
        resolve("dqn", "CartPole-v1", config=path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama = 0.9", r"my\.toml: unknown field 'gama': did you mean 'gamma'\?"),
        ("gamma = 1.5", r"my\.toml: gamma is 1.5, expected at least 0 and at most 1"),
        ("double = 1", r"my\.toml: double is 1, expected true or false"),
        ("[replay]\nsize = 3", r"my\.toml: unknown field 'replay'"),
        ("gamma = \n", r"config file .*my\.toml is not valid TOML: .*line 1"),
        ("gamma = 0.9\ngamma = 0.8", r"config file .*my\.toml is not valid TOML: "),
        (b"gamma = 0.9 # \xff", r"config file .*my\.toml cannot be read: "),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=message):
        resolve("dqn", "CartPole-v1", config=path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config file .*none\.toml does not exist"):
        resolve("dqn", "CartPole-v1", config=tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"config file .* cannot be read: "):
        resolve("dqn", "CartPole-v1", config=tmp_path)


PRESETS = [(agent, name) for agent in agents.REGISTRY for name in presets.names(agent)]


@pytest.mark.parametrize(("agent", "name"), PRESETS)
def test_every_preset_is_valid_for_its_agent_and_env(agent: str, name: str) -> None:
    lookup.find("ALE/Pong-v5")  # has the games registered
    ids = [env for env in gymnasium.registry if presets.slug(env) == name]
    ids = ["ALE/Seaquest-v5"] if name == "ALE" else ids  # which has none of its own
    assert len(ids) == 1, f"no registered env belongs to the preset {name}"
    values = presets.load(agent, name)
    assert not {"env", "seed", "agent"} & set(values), "these are the user's to choose"
    if presets.setting(agent) and values.get("network") == "lstm":
        with pytest.raises(UserError, match="network is lstm"):
            resolve(agent, ids[0])
        return
    resolved, taken = resolve(agent, ids[0])
    assert taken == name
    values |= presets.setting(agent)
    assert {k: v for k, v in resolved.to_dict().items() if k in values} == values


def discounted(rewards: list[float], gamma: float) -> list[float]:
    """The returns from the steps of an episode on, the last first."""
    return list(itertools.accumulate(reversed(rewards), lambda later, reward: reward + gamma * later))


@pytest.mark.parametrize("name", [name for agent, name in PRESETS if agent == "rainbow" and "ALE" not in name])
def test_the_range_of_a_preset_holds_the_returns_of_random_play(name: str) -> None:
    env_id = next(env for env in gymnasium.registry if presets.slug(env) == name)
    if presets.load("rainbow", name).get("network") == "lstm":
        return  # for which Rainbow is refused
    config = cast("DQNConfig", resolve("rainbow", env_id)[0])
    with contextlib.closing(gymnasium.make(env_id)) as env:
        env.action_space.seed(0)
        for seed in range(3):
            env.reset(seed=seed)
            rewards, over = list[float](), False
            while not over:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                rewards.append(float(reward))
                over = terminated or truncated
            found = discounted(rewards, config.gamma)
            assert config.v_min <= min(found)
            assert max(found) <= config.v_max


@pytest.mark.parametrize(("env", "worst"), [("Acrobot-v1", -100.0), ("MountainCar-v0", -50.0)])
def test_the_range_holds_a_step_s_cost_without_end(env: str, worst: float) -> None:
    config = cast("DQNConfig", resolve("rainbow", env)[0])
    assert (config.v_min, config.v_max) == (worst, 0.0)
    assert -1 / (1 - config.gamma) == pytest.approx(worst)


def test_rainbow_is_the_dqn_with_six_switches() -> None:
    switches = {"double", "dueling", "n_step", "head", "noisy", "priority_exponent", "importance_exponent"}
    (plain, _), (rainbow, taken) = (resolve(agent, "CartPole-v1") for agent in ("dqn", "rainbow"))
    assert taken == "CartPole-v1"
    differ = {name for name in FIELDS if getattr(plain, name, None) != getattr(rainbow, name, None)}
    assert differ - {"epsilon_start", "epsilon_end", "double"} == switches - {"double"}
    assert rainbow.replace(noisy=False) == resolve("rainbow", "CartPole-v1", fields={"noisy": False})[0]


def test_there_are_presets() -> None:
    assert ("dqn", "CartPole-v1") in PRESETS


# ---- round trip

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.text("abcdefghij_", min_size=1, max_size=8)
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Values that a field takes."""
    hint, metadata = HINTS[name], FIELDS[name].metadata
    low, high, above = metadata["low"], metadata["high"], metadata["above"]
    arguments = typing.get_args(hint)
    if name == "device":
        return st.sampled_from(["auto", "cpu", "gpu", "cpu:3", "gpu:0"])
    if name == "visible_gpus":
        return st.sampled_from(["all", "none", "0", "0,2"])
    if name in WORDS:
        return st.sampled_from(arguments)
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(low, high if high is not None else 10**12)
    if hint is float or float in arguments:
        numbers = st.floats(
            low if low is not None else above, high, exclude_min=above is not None,
            allow_nan=False, allow_infinity=False,
        )  # fmt: skip
        return numbers if hint is float else st.none() | numbers
    if hint is str:
        return TEXT
    if name == "hidden":
        return st.lists(st.integers(1, 4096), max_size=4).map(tuple)
    if int in arguments:
        return st.none() | st.integers(low, high if high is not None else 10**12)
    assert name == "env_args", f"say here which values {name} takes"
    values = st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2)
    )
    return st.dictionaries(NAMES, values, max_size=3)


@st.composite
def configs(draw: st.DrawFn) -> DQNConfig:
    names = draw(st.sets(st.sampled_from(sorted(FIELDS))))
    values = {name: draw(values_of(name)) for name in sorted(names)}
    default = DQNConfig()
    if values.get("network") == "lstm":
        values |= {"n_step": 1, "head": "expected", "noisy": False, "priority_exponent": 0.0}
    low = values["v_min"] = min(values.get("v_min", default.v_min), 1e300)
    values["v_max"] = max(values.get("v_max", default.v_max), math.nextafter(low, math.inf))
    sizes = ("num_envs", "n_step", "batch_size", "buffer_size", "burn_in", "sequence_length")
    whole = {n: values.get(n, getattr(default, n)) for n in sizes}
    span = max(whole["n_step"], whole["burn_in"] + whole["sequence_length"])
    values["buffer_size"] = max(whole["buffer_size"], whole["batch_size"], whole["num_envs"] * span)
    if values.get("epsilon_decay") == "exponential":
        for name in ("epsilon_start", "epsilon_end"):
            values[name] = values.get(name) or 0.5
    return DQNConfig(**values)


@given(before=configs())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_config_written_to_toml_comes_back(before: DQNConfig) -> None:
    text = tomli_w.dumps({"agent": "dqn", **before.to_dict()})
    values = tomllib.loads(text)
    assert values.pop("agent") == "dqn"
    after = build(DQNConfig, ("config.toml", values))
    assert after == before
    for name in FIELDS:
        assert type(getattr(after, name)) is type(getattr(before, name)), name


@given(before=configs())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=20)
def test_a_config_written_as_flags_comes_back(before: DQNConfig) -> None:
    def flag(value: object) -> object:
        if isinstance(value, dict):
            return value
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    assert build(DQNConfig, ("", {name: flag(getattr(before, name)) for name in FIELDS})) == before
