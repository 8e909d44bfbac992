"""The Nature network: its size and values worked out again, what it takes, and that a DQN learns with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.agents.dqn.recurrent import make
from rlkit.api import presets
from rlkit.errors import UserError
from rlkit.loops.acting import numpy_forward
from rlkit.networks.q_networks import fitting_network, nature_cnn
from rlkit.spaces import observation_dtype


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def batch(space: gymnasium.Space[Any], size: int = 3) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(size)]).astype(observation_dtype(space))


@pytest.mark.parametrize("shape", [(4, 84, 84), (84, 84, 4)])
@pytest.mark.parametrize("actions", [2, 4, 18])
def test_it_has_as_many_weights_as_in_the_paper(shape: tuple[int, ...], actions: int) -> None:
    model = nature_cnn(pixels(*shape), actions)
    # 84 pixels are (84 - 8) / 4 + 1 = 20 after the first convolution, (20 - 4) / 2 + 1 = 9, then 9 - 3 + 1 = 7.
    convolutions = (8 * 8 * 4 * 32 + 32) + (4 * 4 * 32 * 64 + 64) + (3 * 3 * 64 * 64 + 64)
    assert convolutions == 77_984
    dense = (7 * 7 * 64) * 512 + 512
    assert dense == 1_606_144
    assert model.count_params() == convolutions + dense + 512 * actions + actions
    if actions == 4:
        assert model.count_params() == 1_686_180


def test_the_dueling_one_has_a_second_dense_layer_and_a_value() -> None:
    model = nature_cnn(pixels(4, 84, 84), 4, dueling=True)
    assert model.count_params() == 77_984 + 2 * 1_606_144 + (512 * 4 + 4) + (512 + 1)
    streams = keras.Model(model.input, [model.get_layer(name).output for name in ("value", "advantages")])
    seen = batch(pixels(4, 84, 84))
    value, advantages = (np.asarray(x) for x in streams(seen))
    np.testing.assert_allclose(model(seen), value + advantages - advantages.mean(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((36, 40), 1),
        ((36, 40, 3), 3),
        ((3, 36, 40), 3),
        ((1, 36, 40), 1),
        ((40, 36, 36), 36),  # the last axis is the shorter one
        ((36, 40, 36), 36),  # as long as the first: the last
    ],
)
def test_each_kind_of_picture_is_convolved_over_its_channels(shape: tuple[int, ...], channels: int) -> None:
    model = nature_cnn(pixels(*shape), 3, hidden=(8,))
    assert model.get_layer("convolution_0").kernel.shape == (8, 8, channels, 32)
    values = model(batch(pixels(*shape)))
    assert values.shape == (3, 3)
    assert values.dtype == "float32"
    assert np.unique(values, axis=0).shape[0] == 3, "the values depend on the observation"


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """A convolution of [B, H, W, C] with ReLU, output pixel by output pixel."""
    side = kernel.shape[0]
    down, across = ((size - side) // stride + 1 for size in x.shape[1:3])
    out = np.empty((len(x), down, across, kernel.shape[3]))
    for i in range(down):
        for j in range(across):
            patch = x[:, i * stride : i * stride + side, j * stride : j * stride + side]
            out[:, i, j] = np.tensordot(patch, kernel, 3) + bias
    return np.maximum(out, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("first", [False, True])
def test_its_values_are_those_of_convolutions_written_out(first: bool, dtype: type) -> None:
    high = 255 if dtype is np.uint8 else 1
    space = spaces.Box(0, high, (2, 44, 52) if first else (44, 52, 2), dtype)
    model = nature_cnn(space, 3, hidden=(6,), seed=5)
    seen = batch(space)
    x = seen / high if dtype is np.uint8 else seen.astype(np.float64)
    x = np.moveaxis(x, 1, 3) if first else x
    weights = [w.numpy().astype(np.float64) for w in model.trainable_weights]
    for i, stride in enumerate((4, 2, 1)):
        x = convolved(x, weights[2 * i], weights[2 * i + 1], stride)
    x = np.maximum(x.reshape(3, -1) @ weights[6] + weights[7], 0)
    np.testing.assert_allclose(model(seen), x @ weights[8] + weights[9], rtol=1e-4, atol=1e-6)


def test_frames_first_and_channels_last_give_the_same_values() -> None:
    first, last = (nature_cnn(pixels(*shape), 4, seed=2) for shape in ((4, 84, 84), (84, 84, 4)))
    seen = batch(pixels(4, 84, 84))
    np.testing.assert_allclose(first(seen), last(np.moveaxis(seen, 1, 3)), rtol=1e-5, atol=1e-7)


def test_its_weights_are_a_function_of_the_seed() -> None:
    def kernels(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(seed + 1)  # what others have drawn does not matter
        model = nature_cnn(pixels(36, 36), 2, hidden=(64,), dueling=True, seed=seed)
        return [w.numpy() for w in model.trainable_weights if len(w.shape) > 1]

    one, again, other = kernels(5), kernels(5), kernels(6)
    assert len(one) == 7
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    value, advantage = one[3], one[4]
    assert value.shape == advantage.shape
    assert not np.array_equal(value, advantage)


@pytest.mark.parametrize(
    "space",
    [
        pixels(84),
        pixels(4, 84, 84, 3),
        pixels(35, 84),
        pixels(84, 35, 3),
        pixels(4, 35, 84),
        spaces.Discrete(5),
        spaces.MultiDiscrete(np.full((84, 84), 256)),
        spaces.Dict(a=pixels(84, 84)),
    ],
    ids=str,
)
def test_what_is_no_picture_is_refused(space: gymnasium.Space[Any]) -> None:
    with pytest.raises(UserError) as refused:
        nature_cnn(space, 2)
    assert str(refused.value) == (
        f"the observation space {space} is no picture for the network nature-cnn: a Box of shape [H, W], [H, W, C] or "
        "[F, H, W] is, with H and W at least 36"
    )
    with pytest.raises(UserError, match="no picture for the network nature-cnn"):
        DQN(DQNConfig(env="toy", network="nature-cnn"), space, spaces.Discrete(2))


def test_it_is_not_computed_in_numpy() -> None:
    assert numpy_forward(nature_cnn(pixels(36, 36), 2)) is None


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_saved_one_comes_back(tmp_path: Path) -> None:
    space = pixels(2, 36, 36)
    model = nature_cnn(space, 3, hidden=(8,), dueling=True, seed=3)
    model.save(tmp_path / "q.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "q.keras")(batch(space)), model(batch(space)))


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({"network": "mlp"}, (64, 64)),
        ({"network": "lstm"}, (64, 64)),
        ({"network": "nature-cnn"}, (512,)),
        ({"network": "nature-cnn", "hidden": (9,)}, (9,)),
        ({"network": "nature-cnn", "hidden": ()}, ()),
        ({"network": "nature-cnn", "hidden": "none"}, (512,)),
    ],
    ids=str,
)
def test_the_hidden_layers_are_the_networks_own_unless_given(fields: dict[str, Any], units: tuple[int, ...]) -> None:
    config = DQNConfig(env="toy", **fields)
    assert config.hidden == units
    assert config.to_dict()["hidden"] == list(units)
    agent = make(config, pixels(36, 36), spaces.Discrete(2))
    assert [layer.units for layer in agent.q.layers if isinstance(layer, keras.layers.Dense)] == [*units, 2]


def test_the_preset_of_catch_takes_it() -> None:
    values = presets.load("dqn", "rlkit-Catch-v0")
    assert values["network"] == "nature-cnn"
    assert DQNConfig(env="rlkit/Catch-v0", **values).hidden == (512,)


class Lit(gymnasium.Env[np.ndarray, np.int64]):
    """One half of a picture is lit; the action says which, for a reward of 1, and the episode ends."""

    observation_space = pixels(2, 36, 36)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(2))
        picture = self.np_random.integers(0, 60, (2, 36, 36), np.uint8)
        picture[:, :, 18 * self.side : 18 * self.side + 18] += 150
        return picture, {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros((2, 36, 36), np.uint8), float(action == self.side), True, False, {}


@pytest.fixture
def lit() -> Iterator[str]:
    gymnasium.register("test/Lit-v0", entry_point=Lit)  # type: ignore[arg-type] # it takes no arguments
    yield "test/Lit-v0"
    del gymnasium.registry["test/Lit-v0"]


def test_a_dqn_learns_from_pixels(lit: str, tmp_path: Path) -> None:
    said: list[str] = []
    run = rlkit.train(
        "dqn", lit, run_dir=tmp_path, say=said.append, network="nature-cnn", hidden=(32,), steps=400, num_envs=2,
        learning_starts=50, buffer_size=300, batch_size=16, train_interval=4, target_interval=20, eval_interval=0,
        learning_rate=1e-3, epsilon_duration=200, jit=False, threads=1,
    )  # fmt: skip
    # Transitions of two pictures of 2 x 36 x 36 bytes, an action and a reward of 4 bytes each, and two flags.
    assert 300 * (2 * 2 * 36 * 36 + 10) == 1_558_200
    assert "replay: 300 transitions, 1.56 MB of memory" in said
    result = run.evaluate(episodes=100)
    # By chance alone 90 or more of 100 would be right with a probability of 1.5e-17.
    assert result.mean >= 0.9


@pytest.mark.parametrize(
    ("space", "network", "hidden"),
    [
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), "nature-cnn", (512,)),
        (spaces.Box(0, 255, (96, 96, 3), np.uint8), "nature-cnn", (512,)),
        (spaces.Box(0, 255, (36, 36), np.uint8), "nature-cnn", (512,)),
        (spaces.Box(0, 255, (35, 36, 3), np.uint8), "mlp", (64, 64)),
        (spaces.Box(0, 255, (128,), np.uint8), "mlp", (64, 64)),
        (spaces.Box(-1, 1, (84, 84), np.float32), "mlp", (64, 64)),
        (spaces.Discrete(16), "mlp", (64, 64)),
    ],
)
def test_a_dqn_takes_convolutions_for_pictures_by_itself(space: Any, network: str, hidden: tuple[int, ...]) -> None:
    assert fitting_network(space) == network
    if hidden == (64, 64):
        agent = DQN(DQNConfig(), space, spaces.Discrete(2))
        assert (agent.config.network, agent.config.hidden) == (network, hidden)
    assert DQNConfig().replace(network=network).hidden == hidden
    assert DQNConfig(hidden=(5,)).replace(network=network).hidden == (5,), "what is given stays"


def test_a_run_on_pictures_says_its_network_and_keeps_it(tmp_path: Path) -> None:
    from rlkit.api import training

    said: list[str] = []
    fields: dict[str, Any] = {"preset": "none", "steps": 4, "learning_starts": 100, "eval_interval": 0, "hidden": (8,)}
    fields |= {"buffer_size": 200, "batch_size": 4, "loop": "host", "run_dir": tmp_path}
    run = training.train("dqn", "rlkit/Catch-v0", say=said.append, **fields)
    assert [text for text in said if text.startswith("network: ")] == [
        "network: nature-cnn, as the observations are pictures, (4, 84, 84)"
    ]
    assert run.directory.config()["network"] == "nature-cnn"
    said.clear()
    run = training.train("dqn", "rlkit/Catch-v0", say=said.append, network="mlp", **fields)
    assert (run.directory.config()["network"], said[0].startswith("network")) == ("mlp", False)
