"""FiniteMDP: what it refuses, what it reads, and that it copies nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP

# From state 0, action 0 stays or moves on evenly, action 1 moves on for sure; state 1 is the end.
P = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
R = np.array([[-1.0, -3.0], [0.0, 0.0]])
END = [False, True]


def walk(**changes: Any) -> FiniteMDP:
    return FiniteMDP.from_dense(**{"transitions": P, "rewards": R, "terminal": END, **changes})


def changed(array: np.ndarray, place: tuple[Any, ...], value: float) -> np.ndarray:
    other = array.copy()
    other[place] = value
    return other


def test_arrays_of_the_right_type_are_not_copied() -> None:
    rows = sparse.csr_array(P.reshape(4, 2))
    rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    start = np.array([1.0, 0.0])
    terminal = np.array(END)
    mdp = FiniteMDP(rows, R, terminal=terminal, start=start)
    pairs = [
        (mdp.probabilities, rows.data), (mdp.indices, rows.indices), (mdp.indptr, rows.indptr), (mdp.rewards, R),
        (mdp.terminal, terminal), (mdp.start, start), (mdp.weights, rows.data), (mdp.replace(gamma=0.5).rewards, R),
    ]  # fmt: skip
    assert all(np.shares_memory(mine, given) for mine, given in pairs)


def test_the_three_arrays_will_do() -> None:
    rows = sparse.csr_array(P.reshape(4, 2))
    mdp = FiniteMDP((rows.indptr, rows.indices, rows.data), R, terminal=END)
    assert (mdp.transitions.toarray() == P.reshape(4, 2)).all()
    assert (mdp.states, mdp.actions, mdp.nnz) == (2, 2, 5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"transitions": changed(P, (0, 1, 1), 0.9)}, r"state 0, action 1: the probabilities sum to 0\.9, expected 1"),
        ({"transitions": changed(P, (0, 1, 1), 1.1)}, r"state 0, action 1: the probabilities sum to 1\.1, expected 1"),
        ({"gamma": "x"}, "gamma is 'x', expected a number"),
        ({"gamma": None}, "gamma is None, expected a number"),
        ({"horizon": 1.5}, r"horizon is 1\.5, expected a whole number"),
        ({"horizon": True}, "horizon is True, expected a whole number"),
        ({"terminal": [0, 2]}, "terminal has the value 2, expected true or false, 0 or 1"),
        ({"transitions": [[[1.0], [0.5, 0.5]]]}, "the transitions are no array, expected rows of one length"),
        ({"rewards": [[1.0, 2.0], [3.0]]}, "the rewards are no array, expected rows of one length"),
        ({"rewards": "x"}, "the rewards are of type <U1, expected numbers"),
        ({"transitions": changed(P, (0, 0, 1), np.nan)}, "state 0, action 0: the probability of state 1 is nan"),
        ({"transitions": changed(P, (0, 0, 1), np.inf)}, "state 0, action 0: the probability of state 1 is inf"),
        (
            {"transitions": changed(changed(P, (0, 0, 0), -0.5), (0, 0, 1), 1.5)},
            r"state 0, action 0: the probability of state 0 is -0\.5, which is negative",
        ),
        ({"rewards": changed(R, (0, 1), np.nan)}, "state 0, action 1: the reward is nan"),
        ({"rewards": changed(R, (0, 1), -np.inf)}, "state 0, action 1: the reward is -inf"),
        ({"rewards": R[:1]}, r"the rewards have the shape \(1, 2\), expected S A = 4"),
        ({"rewards": R[None, None]}, r"expected \[S, A\] or \[nnz\]"),
        ({"rewards": np.zeros((2, 2, 3))}, r"the rewards have the shape \(2, 2, 3\), expected \(2, 2, 2\)"),
        ({"transitions": P[0]}, r"expected \[S, A, S\]"),
        ({"terminal": [False, False]}, "the discount is 1 and no state is terminal"),
        ({"terminal": [True]}, r"terminal has the shape \(1,\), expected \[2\]"),
        ({"terminal": [True, False]}, "state 1 cannot reach a terminal state by any action .* lead to state 1"),
        ({"start": [0.5, 0.4]}, r"start sums to 0\.9, expected"),
        ({"start": [-0.5, 1.5]}, "expected probabilities that sum to 1"),
        ({"start": [1.0]}, r"start has the shape \(1,\), expected \[2\]"),
        ({"gamma": 1.5}, r"gamma is 1\.5, expected at least 0 and at most 1"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"horizon": 0}, "horizon is 0, expected at least 1"),
        ({"terminated": [True]}, r"terminated has the shape \(1,\), expected \[5\]"),
        ({"transitions": changed(P, (0, slice(None), slice(None)), 0.0)}, "state 0 has no action"),
    ],
)  # fmt: skip
def test_what_is_no_process_is_refused_with_the_state_and_action(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        walk(**changes)


def test_transitions_that_are_no_csr_are_refused() -> None:
    with pytest.raises(UserError, match="are a ndarray, expected a SciPy CSR array"):
        FiniteMDP(P, R)
    with pytest.raises(UserError, match=r"is not \[S A, S\]"):
        FiniteMDP(sparse.csr_array(np.full((4, 3), 1 / 3)), R)
    with pytest.raises(UserError, match="indptr ends at 4, expected 5"):
        FiniteMDP((np.array([0, 1, 2, 3, 4]), np.zeros(5, np.int32), np.ones(5)), R)
    with pytest.raises(UserError, match="indptr"):
        FiniteMDP((np.array([0]), np.zeros(0, np.int32), np.ones(0)), R)
    with pytest.raises(UserError, match="state 0, action 1: its row runs from 1 to 0"):
        FiniteMDP((np.array([0, 1, 0, 3, 4]), np.zeros(4, np.int32), np.ones(4)), R, gamma=0.5)
    with pytest.raises(UserError, match="state 1, action 0: leads to state 7, expected 0 to 1"):
        FiniteMDP((np.arange(5), np.array([0, 0, 7, 0], np.int32), np.ones(4)), R, gamma=0.5)
    with pytest.raises(UserError, match="give terminal with the rewards of outcomes"):
        FiniteMDP((np.arange(5), np.zeros(4, np.int32), np.ones(4)), np.zeros(4), gamma=0.5)


def test_no_row_of_a_terminal_state_counts() -> None:
    nonsense = changed(changed(P, (1, 0, 0), -7.0), (1, 1, 1), np.nan)
    mdp = walk(transitions=nonsense, rewards=changed(R, (1, 1), np.nan))
    assert mdp.q_values(np.array([-2.0, 0.0])).tolist() == [[-2.0, -3.0], [0.0, 0.0]]


def test_an_undiscounted_process_needs_a_way_to_the_end_and_a_horizon_is_one() -> None:
    loop = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    with pytest.raises(UserError, match="state 0 cannot reach"):
        FiniteMDP.from_dense(loop, [[1.0], [0.0]], terminal=END)
    assert FiniteMDP.from_dense(loop, [[1.0], [0.0]], terminal=END, horizon=3).horizon == 3
    with pytest.raises(UserError, match="state 0 cannot reach"):
        FiniteMDP.from_dense(loop, [[1.0], [0.0]], terminal=END, gamma=0.9).replace(gamma=1.0)


def test_an_empty_row_is_an_action_that_is_not_available() -> None:
    mdp = walk(transitions=changed(P, (0, 0, slice(None)), 0.0), gamma=0.5)
    assert mdp.available.tolist() == [[False, True], [True, True]]
    assert mdp.q_values(np.zeros(2)).tolist() == [[-np.inf, -3.0], [0.0, 0.0]]
    with pytest.raises(UserError, match="the policy takes action 0 in state 0, which is not available"):
        mdp.policy_values(np.array([0, 0]))
    with pytest.raises(UserError, match="the policy takes action 2 in state 0"):
        mdp.policy_values(np.array([2, 0]))
    with pytest.raises(UserError, match=r"the policy has the shape \(3,\), expected \[2\]"):
        mdp.policy_values(np.array([0, 0, 0]))
    with pytest.raises(UserError, match="the policy's actions are of type float64, expected integers"):
        mdp.policy_values(np.array([0.5, 1.0]))


def test_rewards_of_outcomes_are_averaged() -> None:
    mdp = walk(rewards=np.array([[[4.0, 2.0], [0, 7.0]], [[0, 0], [0, 0]]]))
    assert mdp.rewards[0].tolist() == [0.5 * 4 + 0.5 * 2, 7.0]
    assert mdp.outcome_rewards is not None
    assert mdp.outcome_rewards.tolist()[:3] == [4.0, 2.0, 7.0]


def test_values_of_a_policy_by_hand() -> None:
    # v(0) = -1 + gamma v(0) / 2, so -2 undiscounted and -4/3 at gamma 1/2
    assert walk().policy_values(np.array([0, 0])).tolist() == [-2.0, 0.0]
    assert walk(gamma=0.5).policy_values(np.array([0, 0])) == pytest.approx([-4 / 3, 0.0], abs=1e-15)
    assert walk().policy_values(np.array([1, 1])).tolist() == [-3.0, 0.0]
    # two steps: -1 - 1/2; and the first action 1, the second 0
    assert walk(horizon=2).policy_values(np.array([0, 0])).tolist() == [-1.5, 0.0]
    assert walk(horizon=2).policy_values(np.array([[0, 0], [1, 0]])).tolist() == [-2.5, 0.0]
    with pytest.raises(UserError, match="the policy has 3 steps, expected the horizon, 2"):
        walk(horizon=2).policy_values(np.zeros((3, 2), int))


def test_an_endless_policy_has_infinite_values_where_it_earns_and_none_where_it_does_not() -> None:
    # 0 loops at -1, 1 at +1, 2 at 0; 3 goes to 0 or 2, 4 to 1 or the end, 5 to 0 or 1, 6 to 2; 7 is the end
    to = {0: [0], 1: [1], 2: [2], 3: [0, 2], 4: [1, 7], 5: [0, 1], 6: [2], 7: [7]}
    transitions = np.zeros((8, 2, 8))
    for s, following in to.items():
        transitions[s, 0, following] = 1 / len(following)
        transitions[s, 1, 7] = 1.0
    rewards = np.zeros((8, 2))
    rewards[:7, 0] = [-1, 1, 0, 5, 5, 5, 3]
    mdp = FiniteMDP.from_dense(transitions, rewards, terminal=np.arange(8) == 7)
    expected = [-np.inf, np.inf, 0.0, -np.inf, np.inf, np.nan, 3.0, 0.0]
    np.testing.assert_array_equal(mdp.policy_values(np.zeros(8, int)), expected)


@pytest.mark.parametrize("states", [6, 4_000])
def test_values_of_a_policy_solve_its_equations(states: int) -> None:
    """Both by factors and, above linear.DIRECT states, by iteration."""
    rng = np.random.default_rng(states)
    to = rng.integers(0, states, (states * 2, 3)).astype(np.int32)
    share = rng.dirichlet([1.0, 1.0, 1.0], states * 2)
    mdp = FiniteMDP(
        (np.arange(0, states * 6 + 1, 3), to.ravel(), share.ravel()), rng.normal(size=(states, 2)), gamma=0.95
    )
    policy = rng.integers(0, 2, states)
    v = mdp.policy_values(policy)
    again = mdp.q_values(v)[np.arange(states), policy]
    assert np.abs(again - v).max() < 1e-10


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1", "CliffWalkingSlippery-v1"])
def test_gymnasiums_table_is_read_as_it_is(env: str) -> None:
    made = gymnasium.make(env)
    mdp = FiniteMDP.from_env(made, gamma=0.9)
    table: Any = made.unwrapped.P  # type: ignore[attr-defined]
    np.testing.assert_array_equal(mdp.start, made.unwrapped.initial_state_distrib)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    v = np.where(mdp.terminal, 0.0, rng.normal(size=mdp.states))
    q = mdp.q_values(v)
    for s in range(mdp.states):
        for a in range(mdp.actions):
            by_hand = sum(p * (r + 0.9 * v[to] * (not ended)) for p, to, r, ended in table[s][a])
            assert mdp.terminal[s] or q[s, a] == pytest.approx(by_hand, abs=1e-12)
    made.close()


def test_terminal_states_are_those_that_only_the_end_enters() -> None:
    lake = FiniteMDP.from_env("FrozenLake-v1")
    assert np.flatnonzero(lake.terminal).tolist() == [5, 7, 11, 12, 15]  # four holes and the goal of the 4x4 map
    assert np.flatnonzero(FiniteMDP.from_env("CliffWalking-v1").terminal).tolist() == [47]
    taxi = FiniteMDP.from_env("Taxi-v4")
    assert not taxi.terminal.any()
    assert taxi.terminated is not None
    assert taxi.terminated.sum() == 4  # a drop-off at each of the four places
    assert taxi.start.sum() == pytest.approx(1.0)


def test_an_env_without_a_model_is_refused() -> None:
    with pytest.raises(UserError, match="'CartPole-v1' has no model to plan with"):
        FiniteMDP.from_env("CartPole-v1")


def test_an_env_may_bring_its_own_model() -> None:
    class Own(gymnasium.Env[Any, Any]):
        def mdp(self, gamma: float) -> FiniteMDP:
            return walk(gamma=gamma)

    assert FiniteMDP.from_env(Own(), gamma=0.25).gamma == 0.25


@pytest.mark.parametrize("outcomes", [True, False])
@pytest.mark.parametrize("horizon", [None, 5])
def test_a_saved_process_comes_back(outcomes: bool, horizon: int | None, tmp_path: Path) -> None:
    rewards = np.repeat(R[:, :, None], 2, axis=2) if outcomes else R
    mdp = walk(rewards=rewards, gamma=0.75, horizon=horizon, start=[0.25, 0.75], terminated=[True] + [False] * 4)
    mdp.save(tmp_path / "walk.npz")
    back = FiniteMDP.load(tmp_path / "walk.npz")
    for name in ("indptr", "indices", "probabilities", "rewards", "terminal", "terminated", "start", "outcome_rewards"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mdp, name), err_msg=name)
    assert (back.gamma, back.horizon) == (0.75, horizon)
    assert [p.name for p in tmp_path.iterdir()] == ["walk.npz"]


def test_a_saved_process_keeps_its_missing_actions(tmp_path: Path) -> None:
    walk(transitions=changed(P, (0, 0, slice(None)), 0.0), gamma=0.5).save(tmp_path / "walk.npz")
    assert FiniteMDP.load(tmp_path / "walk.npz").available.tolist() == [[False, True], [True, True]]


def test_a_file_that_is_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.npz does not exist"):
        FiniteMDP.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match=r"text\.npz cannot be read"):
        FiniteMDP.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"has no .*probabilities.*: it was not written by FiniteMDP\.save"):
        FiniteMDP.load(tmp_path / "other.npz")
    walk().save(tmp_path / "walk.npz")
    whole = (tmp_path / "walk.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.npz cannot be read"):
        FiniteMDP.load(tmp_path / "cut.npz")
    with np.load(tmp_path / "walk.npz") as file:
        np.savez(tmp_path / "new.npz", **{**file, "format": 99})
    with pytest.raises(UserError, match="newer version"):
        FiniteMDP.load(tmp_path / "new.npz")


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_q_values_are_those_of_the_dense_formula(states: int, actions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.dirichlet(np.ones(states), (states, actions)) * (rng.random((states, actions, states)) < 0.7)
    dense[dense.sum(axis=2) == 0, 0] = 1.0
    dense /= dense.sum(axis=2, keepdims=True)
    terminal = rng.random(states) < 0.3
    rewards = rng.normal(size=(states, actions))
    mdp = FiniteMDP.from_dense(dense, rewards, gamma=0.9, terminal=terminal)
    v = rng.normal(size=states)
    expected = rewards + 0.9 * dense @ np.where(terminal, 0.0, v)
    expected[terminal] = 0.0
    np.testing.assert_allclose(mdp.q_values(v), expected, atol=1e-12)
    np.testing.assert_allclose(mdp.expected_next(v), dense @ np.where(terminal, 0.0, v), atol=1e-12)


def test_its_size_and_a_line_about_it() -> None:
    mdp = walk()
    assert mdp.nbytes == 5 * 8 + 5 * 4 + 5 * 4 + 4 * 8 + 2 + 2 * 8
    assert repr(mdp) == "FiniteMDP(2 states, 2 actions, 5 outcomes, gamma 1, 1 terminal)"
    assert "horizon 3" in repr(mdp.replace(horizon=3))
