"""Envs as tensor functions: held to Gymnasium's step by step, their draws, and the envs made of them."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from scipy import stats

from rlkit import envs, functional
from rlkit.functional import FunctionalEnv, FunctionalVectorEnv
from rlkit.mdp import FiniteMDP
from rlkit.vector import Environments

DYNAMICS = {  # how Gymnasium's state follows from ours, states to try, and the tolerance of a step
    "CartPole-v1": ((2.4, 3.0, 0.21, 3.0), 2e-6),
    "Acrobot-v1": ((math.pi, math.pi, 4 * math.pi, 9 * math.pi), 2e-3),
    "MountainCar-v0": ((1.2, 0.07), 1e-6),
    "Pendulum-v1": ((math.pi, 8.0), 2e-5),
}
FINITE = ["FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1", "CliffWalkingSlippery-v1"]
FINITE += ["rlkit/NumberTriangle-v0", "rlkit/Garnet-v0"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "rlkit/NumberTriangle-v0": {"rows": 6, "triangle_seed": 1, "slip": 0.25},
    "rlkit/Garnet-v0": {"states": 30, "garnet_seed": 2},
}


def made(name: str, **arguments: Any) -> FunctionalEnv:
    env = envs.twin(name, {**ARGUMENTS.get(name, {}), **arguments})
    assert env is not None
    return env


def bits(shape: tuple[int, int], seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).integers(0, 2**32, shape, np.uint32))


def test_every_twin_is_known_here() -> None:
    assert set(envs.TWINS) == set(DYNAMICS)
    assert set(envs.MODELS) == {*FINITE, "rlkit/FiniteMDP-v0"}


@pytest.mark.parametrize("name", [*DYNAMICS, *FINITE])
def test_the_spaces_are_gymnasiums(name: str) -> None:
    theirs = gymnasium.make(name, **ARGUMENTS.get(name, {}))
    ours = made(name)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    running = functional.begin(ours, bits((5, ours.initial_draws + ours.transition_draws)))
    for row in running.observation.numpy():
        assert theirs.observation_space.contains(row if row.ndim else int(row))


@pytest.mark.parametrize("name", DYNAMICS)
def test_a_step_is_gymnasiums_from_thousands_of_states(name: str) -> None:
    # float32 against float64: the tolerance is the rounding of a step; states within it of a threshold may differ.
    extent, tolerance = DYNAMICS[name]
    rng, count = np.random.default_rng(1), 3_000
    ours, theirs = made(name), gymnasium.make(name).unwrapped
    state = (rng.uniform(-1, 1, (count, len(extent))) * extent).astype(np.float32)
    if name == "MountainCar-v0":
        state[:, 0] = rng.uniform(-1.2, 0.6, count)
    if isinstance(ours.action_space, spaces.Discrete):
        actions = rng.integers(ours.action_space.n, size=count)
    else:
        actions = rng.uniform(-3, 3, (count, 1)).astype(np.float32)  # beyond the limits too
    kind = type(ours.initial(bits((1, ours.initial_draws))))
    before = kind(*map(tf.constant, state.T))
    action = tf.constant(actions, tf.int32 if actions.ndim == 1 else tf.float32)
    after = ours.transition(before, action, bits((count, ours.transition_draws)))
    found = [x.numpy() for x in (ours.observation(after), ours.reward(before, action, after), ours.terminal(after))]
    theirs.reset(seed=0)
    undecided = 0
    for i in range(count):
        theirs.state = state[i].astype(np.float64)  # type: ignore[attr-defined]
        if name == "CartPole-v1":
            theirs.steps_beyond_terminated = None  # type: ignore[attr-defined]
        observation, reward, terminated, _, _ = theirs.step(actions[i])
        np.testing.assert_allclose(found[0][i], observation, rtol=1e-5, atol=tolerance, err_msg=str(state[i]))
        if bool(found[2][i]) == terminated:
            assert found[1][i] == pytest.approx(float(reward), rel=1e-5, abs=10 * tolerance)
        else:
            undecided += 1
    assert undecided <= 3
    assert name == "Pendulum-v1" or 20 < found[2].sum() < count - 20, "both kinds of states were tried"


@pytest.mark.parametrize("name", DYNAMICS)
def test_first_states_are_distributed_as_gymnasiums(name: str) -> None:
    # Kolmogorov-Smirnov for each number of the observation; false alarm below 1e-6 a number.
    ours, theirs = made(name), gymnasium.make(name)
    found = ours.observation(ours.initial(bits((4_000, ours.initial_draws)))).numpy()
    expected = np.array([theirs.reset(seed=i)[0] for i in range(2_000)])
    assert found.dtype == expected.dtype
    for column in range(found.shape[1]):
        if np.ptp(expected[:, column]):
            assert stats.ks_2samp(found[:, column], expected[:, column]).pvalue > 1e-6
        else:
            assert np.ptp(found[:, column]) == 0


@pytest.mark.parametrize("name", FINITE)
def test_outcomes_have_the_models_chances_rewards_and_ends(name: str) -> None:
    # Every row of up to 60 states, 4,000 draws each; the chi-square of all rows: false alarm below 1e-6.
    ours = made(name)
    mdp = FiniteMDP.from_env(gymnasium.make(name, **ARGUMENTS.get(name, {})), gamma=0.9)
    draws, chi, degrees = 4_000, 0.0, 0
    kind = type(ours.initial(bits((1, 1))))
    for state in np.flatnonzero(~mdp.terminal)[:60]:
        for action in range(mdp.actions):
            row = state * mdp.actions + action
            span = slice(mdp.indptr[row], mdp.indptr[row + 1])
            here = kind(tf.fill([draws], tf.constant(state, tf.int32)), tf.zeros([draws]), tf.fill([draws], False))
            chosen = tf.fill([draws], tf.constant(action + int(ours.action_space.start), tf.int32))  # type: ignore[attr-defined]
            after = ours.transition(here, chosen, bits((draws, 1), int(row)))
            reward, ended = ours.reward(here, chosen, after).numpy(), ours.terminal(after).numpy()
            given = mdp.rewards[state, action] if mdp.outcome_rewards is None else mdp.outcome_rewards[span]
            ends = mdp.terminal[mdp.indices[span]]
            ends = ends if mdp.terminated is None else ends | mdp.terminated[span]
            outcomes: dict[tuple[Any, ...], float] = {}
            for to, r, e, p in zip(
                mdp.indices[span], np.broadcast_to(given, ends.shape), ends, mdp.probabilities[span], strict=True
            ):
                key = (int(to), float(np.float32(r)), bool(e))
                outcomes[key] = outcomes.get(key, 0.0) + float(p)
            seen = list(zip(after.state.numpy().tolist(), reward.tolist(), ended.tolist(), strict=True))
            assert set(seen) <= set(outcomes)
            for key, p in outcomes.items():
                chi += (seen.count(key) - p * draws) ** 2 / (p * draws)
            degrees += len(outcomes) - 1
    assert degrees == 0 or stats.chi2.sf(chi, degrees) > 1e-6
    first = ours.initial(bits((20_000, 1))).state.numpy()
    share = np.bincount(first, minlength=mdp.states) / len(first)
    assert (np.abs(share - mdp.start) <= 6 * np.sqrt(mdp.start / len(first)) + 1e-12).all()


def test_a_model_without_fitting_rows_is_no_twin(tmp_path: Path) -> None:
    dense = np.zeros((2, 2, 2))
    dense[:, :, 1] = 1.0
    FiniteMDP.from_dense(dense, np.ones((2, 2)), horizon=3).save(tmp_path / "a.npz")
    assert envs.twin("rlkit/FiniteMDP-v0", {"path": str(tmp_path / "a.npz")}) is None
    FiniteMDP.from_dense(dense, np.ones((2, 2)), gamma=0.5).save(tmp_path / "b.npz")
    assert envs.twin("rlkit/FiniteMDP-v0", {"path": str(tmp_path / "b.npz")}) is not None
    assert envs.twin("LunarLander-v3", {}) is None
    assert envs.twin("CartPole-v1", {"sutton_barto_reward": True}) is None
    assert envs.twin("gymnasium:MountainCar-v0", {"goal_velocity": 0.02}) is not None


@pytest.mark.parametrize("name", [*DYNAMICS, *FINITE])
def test_the_same_bits_give_the_same_draws_with_and_without_xla(name: str) -> None:
    ours = made(name)

    def draw(given: tf.Tensor) -> tf.Tensor:
        return ours.observation(ours.initial(given))

    given = bits((64, ours.initial_draws))
    plain, compiled = tf.function(draw)(given), tf.function(draw, jit_compile=True)(given)
    np.testing.assert_allclose(plain, compiled, rtol=0, atol=1e-6)


def actions_of(env: FunctionalVectorEnv, count: int) -> list[np.ndarray]:
    env.action_space.seed(3)
    return [env.action_space.sample() for _ in range(count)]


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_as_a_vector_env_it_ends_and_begins_episodes_in_the_same_step(name: str) -> None:
    env = FunctionalVectorEnv(made(name), 7, 25)
    first, _ = env.reset(seed=4)
    assert env.observation_space.contains(first.astype(env.observation_space.dtype))
    lengths, ended_early = np.zeros(7, int), 0
    observation = first
    for action in actions_of(env, 150):
        before = observation
        observation, reward, terminated, truncated, info = env.step(action)
        lengths += 1
        ended = terminated | truncated
        assert reward.shape == (7,)
        assert (info["_final_obs"] == ended).all()
        assert (lengths[truncated] == 25).all()
        assert ended[lengths == 25].all()
        same = np.array([np.array_equal(a, b) for a, b in zip(info["final_obs"], observation, strict=True)])
        assert same[~ended].all()
        assert not np.array_equal(before, info["final_obs"]) or name == "FrozenLake-v1"
        ended_early += int((terminated & ~truncated).sum())
        lengths[ended] = 0
    assert name == "Pendulum-v1" or ended_early > 0


def test_seeds_decide_everything_and_a_copy_goes_on_alike() -> None:
    def rollout(env: FunctionalVectorEnv, seed: int | None) -> list[np.ndarray]:
        rows = [env.reset(seed=seed)[0]]
        for action in actions_of(env, 40):
            observation, *rest, info = env.step(action)
            rows += [observation, *rest, info["final_obs"]]
        return rows

    env = FunctionalVectorEnv(made("CartPole-v1"), 3, 12)
    one, two = rollout(env, 5), rollout(FunctionalVectorEnv(made("CartPole-v1"), 3, 12), 5)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(rollout(env, 6)[0], one[0])
    assert not np.array_equal(rollout(env, None)[0], rollout(env, None)[0])


def test_its_state_can_be_saved_and_restored_to_the_bit() -> None:
    def fresh() -> Environments:
        return Environments(FunctionalVectorEnv(made("CartPole-v1"), 4, 15), 2)

    whole, other = fresh(), fresh()
    assert whole.saves_exactly()
    actions = np.random.default_rng(0).integers(2, size=(60, 4))
    for action in actions[:30]:
        whole.step(action)
    state = pickle.loads(pickle.dumps(whole.state()))
    assert other.restore(state)
    for action in actions[30:]:
        for a, b in zip(whole.step(action), other.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(whole.observation, other.observation)


def page() -> str:
    return (Path(__file__).parents[1] / "docs" / "functional-envs.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """The page's example as a module that can be imported."""

    def write() -> Path:
        (code,) = re.findall(r"```python\n(.*?)```", page(), re.DOTALL)
        (tmp_path / "corridor.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    return write


def test_the_pages_own_env_is_an_env_a_vector_env_and_a_twin(example: Callable[[], Path]) -> None:
    example()
    import importlib

    importlib.import_module("corridor")
    env = gymnasium.make("Corridor-v0", cells=5)
    check_env(env.unwrapped)
    first, _ = env.reset(seed=0)
    rewards = [env.step(1)[1] for _ in range(4 - first)]
    assert rewards == [-1.0] * (3 - first) + [10.0]
    vector = gymnasium.make_vec("Corridor-v0", num_envs=3, vectorization_mode="vector_entry_point")
    assert vector.num_envs == 3
    assert envs.twin("corridor:Corridor-v0", {"cells": 5}) is not None
    assert envs.twin("corridor:Corridor-v0", {"walls": 5}) is None
    assert envs.arguments("Corridor-v0") == {"cells": 8}
    del gymnasium.registry["Corridor-v0"]
