"""MinAtar: its envs held to the package's own games, its network worked out again, and grids of truth values."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence

import rlkit
from rlkit.agents.dqn.config import DQNConfig
from rlkit.agents.dqn.dqn import DQN
from rlkit.api import presets
from rlkit.envs import lookup, twins
from rlkit.errors import UserError
from rlkit.interaction.vector import Environments, make_vector
from rlkit.loops.acting import numpy_forward
from rlkit.networks.q_networks import minatar_cnn, q_network
from rlkit.pictures.rollouts import record
from rlkit.replay.uniform import Replay
from rlkit.spaces import observation_dtype

GAMES = {"Asterix": (4, 5), "Breakout": (4, 3), "Freeway": (7, 3), "Seaquest": (10, 6), "SpaceInvaders": (6, 4)}
"""Channels of an observation, and how many actions the game knows."""

ACTIONS = {
    "Asterix": [0, 1, 2, 3, 4],
    "Breakout": [0, 1, 3],
    "Freeway": [0, 2, 4],
    "Seaquest": [0, 1, 2, 3, 4, 5],
    "SpaceInvaders": [0, 1, 3, 5],
}
"""Those that it knows, of nothing, left, up, right, down and fire."""


def grid(*shape: int) -> spaces.Box:
    return spaces.Box(0, 1, shape, np.bool_)  # type: ignore[arg-type] # Gymnasium takes it


def batch(space: gymnasium.Space[Any], size: int = 3) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(size)])


@pytest.mark.filterwarnings("ignore:.*MinAtar/.*-v0 is out of date:DeprecationWarning")
class TestEnvs:
    """What the envs show, and that an episode is a function of its seed and its actions."""

    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("minatar")

    @pytest.mark.parametrize("game", GAMES)
    def test_spaces(self, game: str) -> None:
        channels, known = GAMES[game]
        for version, actions in ((0, 6), (1, known)):
            env = gymnasium.make(f"MinAtar/{game}-v{version}")
            assert env.observation_space == grid(10, 10, channels)
            assert env.action_space == spaces.Discrete(actions)
            assert env.spec is not None
            assert env.spec.max_episode_steps is None
        assert f"MinAtar/{game}-v1" in lookup.names()
        assert twins.twin(f"MinAtar/{game}-v1", {}) is None

    def test_arguments(self) -> None:
        expected = {"use_minimal_action_set": True, "sticky_action_prob": 0.1, "difficulty_ramping": True}
        assert lookup.arguments("MinAtar/Asterix-v1") == expected
        assert lookup.arguments("MinAtar/Asterix-v0") == {**expected, "use_minimal_action_set": False}

    @pytest.mark.parametrize("game", GAMES)
    def test_gymnasiums_checks_and_pickle(self, game: str) -> None:
        env = gymnasium.make(f"MinAtar/{game}-v1", render_mode="rgb_array")
        check_env(env.unwrapped)
        env.reset(seed=4)
        copy = pickle.loads(pickle.dumps(env))
        for action in np.random.default_rng(0).integers(GAMES[game][1], size=30):
            assert data_equivalence(copy.step(action), env.step(action), exact=True)

    @pytest.mark.parametrize("version", [0, 1])
    @pytest.mark.parametrize("game", GAMES)
    def test_an_episode_is_the_one_that_the_package_plays(self, game: str, version: int) -> None:
        from minatar import Environment

        meanings = ACTIONS[game] if version else list(range(6))
        env = gymnasium.make(f"MinAtar/{game}-v{version}")
        rng = np.random.default_rng(1)
        for seed in range(5):
            name = {"SpaceInvaders": "space_invaders"}.get(game, game.lower())
            theirs = Environment(name)  # a new one, as it begins with no last action
            theirs.seed(seed)
            theirs.reset()
            seen, _ = env.reset(seed=seed)
            np.testing.assert_array_equal(seen, theirs.state())
            ended, steps = False, 0
            while not ended and steps < 300:
                action = rng.integers(len(meanings))
                reward, ended = theirs.act(meanings[action])
                seen, *rest = env.step(action)
                np.testing.assert_array_equal(seen, theirs.state())
                assert rest == [reward, ended, False, {}]
                assert [type(part) for part in rest[:2]] == [float, bool]
                steps += 1

    @pytest.mark.parametrize("game", GAMES)
    def test_an_episode_does_not_depend_on_those_before(self, game: str) -> None:
        used = gymnasium.make(f"MinAtar/{game}-v1", sticky_action_prob=0.6)
        rng = np.random.default_rng(2)
        used.reset(seed=100)
        for seed in range(20):
            for _ in range(rng.integers(1, 40)):  # also beyond the end of an episode
                used.unwrapped.step(rng.integers(1, GAMES[game][1]))
            fresh = gymnasium.make(f"MinAtar/{game}-v1", sticky_action_prob=0.6)
            assert data_equivalence(used.reset(seed=seed), fresh.reset(seed=seed), exact=True)
            for action in rng.integers(GAMES[game][1], size=25):
                one, other = used.unwrapped.step(action), fresh.unwrapped.step(action)
                assert data_equivalence(one, other, exact=True)

    def test_actions_stick_from_none_on(self) -> None:
        env = gymnasium.make("MinAtar/Asterix-v1", sticky_action_prob=1.0)
        for seed in range(3):
            env.reset(seed=seed)
            for _ in range(5):
                seen, *_ = env.step(np.int64(1))
                assert np.argwhere(seen[:, :, 0]).tolist() == [[5, 5]], "the player stays where it began"

    def test_freeway_ends_after_2501_steps(self) -> None:
        env = gymnasium.make("MinAtar/Freeway-v1")
        env.reset(seed=0)
        ends = [env.step(np.int64(0))[2] for _ in range(2501)]
        assert ends == [False] * 2500 + [True]

    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("game", GAMES)
    def test_its_state_is_restored_exactly(self, game: str, num_envs: int) -> None:
        name = f"MinAtar/{game}-v1"
        first, second = (Environments(make_vector(name, {}, num_envs), 7) for _ in range(2))
        actions = np.random.default_rng(0).integers(GAMES[game][1], size=(260, num_envs))
        for action in actions[:200]:
            first.step(action)
        assert second.restore({name: np.copy(value) for name, value in first.state().items()})
        for action in actions[200:]:
            for a, b in zip(first.step(action), second.step(action), strict=True):
                np.testing.assert_array_equal(a, b)
        for each in (first, second):
            each.close()

    def test_the_registration_of_the_package_makes_room(self) -> None:
        code = (
            "import gymnasium, minatar.gym\nminatar.gym.register_envs()\nimport rlkit.envs\n"
            "print(gymnasium.spec('MinAtar/Freeway-v0').entry_point)"
        )
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=180)
        assert told.stdout == "rlkit.envs.minatar:MinAtar\n"

    def test_its_picture(self) -> None:
        env = gymnasium.make("MinAtar/Breakout-v1", render_mode="rgb_array")
        env.reset(seed=0)
        seen, *_ = env.step(np.int64(0))  # the ball leaves the bricks
        picture: Any = env.render()
        assert picture.shape == (320, 320, 3)
        assert picture.dtype == np.uint8
        cells = picture.reshape(10, 32, 10, 32, 3).swapaxes(1, 2)  # [10, 10, 32, 32, 3]
        inside = cells[:, :, 1:, 1:]
        assert (inside == inside[:, :, :1, :1]).all(), "a cell is of one colour"
        colours = {tuple(cells[row, column, 16, 16].tolist()) for row, column in np.argwhere(seen[:, :, 3])}
        assert len(colours) == 1, "all bricks are alike"
        # Paddle, ball, bricks, in which its trail is, and nothing.
        assert len({tuple(colour) for colour in cells[:, :, 16, 16].reshape(-1, 3).tolist()}) == 4
        paddle = cells[9, 4, 16, 16].tolist()
        env.unwrapped.step(np.int64(1))
        moved: Any = env.render()
        assert moved[9 * 32 + 16, 3 * 32 + 16].tolist() == paddle
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert gymnasium.make("MinAtar/Breakout-v1").unwrapped.render() is None

    def test_it_is_filmed(self, tmp_path: Path) -> None:
        image = pytest.importorskip("PIL.Image")
        played = record(lambda _: np.zeros(1, np.int64), "MinAtar/Breakout-v1", {}, tmp_path / "game.gif")
        assert played.frames == played.lengths[0] + 1
        with image.open(tmp_path / "game.gif") as film:
            assert film.size[0] == 320

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"sticky_action_prob": 1.5}, "sticky_action_prob is 1.5, expected from 0 to 1"),
            ({"sticky_action_prob": -0.1}, "sticky_action_prob is -0.1, expected from 0 to 1"),
            ({"render_mode": "human"}, "render_mode is 'human', expected None or 'rgb_array'"),
        ],
    )
    def test_what_is_refused(self, arguments: dict[str, Any], sentence: str) -> None:
        from rlkit.envs.minatar import MinAtar

        with pytest.raises(UserError) as refused:
            MinAtar("breakout", **arguments)
        assert str(refused.value) == sentence


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minatar", None)
    monkeypatch.delitem(sys.modules, "rlkit.envs.minatar", raising=False)
    assert "MinAtar/Breakout-v1" in lookup.names()
    with pytest.raises(UserError, match=r"^env 'MinAtar/Breakout-v1' needs a package: .*\[minatar\]'") as refused:
        lookup.find("MinAtar/Breakout-v1")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("game", GAMES)
def test_the_network_has_as_many_weights_as_in_the_paper(game: str) -> None:
    channels, actions = GAMES[game]
    model = minatar_cnn(grid(10, 10, channels), actions)
    # 10 cells are 10 - 3 + 1 = 8 after the convolution.
    assert model.count_params() == (3 * 3 * channels * 16 + 16) + (8 * 8 * 16 * 128 + 128) + (128 * actions + actions)


@pytest.mark.parametrize("dueling", [False, True])
def test_its_values_are_those_of_a_convolution_written_out(dueling: bool) -> None:
    space = grid(6, 5, 3)
    model = minatar_cnn(space, 4, hidden=(7, 6), dueling=dueling, seed=3)
    seen = batch(space)
    w = [v.numpy().astype(np.float64) for v in model.trainable_weights]
    x = np.zeros((3, 4, 3, 16))
    for i, j in np.ndindex(4, 3):
        x[:, i, j] = np.maximum(np.tensordot(seen[:, i : i + 3, j : j + 3], w[0], 3) + w[1], 0)
    x = np.maximum(x.reshape(3, -1) @ w[2] + w[3], 0)
    if dueling:
        value, advantage = (np.maximum(x @ w[k] + w[k + 1], 0) for k in (4, 6))
        advantages = advantage @ w[10] + w[11]
        expected = value @ w[8] + w[9] + advantages - advantages.mean(axis=1, keepdims=True)
    else:
        expected = np.maximum(x @ w[4] + w[5], 0) @ w[6] + w[7]
    np.testing.assert_allclose(model(seen.astype(observation_dtype(space))), expected, rtol=1e-4, atol=1e-6)
    assert np.unique(expected, axis=0).shape[0] == 3, "the values depend on the observation"


def test_its_weights_are_a_function_of_the_seed() -> None:
    def kernels(seed: int) -> list[np.ndarray]:
        model = minatar_cnn(grid(5, 5, 2), 2, dueling=True, seed=seed)
        return [v.numpy() for v in model.trainable_weights if len(v.shape) > 1]

    one, again, other = kernels(5), kernels(5), kernels(6)
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    assert not np.array_equal(one[1], one[2]), "the streams begin apart"


@pytest.mark.parametrize("space", [grid(10), grid(10, 10), grid(2, 10, 4), grid(10, 2, 4), spaces.Discrete(5)], ids=str)
def test_what_is_no_grid_is_refused(space: gymnasium.Space[Any]) -> None:
    with pytest.raises(UserError) as refused:
        DQN(DQNConfig(env="toy", network="minatar-cnn"), space, spaces.Discrete(2))
    assert str(refused.value) == (
        f"the observation space {space} is no grid for the network minatar-cnn: a Box of shape [H, W, C] is, with H "
        "and W at least 3"
    )


def test_its_hidden_layer_is_the_papers_unless_given() -> None:
    assert DQNConfig(env="toy", network="minatar-cnn").hidden == (128,)
    assert DQNConfig(env="toy", network="minatar-cnn", hidden=(9,)).hidden == (9,)


@pytest.mark.parametrize("make", [q_network, minatar_cnn])
def test_truth_values_are_zeros_and_ones_to_a_network(make: Any) -> None:
    truths, numbers = make(grid(4, 4, 2), 3, seed=1), make(spaces.Box(0, 1, (4, 4, 2), np.float32), 3, seed=1)
    seen = batch(grid(4, 4, 2))
    np.testing.assert_array_equal(truths(seen.astype(np.uint8)), numbers(seen.astype(np.float32)))
    forward = numpy_forward(truths)
    assert (forward is None) == (make is minatar_cnn)
    if forward:
        values = forward(seen, [v.numpy() for v in truths.trainable_weights])
        np.testing.assert_allclose(values, truths(seen.astype(np.uint8)), rtol=1e-5, atol=1e-6)


def test_a_truth_value_is_stored_in_a_byte() -> None:
    replay = Replay(50, 1, grid(10, 10, 4))
    assert replay.fields["observation"].nbytes == replay.fields["next_observation"].nbytes == 50 * 400


@pytest.mark.parametrize("game", GAMES)
def test_its_preset(game: str) -> None:
    name = f"MinAtar-{game}"
    assert presets.slug(f"MinAtar/{game}-v1") == f"{name}-v1"
    config = DQNConfig(env=f"MinAtar/{game}-v1", **presets.load("dqn", f"{name}-v1"))
    assert config.network == "minatar-cnn"
    assert config.hidden == (128,)
    assert config.steps <= 1_000_000, "the frames to which the paper's figures belong"


class Lit(gymnasium.Env[np.ndarray, np.int64]):
    """The cells of one half are set more often; the action says of which, for a reward of 1, and the episode ends."""

    observation_space = grid(6, 6, 2)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(2))
        share = np.full((6, 6, 2), 0.1)
        share[:, 3 * self.side : 3 * self.side + 3] = 0.6
        return self.np_random.random((6, 6, 2)) < share, {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros((6, 6, 2), np.bool_), float(action == self.side), True, False, {}


@pytest.fixture
def lit() -> Iterator[str]:
    gymnasium.register("test/LitGrid-v0", entry_point=Lit)  # type: ignore[arg-type] # it takes no arguments
    yield "test/LitGrid-v0"
    del gymnasium.registry["test/LitGrid-v0"]


def test_a_dqn_learns_from_truth_values(lit: str, tmp_path: Path) -> None:
    run = rlkit.train(
        "dqn", lit, run_dir=tmp_path, network="minatar-cnn", steps=600, num_envs=2, learning_starts=50,
        buffer_size=400, batch_size=16, train_interval=4, target_interval=20, eval_interval=0, learning_rate=2e-3,
        epsilon_duration=200, jit=False, threads=1,
    )  # fmt: skip
    # By chance alone 90 or more of 100 would be right with a probability of 1.5e-17.
    assert run.evaluate(episodes=100).mean >= 0.9
