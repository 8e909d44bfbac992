"""What is said to be possible contains what happens, and its ends happen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlkit.envs import twins
from rlkit.envs.returns import KNOWN, possible_returns
from rlkit.exact.mdp import FiniteMDP

INFINITE = (-math.inf, math.inf)


@pytest.mark.parametrize("name", sorted({*KNOWN, *twins.MODELS} - {"rlkit/FiniteMDP-v0"}))
def test_returns_of_random_episodes_are_possible(name: str) -> None:
    low, high = possible_returns(name, {})
    env = gymnasium.make(name, max_episode_steps=None if gymnasium.spec(name).max_episode_steps else 5_000)
    env.action_space.seed(0)
    for seed in range(10):
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over = total + float(reward), terminated or truncated
        assert low <= total <= high
    env.close()


def test_every_twin_has_its_range() -> None:
    assert set(twins.TWINS) <= set(KNOWN)
    assert all(np.isfinite(possible_returns(name, {})).all() for name in KNOWN)


@pytest.mark.parametrize(
    ("name", "arguments", "ends"),
    [
        ("CartPole-v1", {}, (1, 500)),
        ("Acrobot-v1", {}, (-500, 0)),
        ("MountainCar-v0", {"goal_velocity": 0.01}, (-200, -1)),
        ("Pendulum-v1", {}, (-200 * 16.2736044, 0)),  # Gymnasium's page: -(pi^2 + 0.1 8^2 + 0.001 2^2) a step at worst
        ("rlkit/Catch-v0", {"rows": 5}, (-1, 1)),
        ("FrozenLake-v1", {}, (0, 1)),
        # At worst 200 forbidden attempts, of -10 each. At best the passenger waits where the taxi begins, and wants to
        # the other end of the column: -1 to let them in, four steps of -1, and 20.
        ("Taxi-v4", {}, (-2000, 15)),
        ("CliffWalking-v1", {}, (-math.inf, -13)),  # Sutton and Barto 2018, example 6.6: 13 steps at best
        ("rlkit/NumberTriangle-v0", {"triangle": [[1], [2, 3], [4, 5, 6]]}, (7, 10)),
    ],
)
def test_the_ends_are_those_worked_by_hand(name: str, arguments: dict[str, Any], ends: tuple[float, float]) -> None:
    assert possible_returns(name, arguments) == pytest.approx(ends)


def test_a_model_that_goes_on_paying_has_no_largest_return(tmp_path: Path) -> None:
    dense = np.zeros((2, 2, 2))
    dense[0, 0] = [1.0, 0.0]  # stay, for 1
    dense[0, 1] = [0.0, 1.0]  # end, for -3
    dense[1, :, 1] = 1.0
    mdp = FiniteMDP.from_dense(dense, [[1.0, -3.0], [0.0, 0.0]], terminal=[False, True])
    mdp.save(tmp_path / "a.npz")
    assert possible_returns("rlkit/FiniteMDP-v0", {"path": str(tmp_path / "a.npz")}) == (-3, math.inf)
    mdp.replace(horizon=5).save(tmp_path / "b.npz")
    assert possible_returns("rlkit/FiniteMDP-v0", {"path": str(tmp_path / "b.npz")}) == (-3, 5)


def test_nothing_is_known_of_other_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert possible_returns("none/Unknown-v0", {}) == INFINITE
    assert possible_returns("LunarLander-v3", {}) == INFINITE
    assert possible_returns("CartPole-v1", {"sutton_barto_reward": True}) == INFINITE
    assert possible_returns("Taxi-v4", {"fickle_passenger": True}) == INFINITE
    assert possible_returns("rlkit/FiniteMDP-v0", {"path": "none.npz"}) == INFINITE
    own = gymnasium.envs.registration.EnvSpec("CartPole-v1", entry_point="my.cart:Pole", max_episode_steps=9)
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", own)
    assert possible_returns("CartPole-v1", {}) == INFINITE
