"""Finite MDPs as envs, Garnets, and what holds for every env of rlkit's own."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit import envs
from rlkit.agents.planning import planners
from rlkit.envs import lookup
from rlkit.envs.finite import FiniteEnv, SavedFiniteEnv
from rlkit.envs.garnet import GarnetEnv, garnet
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP

Env = gymnasium.Env[Any, Any]


def small(**changes: Any) -> FiniteMDP:
    """Three states, the last terminal; action 0 stays or goes on, action 1 is not available in state 1.

    state 0: action 0 stays with 3/4 (reward 1), goes to 1 with 1/4 (reward 2); action 1 goes to 2 (reward -5)
    state 1: action 0 goes to 0 with 1/2 (reward 3), and to 2 with 1/2 (reward 10)
    """
    arrays = (np.array([0, 2, 3, 5, 5, 5, 5]), np.array([0, 1, 2, 0, 2]), np.array([0.75, 0.25, 1.0, 0.5, 0.5]))
    how: dict[str, Any] = {"terminal": [False, False, True]}
    return FiniteMDP(arrays, np.array([1.0, 2.0, -5.0, 3.0, 10.0]), **{**how, **changes})


# Episodes.


def test_outcomes_come_with_their_probabilities_and_rewards(chi_square: Callable[..., float]) -> None:
    env = FiniteEnv(small())
    counts: Counter[tuple[Any, ...]] = Counter()
    observation, _ = env.reset(seed=0)
    for _ in range(20_000):
        following, reward, terminated, truncated, _ = env.step(0)
        assert not truncated
        counts[observation, following, reward, terminated] += 1
        observation = env.reset()[0] if terminated else following
    stay, on = counts[0, 0, 1.0, False], counts[0, 1, 2.0, False]
    back, end = counts[1, 0, 3.0, False], counts[1, 2, 10.0, True]
    assert stay + on + back + end == 20_000
    # With another seed each would fail once in 1,000 times.
    assert chi_square(np.array([stay, on]), (stay + on) * np.array([0.75, 0.25])) > 1e-3
    assert chi_square(np.array([back, end]), (back + end) * np.array([0.5, 0.5])) > 1e-3


def test_expected_rewards_are_given_where_the_model_has_no_others() -> None:
    env = FiniteEnv(FiniteMDP.from_dense([[[0, 1.0], [0.5, 0.5]], [[1, 0], [0, 1]]], [[2.5, -1], [0, 0]], gamma=0.9))
    env.reset(seed=0)
    assert env.step(0)[:3] == (1, 2.5, False)
    assert env.step(0)[:3] == (0, 0.0, False)
    assert env.step(1)[1] == -1.0


def test_the_first_state_is_drawn_from_the_start_distribution(chi_square: Callable[..., float]) -> None:
    env = FiniteEnv(small(start=[0.9, 0.1, 0.0]))
    first = [env.reset(seed=0)[0]] + [env.reset()[0] for _ in range(9_999)]
    # With another seed this would fail once in 1,000 times.
    assert chi_square(np.bincount(first), np.array([9_000, 1_000])) > 1e-3
    assert {FiniteEnv(small()).reset(seed=k)[0] for k in range(20)} == {0}


def test_an_episode_that_starts_at_its_end_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        FiniteEnv(small(start=[0.5, 0.0, 0.5]))
    assert str(refused.value).startswith("state 2 is terminal and has a start probability")


def test_actions_that_are_not_available_are_masked_and_refused() -> None:
    env = FiniteEnv(small())
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [1, 1]
    assert info["action_mask"].dtype == np.int8
    state = 0
    while state != 1:
        state, _, _, _, info = env.step(0)
    assert info["action_mask"].tolist() == [1, 0]
    assert {int(env.action_space.sample(mask=info["action_mask"])) for _ in range(20)} == {0}
    with pytest.raises(gymnasium.error.InvalidAction, match="action 1 is not available in state 1, expected 0"):
        env.step(1)
    assert env.step(0)[0] in (0, 2)  # the refusal changed nothing
    env.reset()
    state, reward, terminated, _, info = env.step(1)
    assert (state, reward, terminated) == (2, -5.0, True)
    assert info["action_mask"].tolist() == [1, 1]


def test_without_such_actions_there_is_no_mask() -> None:
    env = FiniteEnv(garnet(5, 2, 2))
    assert env.reset(seed=0)[1] == {}
    assert env.step(0)[4] == {}


@pytest.mark.parametrize("action", [-1, 2, 0.5])
def test_an_action_that_does_not_exist_is_refused(action: Any) -> None:
    env = FiniteEnv(small())
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match=f"action {action}, expected 0 to 1"):
        env.step(action)


def test_a_step_outside_an_episode_is_refused() -> None:
    env = FiniteEnv(small())
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    assert env.step(1)[2]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


def test_an_outcome_can_end_the_episode_in_a_state_that_is_not_terminal() -> None:
    # From state 0 to state 1 and back; the way back ends it, as Taxi's drop-off does.
    model = FiniteMDP(
        (np.array([0, 1, 2]), np.array([1, 0]), np.ones(2)), np.array([[1.0], [7.0]]), terminated=[False, True]
    )
    env = FiniteEnv(model)
    env.reset(seed=0)
    assert env.step(0) == (1, 1.0, False, False, {})
    assert env.step(0) == (0, 7.0, True, False, {})


def test_an_episode_is_truncated_at_the_horizon_unless_it_terminates_there() -> None:
    env = FiniteEnv(garnet(5, 2, 2).replace(horizon=3))
    env.reset(seed=0)
    for _ in range(2):
        assert env.step(0)[2:4] == (False, False)
    assert env.step(0)[2:4] == (False, True)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset()
    assert env.step(0)[2:4] == (False, False)
    ends = FiniteEnv(small(horizon=1))
    ends.reset(seed=0)
    assert ends.step(1)[2:4] == (True, False)


def test_the_model_comes_back_with_another_discount() -> None:
    model = garnet(5, 2, 2, gamma=0.9)
    env = FiniteEnv(model)
    assert env.mdp().gamma == 0.9
    assert env.mdp(0.5).gamma == 0.5
    assert env.mdp(0.5).probabilities is model.probabilities
    assert FiniteMDP.from_env(env, gamma=0.25).gamma == 0.25


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_seed_makes_an_episode_also_after_pickling(model: int, seed: int) -> None:
    first, second = (FiniteEnv(garnet(6, 3, 3, seed=model)) for _ in range(2))
    assert first.reset(seed=seed) == second.reset(seed=seed)
    actions = [k * k % 3 for k in range(20)]
    assert [first.step(a) for a in actions] == [second.step(a) for a in actions]
    copy = pickle.loads(pickle.dumps(first))
    assert [first.step(a) for a in actions] == [copy.step(a) for a in actions]


@pytest.mark.parametrize(
    ("name", "arguments"), [("FrozenLake-v1", {}), ("FrozenLake-v1", {"is_slippery": False}), ("CliffWalking-v1", {})]
)
def test_gymnasiums_envs_step_as_their_models_do(name: str, arguments: dict[str, Any]) -> None:
    original = gymnasium.make(name, **arguments).unwrapped
    env = FiniteEnv(FiniteMDP.from_env(original, gamma=0.9))
    table = original.get_wrapper_attr("P")
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(3_000):
        action = int(rng.integers(4))
        following, reward, terminated, _, _ = env.step(action)
        assert (following, reward, terminated) in [(s, r, t) for _, s, r, t in table[observation][action]]
        observation = env.reset()[0] if terminated else following


def test_the_last_step_is_shown_as_text() -> None:
    env = FiniteEnv(small(), render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "start in state 0 of 3"
    env.step(1)
    assert env.render() == "step 1: state 0, action 1, reward -5 -> state 2, terminated"
    limited = FiniteEnv(small(horizon=1), render_mode="ansi")
    limited.reset(seed=0)
    limited.step(0)
    assert str(limited.render()).endswith(", truncated")
    with pytest.raises(UserError, match="render_mode is 'human', expected None or 'ansi'"):
        FiniteEnv(small(), render_mode="human")
    plain = FiniteEnv(small())
    with pytest.warns(UserWarning, match="render_mode"):
        assert plain.render() is None


# Files.


def test_a_saved_model_is_an_env(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    small(gamma=0.9, start=[0.5, 0.5, 0]).save(path)
    env = gymnasium.make("rlkit:rlkit/FiniteMDP-v0", path=str(path))
    assert env.observation_space.n == 3  # type: ignore[attr-defined] # of Discrete
    model = FiniteMDP.from_env(env, gamma=0.9)
    assert model.start.tolist() == [0.5, 0.5, 0]
    assert planners.solve(model).values == pytest.approx(planners.solve(small(gamma=0.9)).values)
    assert lookup.arguments("rlkit/FiniteMDP-v0") == {"path": None}


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no path is given: name the file of a model"):
        SavedFiniteEnv()
    with pytest.raises(UserError, match=r"missing\.npz does not exist"):
        gymnasium.make("rlkit/FiniteMDP-v0", path=str(tmp_path / "missing.npz"))
    (tmp_path / "text.npz").write_text("text", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.npz cannot be read"):
        SavedFiniteEnv(str(tmp_path / "text.npz"))


# Garnets.


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 4), st.data())
def test_a_garnet_has_its_size_and_branching(states: int, actions: int, data: st.DataObject) -> None:
    branching = data.draw(st.integers(1, states))
    model = garnet(states, actions, branching, seed=data.draw(st.integers(0, 2**31 - 1)))
    assert (model.states, model.actions, model.nnz) == (states, actions, states * actions * branching)
    assert not model.terminal.any()
    assert not model.ends
    following = model.indices.reshape(-1, branching)
    assert (np.diff(following, axis=1) > 0).all(), "next states are different, and ascending"
    assert following.min() >= 0
    assert following.max() < states
    p = model.probabilities.reshape(-1, branching)
    assert (p > 0).all()
    assert p.sum(axis=1) == pytest.approx(np.ones(len(p)), abs=1e-12)


def test_every_set_of_next_states_is_as_likely(chi_square: Callable[..., float]) -> None:
    model = garnet(5, 6_000, 3)
    sets = Counter(map(tuple, model.indices.reshape(-1, 3).tolist()))
    assert sets.keys() == set(itertools.combinations(range(5), 3))
    # With another seed this would fail once in 1,000 times.
    assert chi_square(np.array([sets[key] for key in sorted(sets)]), np.full(10, 3_000)) > 1e-3


@pytest.mark.parametrize("branching", [2, 3, 5])
def test_probabilities_are_spacings_of_uniform_cuts(branching: int) -> None:
    p = garnet(10, 5_000, branching).probabilities.reshape(-1, branching)
    # Each of n spacings is Beta(1, n - 1): P(p > x) = (1 - x)^(n - 1). Kolmogorov and Smirnov's distance of 50,000
    # samples is above 1.95 / sqrt(50,000) once in 1,000 times, were the seed another.
    for column in p.T:
        ordered = np.sort(column)
        distance = np.abs(1 - (1 - ordered) ** (branching - 1) - np.arange(len(ordered)) / len(ordered)).max()
        assert distance < 1.95 / np.sqrt(len(ordered)) + 1 / len(ordered)


def test_rewards_are_normal_or_uniform() -> None:
    normal, uniform = (garnet(100, 100, 1, rewards=kind).rewards.reshape(-1) for kind in ("normal", "uniform"))
    # Four standard errors of 10,000 samples: 6e-5 for each, had the seed been another.
    assert abs(normal.mean()) < 4 / 100
    assert abs(normal.std() - 1) < 4 / np.sqrt(2) / 100
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 4 * np.sqrt(1 / 12) / 100


def test_a_garnet_belongs_to_its_seed() -> None:
    first, same, other = garnet(20, 3, 4, seed=1), garnet(20, 3, 4, seed=1), garnet(20, 3, 4, seed=2)
    for name in ("indices", "probabilities", "rewards"):
        assert (getattr(first, name) == getattr(same, name)).all()
        assert (getattr(first, name) != getattr(other, name)).any()
    assert first.gamma == 0.99


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"states": 0}, "states is 0, expected a whole number from 1 to "),
        ({"states": 2.5}, "states is 2.5, expected"),
        ({"actions": 0}, "actions is 0, expected"),
        ({"branching": 0}, "branching is 0, expected a whole number from 1 to 100"),
        ({"states": 4, "branching": 5}, "branching is 5, expected a whole number from 1 to 4"),
        ({"seed": -1}, "garnet_seed is -1, expected"),
        ({"rewards": "cauchy"}, "rewards is 'cauchy', expected 'normal' or 'uniform'"),
        ({"gamma": 1.0}, "the discount is 1 and no state is terminal"),
    ],
)
def test_a_wrong_garnet_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        garnet(**arguments)
    assert str(refused.value).startswith(told)


def test_a_garnet_env_ends_by_its_time_limit_only() -> None:
    env = gymnasium.make("rlkit/Garnet-v0", states=10, garnet_seed=3)
    env.reset(seed=0)
    steps = [env.step(k % 4)[2:4] for k in range(100)]
    assert steps == [(False, False)] * 99 + [(False, True)]
    inner = env.unwrapped
    assert isinstance(inner, GarnetEnv)
    assert (inner.model.indices == garnet(10, 4, 5, 3).indices).all()
    assert lookup.arguments("rlkit/Garnet-v0") == {"states": 100, "actions": 4, "branching": 5, "garnet_seed": 0}


# Every env of rlkit's own that has a finite model.

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "rlkit/NumberTriangle-v0": [{}, {"slip": 0.25, "rows": 4}, {"triangle": [[1], [2, 3]], "slip": 1.0}],
    "rlkit/Garnet-v0": [{}, {"states": 3, "actions": 1, "branching": 3}],
    "rlkit/FiniteMDP-v0": [{"path": "model.npz"}],
}
EVERY = [(name, arguments) for name, variants in VARIANTS.items() for arguments in variants]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Env]:
    """Make a registered env, in a folder that has a model."""
    monkeypatch.chdir(tmp_path)
    garnet(7, 3, 2).save(tmp_path / "model.npz")
    return gymnasium.make


def test_every_env_is_in_the_registry() -> None:
    assert envs.OWN.keys() == {name for name in gymnasium.registry if name.startswith(("rlkit/", "MinAtar/"))}
    assert {name for name in envs.OWN if not name.startswith("MinAtar/")} <= set(lookup.names())
    assert VARIANTS.keys() <= envs.OWN.keys()


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_every_env_passes_gymnasiums_check(name: str, arguments: dict[str, Any], make: Callable[..., Env]) -> None:
    # Gymnasium leaves out its check of seeds where there is no spec, as an env that is not made by its id has none.
    env = make(name, **arguments)
    assert env.unwrapped.spec is not None
    check_env(env.unwrapped)


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_every_env_is_a_function_of_seed_and_actions(
    name: str, arguments: dict[str, Any], make: Callable[..., Env]
) -> None:
    def rollout(seed: int) -> list[Any]:
        env = make(name, **arguments)
        env.action_space.seed(1)
        seen: list[Any] = [env.reset(seed=seed)]
        for _ in range(200):
            seen.append(env.step(env.action_space.sample()))
            if seen[-1][2] or seen[-1][3]:
                seen.append(env.reset())
        return seen

    assert data_equivalence(rollout(0), rollout(0), exact=True)
    # Where nothing is left to chance, seeds make no difference.
    chance = FiniteMDP.from_env(make(name, **arguments), gamma=0.9).probabilities.max() < 1
    assert data_equivalence(rollout(0), rollout(1), exact=True) != chance


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_every_env_survives_pickling(name: str, arguments: dict[str, Any], make: Callable[..., Env]) -> None:
    env = make(name, **arguments).unwrapped
    env.reset(seed=0)
    copy = pickle.loads(pickle.dumps(env))
    assert copy.observation_space == env.observation_space
    assert copy.action_space == env.action_space
    for k in itertools.count():
        action = k % env.action_space.n  # type: ignore[attr-defined] # of Discrete
        ours, theirs = env.step(action), copy.step(action)
        assert data_equivalence(ours, theirs, exact=True)
        if ours[2] or k > 50:
            break


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_every_env_has_a_model_that_plans(name: str, arguments: dict[str, Any], make: Callable[..., Env]) -> None:
    solution = planners.solve(FiniteMDP.from_env(make(name, **arguments), gamma=0.9))
    assert solution.converged


@pytest.mark.parametrize(("name", "arguments"), EVERY)
def test_every_env_renders_in_each_of_its_modes(name: str, arguments: dict[str, Any], make: Callable[..., Env]) -> None:
    for mode in make(name, **arguments).metadata["render_modes"]:
        env = make(name, **arguments, render_mode=mode)
        env.reset(seed=0)
        before = env.render()
        env.step(0)
        after = env.render()
        assert type(before) is type(after) is {"ansi": str, "rgb_array": np.ndarray}[mode]
        assert not np.array_equal(before, after)  # type: ignore[arg-type] # two texts or two pictures
        env.close()
