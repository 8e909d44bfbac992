"""Envs that show a part of what they know: the numbers kept, and all that any env must do."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from rlkit.envs import lookup, twins
from rlkit.envs.masked import Masked
from rlkit.errors import UserError
from rlkit.interaction.vector import Environments, make_vector

ENV = "rlkit/MaskedCartPole-v0"


def rows(env: Any, seed: int, steps: int = 60) -> list[tuple[Any, ...]]:
    """What an env returns for the same seed and actions, episode after episode."""
    actions = np.random.default_rng(seed).integers(2, size=steps)
    found: list[tuple[Any, ...]] = [(env.reset(seed=seed)[0].tolist(),)]
    for action in actions:
        observation, *rest, _ = env.step(int(action))
        found.append((observation.tolist(), *rest))
        if rest[1] or rest[2]:
            found.append((env.reset()[0].tolist(),))
    return found


def test_it_is_cartpole_without_its_velocities() -> None:
    masked, whole = gymnasium.make(ENV), gymnasium.make("CartPole-v1")
    for seed in range(3):
        for (seen, *rest), (known, *expected) in zip(rows(masked, seed), rows(whole, seed), strict=True):
            assert seen == [known[0], known[2]]
            assert rest == expected
    assert whole.observation_space.shape == (4,)
    assert isinstance(masked.observation_space, spaces.Box)
    assert isinstance(whole.observation_space, spaces.Box)
    np.testing.assert_array_equal(masked.observation_space.high, whole.observation_space.high[[0, 2]])
    np.testing.assert_array_equal(masked.observation_space.low, whole.observation_space.low[[0, 2]])
    assert masked.action_space == whole.action_space


def test_its_registration_is_cartpoles() -> None:
    ours, theirs = lookup.find(ENV), lookup.find("CartPole-v1")
    assert (ours.max_episode_steps, ours.reward_threshold) == (theirs.max_episode_steps, theirs.reward_threshold)
    assert lookup.arguments(ENV) == lookup.arguments("CartPole-v1")
    assert ENV in lookup.names()
    assert twins.twin(ENV, {}) is None


def test_an_episode_is_truncated_after_500_steps() -> None:
    env = gymnasium.make(ENV)
    env.reset(seed=0)
    state: Any = env.unwrapped
    for step in range(500):
        state.state = np.zeros(4)
        _, reward, terminated, truncated, _ = env.step(0)
        assert (reward, terminated, truncated) == (1.0, False, step == 499)


def test_it_passes_gymnasiums_checks_and_pickle() -> None:
    env = gymnasium.make(ENV)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version", category=UserWarning)
        check_env(env, skip_render_check=True)
    copy = pickle.loads(pickle.dumps(env))
    assert rows(copy, 5) == rows(env, 5)
    again = gymnasium.make(env.spec or ENV)
    assert isinstance(again, Masked)
    assert rows(again, 5) == rows(env, 5)


def test_it_is_drawn_as_cartpole_is() -> None:
    pytest.importorskip("pygame")
    pictures: list[Any] = []
    for name in (ENV, "CartPole-v1"):
        env = gymnasium.make(name, render_mode="rgb_array")
        env.reset(seed=3)
        pictures.append(env.render())
        env.close()
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_its_state_is_restored_exactly(num_envs: int) -> None:
    first, second = (Environments(make_vector(ENV, {}, num_envs), 7) for _ in range(2))
    assert first.saves_exactly()
    actions = np.random.default_rng(0).integers(2, size=(80, num_envs))
    for action in actions[:40]:
        first.step(action)
    assert second.restore({name: np.copy(value) for name, value in first.state().items()})
    for action in actions[40:]:
        for a, b in zip(first.step(action), second.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
    for each in (first, second):
        each.close()


def test_a_user_masks_what_he_likes() -> None:
    env = Masked(gymnasium.make("Acrobot-v1"), keep=(5, 0, 1))
    known = gymnasium.make("Acrobot-v1")
    seen, _ = env.reset(seed=2)
    assert seen.tolist() == known.reset(seed=2)[0][[5, 0, 1]].tolist()
    assert env.observation_space.contains(seen)
    assert env.spec is not None
    assert env.spec.additional_wrappers[-1].kwargs == {"keep": (5, 0, 1)}


@pytest.mark.parametrize(
    ("env", "keep", "sentence"),
    [
        ("CartPole-v1", (), r"^keep is \(\), expected places from 0 to 3$"),
        ("CartPole-v1", (0, 4), r"^keep is \(0, 4\), expected places from 0 to 3$"),
        ("CartPole-v1", (-1,), r"^keep is \(-1,\), expected places from 0 to 3$"),
        ("FrozenLake-v1", (0,), r"^the observation space Discrete\(16\) cannot be masked: a Box of one axis can$"),
    ],
)
def test_what_cannot_be_masked_is_refused(env: str, keep: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Masked(gymnasium.make(env), keep)
