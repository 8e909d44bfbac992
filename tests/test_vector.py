"""The three ways in which Gymnasium's vector envs end episodes give the same transitions, and states restore."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from rlkit.errors import UserError
from rlkit.interaction.vector import Environments, OneEnv, make_vector


class Counting(gymnasium.Env[np.ndarray, Any]):
    """Observes [episodes so far, steps in this one]; action 1 terminates, action 0 goes on; reward 1."""

    observation_space = spaces.Box(0, 1000, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.episode, self.steps = -1, 0

    def observe(self) -> np.ndarray:
        return np.array([self.episode, self.steps], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observe(), 1.0, bool(action == 1), False, {}


def limited() -> gymnasium.Env[np.ndarray, Any]:
    return TimeLimit(Counting(), 3)


def vector(mode: AutoresetMode, n: int = 2) -> VectorEnv:
    return SyncVectorEnv([limited] * n, autoreset_mode=mode)


MODES = {
    "disabled": lambda: vector(AutoresetMode.DISABLED),
    "next step": lambda: vector(AutoresetMode.NEXT_STEP),
    "same step": lambda: vector(AutoresetMode.SAME_STEP),
    "async": lambda: AsyncVectorEnv([limited] * 2, autoreset_mode=AutoresetMode.DISABLED),
}


@pytest.mark.parametrize("make", MODES.values(), ids=MODES.keys())
def test_transitions_are_the_same_in_every_autoreset_mode(make: Callable[[], VectorEnv]) -> None:
    envs = Environments(make(), seed=0)
    seen: list[list[tuple[object, ...]]] = [[], []]
    while min(map(len, seen)) < 7:
        before = envs.observation.copy()
        # env 0 never terminates and is truncated after 3 steps; env 1 terminates on its second step
        actions = np.array([0, 1 if before[1, 1] == 1 else 0])
        step = envs.step(actions)
        for e in np.flatnonzero(step.valid):
            end = "terminated" if step.terminated[e] else "truncated" if step.truncated[e] else ""
            seen[e].append((*before[e], *step.next_observation[e], step.reward[e], end))
    envs.close()
    # (episode, steps) before, the same after, reward, end: worked by hand, no row from an end to a start
    assert seen[0][:7] == [
        (0, 0, 0, 1, 1, ""), (0, 1, 0, 2, 1, ""), (0, 2, 0, 3, 1, "truncated"),
        (1, 0, 1, 1, 1, ""), (1, 1, 1, 2, 1, ""), (1, 2, 1, 3, 1, "truncated"), (2, 0, 2, 1, 1, ""),
    ]  # fmt: skip
    assert seen[1][:5] == [
        (0, 0, 0, 1, 1, ""), (0, 1, 0, 2, 1, "terminated"),
        (1, 0, 1, 1, 1, ""), (1, 1, 1, 2, 1, "terminated"), (2, 0, 2, 1, 1, ""),
    ]  # fmt: skip


def test_one_env_is_a_vector_env_of_one() -> None:
    one, many = Environments(OneEnv(limited), 3), Environments(vector(AutoresetMode.DISABLED, 1), 3)
    for i in range(20):
        actions = np.array([i % 5 == 4], np.int32)
        for a, b in zip(one.step(actions)[:5], many.step(actions)[:5], strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(one.observation, many.observation)


def test_each_training_episode_has_a_seed_of_its_own() -> None:
    first = Environments(make_vector("CartPole-v1", {}, 3, "sync"), 0)
    starts = [*first.observation]
    while first.episodes.min() < 4:
        step = first.step(np.zeros(3, np.int32))
        starts += [first.observation[e] for e in np.flatnonzero(step.terminated)]
    assert len({start.tobytes() for start in starts}) == len(starts)
    again = Environments(make_vector("CartPole-v1", {}, 3, "sync"), 0)
    other = Environments(make_vector("CartPole-v1", {}, 3, "sync"), 1)
    np.testing.assert_array_equal(again.observation, starts[:3])
    assert not np.array_equal(other.observation, starts[:3])


def actions_of(envs: Environments) -> int:
    assert isinstance(envs.action_space, spaces.Discrete)
    return int(envs.action_space.n)


def roll(envs: Environments, steps: int, seed: int) -> list[np.ndarray]:
    rows: list[np.ndarray] = []
    for actions in np.random.default_rng(seed).integers(actions_of(envs), size=(steps, envs.num_envs)):
        step = envs.step(actions.astype(np.int32))
        rows += [*map(np.copy, step[:5]), envs.observation.copy(), envs.episodes.copy()]
    return rows


KINDS = [
    ("CartPole-v1", 1, "sync"),
    ("CartPole-v1", 3, "sync"),
    ("CartPole-v1", 3, "native"),
    ("CartPole-v1", 2, "async"),
    ("Acrobot-v1", 2, "auto"),
    ("MountainCar-v0", 1, "auto"),
    ("FrozenLake-v1", 4, "sync"),
    ("LunarLander-v3", 2, "sync"),
]


@pytest.mark.parametrize(("env", "n", "how"), KINDS)
@pytest.mark.parametrize("steps", [0, 1, 137])
def test_a_restored_state_continues_bit_for_bit(env: str, n: int, how: str, steps: int) -> None:
    envs = Environments(make_vector(env, {}, n, how), seed=5)
    assert envs.saves_exactly()
    roll(envs, steps, 0)
    state = {k: np.copy(v) for k, v in envs.state().items()}
    expected = roll(envs, 150, 1)
    envs.close()
    fresh = Environments(make_vector(env, {}, n, how), seed=5)
    assert fresh.restore(state)
    assert all(np.array_equal(a, b) for a, b in zip(expected, roll(fresh, 150, 1), strict=True))
    fresh.close()


class Forgetful(Counting):
    """Its start depends on something that no seed says."""

    starts = 0

    def observe(self) -> np.ndarray:
        return np.array([self.begun, self.steps], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        Forgetful.starts += 1
        self.begun = Forgetful.starts
        return super().reset(seed=seed, options=options)


def test_a_state_that_does_not_come_back_starts_fresh_episodes_and_says_so() -> None:
    envs = Environments(SyncVectorEnv([Forgetful] * 2, autoreset_mode=AutoresetMode.DISABLED), 0)
    roll(envs, 5, 0)
    state = envs.state()
    fresh = Environments(SyncVectorEnv([Forgetful] * 2, autoreset_mode=AutoresetMode.DISABLED), 0)
    assert not fresh.restore(state)
    assert fresh.observation[:, 1].tolist() == [0, 0]
    assert (fresh.episodes == state["episodes"] + 1).all()


class Doors(Counting):
    """Which door pays is drawn by a generator of its own at each reset; what is seen is the time."""

    def __init__(self, kind: str = "own") -> None:
        super().__init__()
        self.kind, self.own = kind, np.random.default_rng()
        self.action_space = spaces.Discrete(2)
        self.parts = {"world": [np.random.default_rng()]}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        _, info = super().reset(seed=seed, options=options)
        draws: dict[str, Callable[[], float]] = {
            "own": self.own.random,
            "module": np.random.random,
            "space": lambda: float(self.action_space.sample()),
            "nested": self.parts["world"][0].random,
            "seed": self.np_random.random,
        }
        self.good = int(draws[self.kind]() < 0.5)
        return self.observe(), info

    def observe(self) -> np.ndarray:
        return np.array([0, self.steps], np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observe(), float(action == self.good), self.steps >= 20, False, {}


@pytest.mark.parametrize("kind", ["own", "module", "space", "nested", "seed"])
@pytest.mark.parametrize("steps", [0, 7])
def test_an_env_with_a_generator_of_its_own_is_never_said_to_come_back(kind: str, steps: int) -> None:
    """Also just after a reset, where nothing has told yet which door it is."""
    envs = Environments(OneEnv(lambda: Doors(kind)), 0)
    for _ in range(steps):
        envs.step(np.array([0]))
    state = {k: np.copy(v) for k, v in envs.state().items()}
    for _ in range(4):
        other = Environments(OneEnv(lambda: Doors(kind)), 0)
        assert other.restore(state) == (kind == "seed")
        assert other.saves_exactly() == (kind == "seed")


def test_rewards_of_an_episode_played_again_are_compared() -> None:
    envs = Environments(OneEnv(lambda: Doors("seed")), 0)
    for _ in range(7):
        envs.step(np.array([0]))
    state = envs.state()
    other = Environments(OneEnv(lambda: Doors("seed")), 0)
    assert not other.restore({**state, "paid": 1 - state["paid"]})
    assert other.restore({name: value for name, value in state.items() if name != "paid"})


def test_a_vector_env_with_hidden_state_is_known_not_to_save() -> None:
    class Hidden(SyncVectorEnv):  # its state is in a list of envs, which attributes cannot hold
        pass

    envs = Environments(Hidden([lambda: gymnasium.make("CartPole-v1")] * 2, autoreset_mode=AutoresetMode.NEXT_STEP), 0)
    assert not envs.saves_exactly()


def test_the_action_log_stays_as_short_as_the_episodes() -> None:
    envs = Environments(vector(AutoresetMode.DISABLED), 0)
    for _ in range(2000):
        envs.step(np.zeros(2, np.int32))
    assert len(envs.state()["log"]) <= 256
    assert envs._log.nbytes <= 256 * 2 * 4


def test_auto_takes_the_native_vector_env_for_several() -> None:
    assert type(make_vector("CartPole-v1", {}, 2)).__name__ == "CartPoleVectorEnv"
    assert isinstance(make_vector("CartPole-v1", {}, 1), OneEnv)
    assert isinstance(make_vector("Acrobot-v1", {}, 2), SyncVectorEnv)


def test_ctrl_c_does_not_reach_the_workers() -> None:
    envs = make_vector("CartPole-v1", {}, 2, "async")
    assert isinstance(envs, AsyncVectorEnv)
    envs.reset(seed=0)
    for process in envs.processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
    steps = [envs.step(np.zeros(2, np.int32)) for _ in range(5)]
    assert [observation.shape for observation, *_ in steps] == [(2, 4)] * 5
    envs.close()


def test_arguments_reach_the_env_and_wrong_ones_are_refused() -> None:
    assert make_vector("FrozenLake-v1", {"map_name": "8x8"}, 1).single_observation_space == spaces.Discrete(64)
    with pytest.raises(UserError, match=r"CartPole-v1 refuses its arguments \{'mass': 2\}"):
        make_vector("CartPole-v1", {"mass": 2}, 1)
    with pytest.raises(UserError, match="vectorization is native, but Acrobot-v1 has no vector version"):
        make_vector("Acrobot-v1", {}, 2, "native")
