"""Envs as tensor functions: held to Gymnasium's step by step, their draws, and the envs made of them."""

from __future__ import annotations

import copy
import math
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from scipy import stats

from rlkit.envs import lookup, twins
from rlkit.envs.functional.finite_mdp import FunctionalMDP, FunctionalMDPState
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.sampling import simulator
from rlkit.interaction import functional
from rlkit.interaction.functional import FunctionalEnv, FunctionalVectorEnv
from rlkit.interaction.vector import Environments

DYNAMICS = {  # states to try lie between plus and minus the first; a step's numbers may differ by the second
    "CartPole-v1": ((2.4, 3.0, 0.21, 3.0), (1e-6, 1e-6, 1e-6, 2e-6)),
    "Acrobot-v1": ((math.pi, math.pi, 4 * math.pi, 9 * math.pi), (1e-4, 1e-4, 2e-3, 2e-2)),
    "MountainCar-v0": ((1.2, 0.07), (2e-7, 2e-8)),
    "Pendulum-v1": ((math.pi, 8.0), (1e-6, 2e-6)),
}
MARGINS: dict[str, Callable[[np.ndarray], float]] = {  # how far a state is from where float32 may decide otherwise
    "CartPole-v1": lambda s: min(abs(abs(s[0]) - 2.4), abs(abs(s[2]) - math.radians(12))),
    "Acrobot-v1": lambda s: min(abs(math.cos(s[0]) + math.cos(s[0] + s[1]) + 1), *(math.pi - abs(s[:2]))),
    "MountainCar-v0": lambda s: abs(s[0] - 0.5),
    "Pendulum-v1": lambda s: math.pi,
}
FINITE = ["FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1", "CliffWalkingSlippery-v1"]
FINITE += ["rlkit/NumberTriangle-v0", "rlkit/Garnet-v0"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "rlkit/NumberTriangle-v0": {"rows": 6, "triangle_seed": 1, "slip": 0.25},
    "rlkit/Garnet-v0": {"states": 30, "garnet_seed": 2},
}


def made(name: str, **arguments: Any) -> FunctionalEnv:
    env = twins.twin(name, {**ARGUMENTS.get(name, {}), **arguments})
    assert env is not None
    return env


def bits(shape: tuple[int, int], seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).integers(0, 2**32, shape, np.uint32))


def test_every_twin_is_known_here() -> None:
    assert set(twins.TWINS) == set(DYNAMICS)
    assert set(twins.MODELS) == {*FINITE, "rlkit/FiniteMDP-v0"}


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
    # float32 against float64: the tolerances are some times the largest difference over 20,000 states.
    extent, tolerances = DYNAMICS[name]
    rng, count = np.random.default_rng(1), 4_000
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
    found = np.stack(after, axis=1)
    parts = (ours.observation(after), ours.reward(before, action, after), ours.terminal(after))
    seen, rewards, ends = (part.numpy() for part in parts)
    theirs.reset(seed=0)
    close = 0
    for i in range(count):
        theirs.state = state[i].astype(np.float64)  # type: ignore[attr-defined]
        if name == "CartPole-v1":
            theirs.steps_beyond_terminated = None  # type: ignore[attr-defined]
        observation, reward, terminated, _, _ = theirs.step(actions[i])
        expected = np.array(theirs.state, np.float64)  # type: ignore[attr-defined]
        if MARGINS[name](expected) < 1e-3:
            close += 1
            continue
        assert (np.abs(found[i] - expected) <= tolerances).all(), state[i]
        np.testing.assert_allclose(seen[i], observation, rtol=0, atol=max(tolerances), err_msg=str(state[i]))
        assert rewards[i] == pytest.approx(float(reward), rel=1e-6, abs=1e-6)
        assert ends[i] == terminated
    assert close < count / 100 + 40
    assert name == "Pendulum-v1" or 20 < ends.sum() < count - 20, "both kinds of states were tried"


FIRST = {  # between which numbers Gymnasium's reset draws
    "CartPole-v1": ([-0.05] * 4, [0.05] * 4),
    "Acrobot-v1": ([-0.1] * 4, [0.1] * 4),
    "MountainCar-v0": ([-0.6, 0.0], [-0.4, 0.0]),
    "Pendulum-v1": ([-math.pi, -1.0], [math.pi, 1.0]),
}


@pytest.mark.parametrize("name", DYNAMICS)
def test_the_least_and_the_largest_draw_are_the_ends_of_gymnasiums_range(name: str) -> None:
    ours = made(name)
    given = tf.constant([[0] * ours.initial_draws, [2**32 - 1] * ours.initial_draws], tf.uint32)
    np.testing.assert_allclose(np.stack(ours.initial(given), axis=1), FIRST[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DYNAMICS)
def test_first_states_are_distributed_as_gymnasiums(name: str) -> None:
    # Kolmogorov-Smirnov for each number of the observation; false alarm below 1e-6 a number.
    ours, theirs = made(name), gymnasium.make(name)
    found = ours.observation(ours.initial(bits((4_000, ours.initial_draws)))).numpy()
    expected = np.array([theirs.reset(seed=i)[0] for i in range(2_000)])
    assert found.dtype == expected.dtype
    for column in range(found.shape[1]):
        if np.ptp(expected[:, column]):
            assert stats.ks_2samp(found[:, column], expected[:, column], method="asymp").pvalue > 1e-6
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


@pytest.mark.parametrize("name", FINITE)
def test_the_chances_are_the_models_to_two_to_the_minus_24(name: str) -> None:
    # The draws 2^-24 to both sides of where one outcome of the row gives way to the next, and the first and last draw.
    ours = made(name)
    mdp = FiniteMDP.from_env(gymnasium.make(name, **ARGUMENTS.get(name, {})), gamma=0.9)
    cases: list[tuple[int, int, int, int]] = []  # state, action, draw, next state
    for state in np.flatnonzero(~mdp.terminal)[:200]:
        for action in range(mdp.actions):
            row = state * mdp.actions + action
            to, chances = (x[mdp.indptr[row] : mdp.indptr[row + 1]] for x in (mdp.indices, mdp.probabilities))
            edges = [math.fsum(chances[: k + 1]) * 2.0**32 for k in range(len(to) - 1)]
            cases += [(state, action, 0, to[0]), (state, action, 2**32 - 1, to[-1])]
            cases += [(state, action, math.floor(edge) - 256, to[k]) for k, edge in enumerate(edges)]
            cases += [(state, action, math.ceil(edge) + 256, to[k + 1]) for k, edge in enumerate(edges)]
    states, actions, draws, expected = np.array(cases, np.int64).T
    kind = type(ours.initial(bits((1, 1))))
    here = kind(tf.constant(states, tf.int32), tf.zeros(len(cases)), tf.zeros(len(cases), tf.bool))
    start = int(ours.action_space.start)  # type: ignore[attr-defined]
    after = ours.transition(here, tf.constant(actions + start, tf.int32), tf.constant(draws[:, None], tf.uint32))
    np.testing.assert_array_equal(after.state, expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("FrozenLake-v1", {"is_slippery": False}),
        ("Taxi-v4", {}),
        ("CliffWalking-v1", {}),
        ("rlkit/NumberTriangle-v0", {"slip": 0.0}),
    ],
)
def test_whole_episodes_without_chance_are_gymnasiums(name: str, arguments: dict[str, Any]) -> None:
    ours = made(name, **arguments)
    theirs = gymnasium.make(name, max_episode_steps=100, **{**ARGUMENTS.get(name, {}), **arguments})
    theirs.action_space.seed(0)
    rows, seen = [], theirs.reset(seed=0)[0]
    for _ in range(3_000):
        action = theirs.action_space.sample()
        following, reward, terminated, truncated, _ = theirs.step(action)
        rows.append((seen, action, following, reward, terminated))
        seen = theirs.reset()[0] if terminated or truncated else following
    observed, actions, following, rewards, ends = map(np.array, zip(*rows, strict=True))
    first = int(theirs.observation_space.start)  # type: ignore[attr-defined]
    kind, n = type(ours.initial(bits((1, 1)))), len(rows)
    here = kind(tf.constant(observed - first, tf.int32), tf.zeros(n), tf.zeros(n, tf.bool))
    action = tf.constant(actions, tf.int32)
    after = ours.transition(here, action, bits((n, 1)))
    np.testing.assert_array_equal(ours.observation(after), following)
    np.testing.assert_array_equal(ours.reward(here, action, after), rewards.astype(np.float32))
    np.testing.assert_array_equal(ours.terminal(after), ends)
    assert 0 < ends.sum() < n or name in ("Taxi-v4", "CliffWalking-v1")


def test_states_and_actions_are_counted_as_the_spaces_count_them() -> None:
    dense = np.zeros((3, 2, 3))  # action 0 stays, action 1 goes round
    for state in range(3):
        dense[state, 0, state] = dense[state, 1, (state + 1) % 3] = 1.0
    tables = simulator(FiniteMDP.from_dense(dense, np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), gamma=0.5))
    assert tables is not None
    ours = FunctionalMDP(tables, spaces.Discrete(3, start=10), spaces.Discrete(2, start=5))
    here = FunctionalMDPState(tf.constant([0, 1, 2, 0, 1, 2]), tf.zeros(6), tf.zeros(6, tf.bool))
    action = tf.constant([5, 5, 5, 6, 6, 6])
    after = ours.transition(here, action, bits((6, 1)))
    np.testing.assert_array_equal(ours.observation(here), [10, 11, 12, 10, 11, 12])
    np.testing.assert_array_equal(ours.observation(after), [10, 11, 12, 11, 12, 10])
    np.testing.assert_array_equal(ours.reward(here, action, after), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0])


CHANCY: list[tuple[str, dict[str, Any]]] = [
    ("CartPole-v1", {}),
    ("Pendulum-v1", {}),
    ("FrozenLake-v1", {"map_name": "8x8", "success_rate": 0.8}),
    ("Taxi-v4", {"is_rainy": True}),
    ("CliffWalkingSlippery-v1", {}),
    ("rlkit/NumberTriangle-v0", {}),
    ("rlkit/Garnet-v0", {}),
]


@pytest.mark.parametrize(("name", "arguments"), CHANCY)
def test_random_episodes_are_distributed_as_gymnasiums(name: str, arguments: dict[str, Any]) -> None:
    # Returns and lengths of episodes cut off at 50 steps, Kolmogorov-Smirnov; false alarm below 1e-6 each.
    limit, n = 50, 600
    theirs = gymnasium.make(name, max_episode_steps=limit, **{**ARGUMENTS.get(name, {}), **arguments})
    theirs.action_space.seed(0)
    expected = np.zeros((n, 2))
    for i in range(n):
        theirs.reset(seed=i)
        going = True
        while going:
            _, reward, terminated, truncated, _ = theirs.step(theirs.action_space.sample())
            expected[i] += float(reward), 1
            going = not (terminated or truncated)
    env = FunctionalVectorEnv(made(name, **arguments), n, limit)
    env.reset(seed=1)
    env.action_space.seed(1)
    found, playing = np.zeros((n, 2)), np.ones(n, np.bool_)
    for _ in range(limit):
        _, rewards, ends, cuts, _ = env.step(env.action_space.sample())
        found += np.stack([rewards, np.ones(n)], axis=1) * playing[:, None]
        playing &= ~(ends | cuts)
    assert not playing.any()
    for column in range(2):
        assert stats.ks_2samp(found[:, column], expected[:, column], method="asymp").pvalue > 1e-6


def of_width(outcomes: int, path: Path) -> FunctionalEnv | None:
    dense = np.full((outcomes, 1, outcomes), 1 / outcomes)
    FiniteMDP.from_dense(dense, np.ones((outcomes, 1)), gamma=0.5).save(path)
    return twins.twin("rlkit/FiniteMDP-v0", {"path": str(path)})


def test_a_model_without_fitting_rows_is_no_twin(tmp_path: Path) -> None:
    dense = np.zeros((2, 2, 2))
    dense[:, :, 1] = 1.0
    FiniteMDP.from_dense(dense, np.ones((2, 2)), horizon=3).save(tmp_path / "a.npz")
    assert twins.twin("rlkit/FiniteMDP-v0", {"path": str(tmp_path / "a.npz")}) is None
    FiniteMDP.from_dense(dense, np.ones((2, 2)), gamma=0.5).save(tmp_path / "b.npz")
    assert twins.twin("rlkit/FiniteMDP-v0", {"path": str(tmp_path / "b.npz")}) is not None
    assert of_width(64, tmp_path / "c.npz") is not None
    assert of_width(65, tmp_path / "d.npz") is None


@pytest.mark.parametrize(
    ("name", "arguments", "there"),
    [
        ("CartPole-v1", {}, True),
        ("gymnasium:MountainCar-v0", {"goal_velocity": 0.02}, True),
        ("Pendulum-v1", {"g": 9.81}, True),
        ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}, True),
        ("Taxi-v4", {"is_rainy": True}, True),
        ("LunarLander-v3", {}, False),
        ("NoSuchEnv-v0", {}, False),
        ("CartPole-v1", {"sutton_barto_reward": True}, False),
        ("Pendulum-v1", {"g": "heavy"}, False),
        ("FrozenLake-v1", {"map_name": "9x9"}, False),
        ("FrozenLake-v1", {"walls": 3}, False),
        ("Taxi-v4", {"fickle_passenger": True}, False),
    ],
)
def test_the_registry_knows_which_arguments_a_twin_takes(name: str, arguments: dict[str, Any], there: bool) -> None:
    assert (twins.twin(name, arguments) is not None) == there
    assert twins.has_twin(name, arguments) == there


def test_an_id_that_was_registered_anew_has_no_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", EnvSpec("CartPole-v1", entry_point="mine:CartPole"))
    assert twins.twin("CartPole-v1", {}) is None
    assert not twins.has_twin("CartPole-v1", {})


def test_a_module_that_is_not_there_is_a_users_mistake() -> None:
    for ask in (twins.twin, twins.has_twin):
        with pytest.raises(UserError, match="'nowhere' cannot be imported"):
            ask("nowhere:CartPole-v1", {})


def test_the_question_for_a_twin_loads_no_tensorflow() -> None:
    code = "import sys; from rlkit.envs import twins; "
    code += "print([twins.has_twin(e, {}) for e in ('CartPole-v1', 'Ant-v5')], 'tensorflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[True, False] False\n"


@pytest.mark.parametrize("name", [*DYNAMICS, *FINITE])
def test_the_same_bits_give_the_same_draws_with_and_without_xla(name: str) -> None:
    ours = made(name)

    def draw(given: tf.Tensor) -> tf.Tensor:
        return ours.observation(ours.initial(given))

    given = bits((64, ours.initial_draws))
    plain, compiled = tf.function(draw)(given), tf.function(draw, jit_compile=True)(given)
    np.testing.assert_allclose(plain, compiled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FINITE)
def test_the_same_bits_give_the_same_outcomes_with_and_without_xla(name: str) -> None:
    ours = made(name)
    start = int(ours.action_space.start)  # type: ignore[attr-defined]

    def play(given: tf.Tensor) -> list[tf.Tensor]:
        state = ours.initial(given[:, :1])
        rows = [*state]
        for k in range(1, 6):
            state = ours.transition(state, tf.fill(given.shape[:1], start + k % 2), given[:, k : k + 1])
            rows += [*state]
        return rows

    given = bits((64, 6))
    for plain, compiled in zip(tf.function(play)(given), tf.function(play, jit_compile=True)(given), strict=True):
        np.testing.assert_array_equal(plain, compiled)


LIMITED = [name for name in [*DYNAMICS, *FINITE] if gymnasium.spec(name).max_episode_steps]


@pytest.mark.parametrize("name", LIMITED)
def test_an_episode_is_truncated_at_exactly_the_limit(name: str) -> None:
    ours, limit = made(name), gymnasium.spec(name).max_episode_steps
    assert limit is not None
    running = functional.begin(ours, bits((3, ours.initial_draws + ours.transition_draws)))
    running = running._replace(time=tf.constant([limit - 2, limit - 1, 0]))
    action = tf.constant(np.stack([ours.action_space.sample()] * 3))
    action = tf.cast(action, tf.int32) if action.dtype.is_integer else action
    after, outcome = functional.step(
        ours, limit, running, action, bits((3, ours.initial_draws + ours.transition_draws))
    )
    np.testing.assert_array_equal(outcome.truncated, [False, True, False])
    assert after.time[1] == 0


def actions_of(env: FunctionalVectorEnv, count: int) -> list[np.ndarray]:
    env.action_space.seed(3)
    return [env.action_space.sample() for _ in range(count)]


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_as_a_vector_env_it_ends_and_begins_episodes_in_the_same_step(name: str) -> None:
    env = FunctionalVectorEnv(made(name), 7, 25)
    first, _ = env.reset(seed=4)
    assert env.observation_space.contains(first)
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


def test_seeds_decide_everything() -> None:
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


def test_a_step_pays_for_the_state_before_it() -> None:
    ours, theirs = made("Pendulum-v1"), gymnasium.make("Pendulum-v1").unwrapped
    running = functional.begin(ours, bits((4, 2)))
    action = tf.constant([[-2.0], [0.0], [1.0], [2.0]])
    _, outcome = functional.step(ours, None, running, action, bits((4, 2), 1))
    theirs.reset(seed=0)
    for i in range(4):
        theirs.state = np.array([part[i] for part in running.state], np.float64)  # type: ignore[attr-defined]
        assert outcome.reward[i].numpy() == pytest.approx(theirs.step(action[i].numpy())[1], rel=1e-5)


def test_a_list_of_seeds_counts_as_a_whole() -> None:
    env = FunctionalVectorEnv(made("CartPole-v1"), 2)
    given: list[list[int | None]] = [[3, 1], [3, 2], [4, 1], [1, 3], [None, 3]]
    firsts = [env.reset(seed=seeds)[0].tobytes() for seeds in given]
    assert len(set(firsts)) == len(given)
    assert env.reset(seed=[3, 1])[0].tobytes() == firsts[0]
    assert env.reset(seed=[None, None])[0].tobytes() not in firsts, "goes on from the last seed"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_alike(copied: Callable[[FunctionalVectorEnv], FunctionalVectorEnv]) -> None:
    env = FunctionalVectorEnv(made("CartPole-v1"), 4, 15)
    env.reset(seed=3)
    actions = actions_of(env, 60)
    for action in actions[:30]:
        env.step(action)
    other = copied(env)
    for action in actions[30:]:
        for a, b in zip(env.step(action), other.step(action), strict=True):
            np.testing.assert_equal(a, b)
    env.close()
    other.close()


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_a_vector_env_does_what_the_functions_do(name: str) -> None:
    ours, n, limit = made(name), 5, 9
    env = FunctionalVectorEnv(ours, n, limit)
    first, _ = env.reset(seed=6)

    def draws(count: int) -> tf.Tensor:
        return functional.env_draws(ours, 6, tf.constant(count, tf.int64), n)

    running = functional.begin(ours, draws(0))
    np.testing.assert_allclose(first, running.observation, rtol=0, atol=1e-6)
    for count, action in enumerate(actions_of(env, 40), 1):
        given = tf.constant(action, tf.int32 if action.dtype.kind == "i" else tf.float32)
        running, outcome = functional.step(ours, limit, running, given, draws(count))
        observation, reward, terminated, truncated, info = env.step(action)
        np.testing.assert_allclose(info["final_obs"], outcome.next_observation, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(observation, running.observation, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(reward, outcome.reward, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(terminated, outcome.terminated)
        np.testing.assert_array_equal(truncated, outcome.truncated)


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "FrozenLake-v1"])
@pytest.mark.parametrize("jit", [False, True])
def test_its_state_can_be_saved_and_restored_to_the_bit(name: str, jit: bool) -> None:
    def fresh() -> Environments:
        return Environments(FunctionalVectorEnv(made(name), 4, 15, jit=jit), 2)

    whole, other = fresh(), fresh()
    assert whole.saves_exactly()
    actions = np.random.default_rng(0).integers(2, size=(60, 4))
    for action in actions[:30]:
        whole.step(action)
    state = pickle.loads(pickle.dumps(whole.state()))
    for action in actions[:7]:
        other.step(action)
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


def test_the_pages_own_env_is_an_env_a_vector_env_and_a_twin(
    example: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    example()
    monkeypatch.delitem(sys.modules, "corridor", raising=False)
    assert twins.has_twin("corridor:Corridor-v0", {"cells": 5}), "the module is imported"
    try:
        env = gymnasium.make("Corridor-v0", cells=5)
        check_env(env.unwrapped)
        first, _ = env.reset(seed=0)
        rewards = [env.step(1)[1] for _ in range(4 - first)]
        assert rewards == [-1.0] * (3 - first) + [10.0]
        copied = pickle.loads(pickle.dumps(env))
        assert copied.reset(seed=9)[0] == env.reset(seed=9)[0]
        vector = gymnasium.make_vec("Corridor-v0", num_envs=3, vectorization_mode="vector_entry_point")
        assert vector.num_envs == 3
        vector.reset(seed=0)
        lefts = [vector.step(np.zeros(3, np.int64))[3] for _ in range(100)]  # never arrives
        np.testing.assert_array_equal(np.flatnonzero(np.all(lefts, axis=1)), [99])
        assert not np.any(lefts[:99])
        assert twins.twin("corridor:Corridor-v0", {"walls": 5}) is None
        assert lookup.arguments("Corridor-v0") == {"cells": 8}
    finally:
        del gymnasium.registry["Corridor-v0"], lookup.MAKERS["Corridor-v0"]


def test_the_pages_command_trains_in_the_compiled_loop(example: Callable[[], Path]) -> None:
    folder = example()
    train, evaluate = re.findall(r"^    rlkit (.*)$", page(), re.MULTILINE)
    # as the command rlkit, which has no current folder on its path
    code = "import sys; sys.path.remove(''); from rlkit.cli import main; main(sys.argv[1:])"

    def rlkit(words: str, *others: str) -> str:
        command = [sys.executable, "-c", code, *shlex.split(words), *others]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    said = rlkit(train, "--steps", "600")
    assert "loop: compiled" in said
    assert "finished at step 608" in said, "the first multiple of 16"
    assert "over 20 episodes" in rlkit(evaluate)
