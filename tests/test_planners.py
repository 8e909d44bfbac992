"""Planners against brute force over all policies, published optima and each other; no certificate is ever violated."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rlkit.agents.planning import planners
from rlkit.agents.planning.goal import Goal
from rlkit.agents.planning.planners import PLANNERS, solve
from rlkit.errors import UserError
from rlkit.exact import backups, bounds, end_components, policy_evaluation
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.rows import SERIAL_BELOW
from rlkit.exact.solution import NotConvergedError

CYCLIC = [name for name in PLANNERS if name != "backward-induction"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("value-iteration", {"method": "jacobi"}),
    ("value-iteration", {"method": "gauss-seidel"}),
    ("value-iteration", {"method": "prioritized"}),
    ("policy-iteration", {"evaluation": "exact"}),
    ("policy-iteration", {"evaluation": "iterative"}),
    ("modified-policy-iteration", {"sweeps": 1}),
    ("modified-policy-iteration", {"sweeps": 20}),
    ("inexact-policy-iteration", {"forcing": 0.1}),
    ("inexact-policy-iteration", {"forcing": 0.9}),
    ("q-iteration", {}),
    ("linear-programming", {}),
    ("auto", {}),
]


def random_dense(states: int, actions: int, seed: int, *, ends: float = 0.3) -> dict[str, Any]:
    """Arrays for FiniteMDP.from_dense: sparse random rows, some unavailable actions, the last state terminal."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(states, 0.5), (states, actions)) * (rng.random((states, actions, states)) < 0.6)
    p[:, :, -1] += ends * (rng.random((states, actions)) < 0.5)
    empty = p.sum(axis=2) == 0
    p[empty, -1] = 1.0
    p /= p.sum(axis=2, keepdims=True)
    p[:, 1:][rng.random((states, actions - 1)) < 0.2] = 0.0
    rewards = np.round(rng.normal(size=(states, actions)), 2)
    return {"transitions": p, "rewards": rewards, "terminal": np.arange(states) == states - 1}


def every_policy(p: np.ndarray, rewards: np.ndarray, terminal: np.ndarray, gamma: float) -> np.ndarray:
    """The best value of each state over all deterministic policies that end, by dense linear algebra."""
    live = np.flatnonzero(~terminal)
    choices = [[a for a in range(p.shape[1]) if p[s, a].any()] for s in live]
    best = np.full(len(terminal), -np.inf)
    for policy in itertools.product(*choices):
        matrix = p[live, policy][:, live]
        if gamma == 1.0 and max(np.abs(np.linalg.eigvals(matrix)), default=0.0) > 1 - 1e-9:
            continue
        values = np.linalg.solve(np.eye(len(live)) - gamma * matrix, rewards[live, policy])
        best[live] = np.maximum(best[live], values)
    best[terminal] = 0.0
    return best


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.9, 0.99]))
def test_every_planner_finds_the_best_of_all_policies(states: int, actions: int, seed: int, gamma: float) -> None:
    arrays = random_dense(states, actions, seed)
    truth = every_policy(arrays["transitions"], arrays["rewards"], arrays["terminal"], gamma)
    mdp = FiniteMDP.from_dense(**arrays, gamma=gamma)
    for name, options in VARIANTS:
        solution = solve(mdp, name, tolerance=1e-7, **options)
        error = np.abs(solution.values - truth).max()
        assert error <= solution.bound + 1e-11, (name, options)
        assert solution.bound <= 1e-7, (name, options)
        loss = truth - mdp.policy_values(solution.policy)
        assert loss.max() <= 4e-7 / (1 - gamma), (name, options)


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
@example(4, 2, 1363407)  # a Newton step's policy goes round two states for ever, at a small cost
def test_undiscounted_too_where_cycles_cost(states: int, actions: int, seed: int) -> None:
    arrays = random_dense(states, actions, seed)
    arrays["rewards"] = -np.abs(arrays["rewards"]) - 0.01
    try:
        mdp = FiniteMDP.from_dense(**arrays)
    except UserError:
        assume(False)
    truth = every_policy(arrays["transitions"], arrays["rewards"], arrays["terminal"], 1.0)
    assume(np.abs(truth).max() < 100)  # a way out with a chance of 1e-4 takes value iteration over 100,000 sweeps
    for name, options in VARIANTS:
        solution = solve(mdp, name, tolerance=1e-6, **options)
        assert np.abs(solution.values - truth).max() <= solution.bound + 1e-9, (name, options)
        assert np.abs(mdp.policy_values(solution.policy) - truth).max() <= 1e-4, (name, options)


def test_the_best_of_a_long_way_out_is_found_by_policies_and_value_iteration_says_that_it_did_not() -> None:
    # one step in 10,000 leaves, each costs 1
    p = [[[0.9999, 0.0001]], [[0.0, 1.0]]]
    mdp = FiniteMDP.from_dense(p, [[-1.0], [0.0]], terminal=[False, True])
    assert solve(mdp).value_at_start == pytest.approx(-10_000, abs=1e-6)
    with pytest.raises(NotConvergedError) as error:
        solve(mdp, "value-iteration", max_iterations=1_000)
    assert -10_000 <= error.value.solution.value_at_start <= -10_000 + error.value.solution.bound


@given(st.integers(3, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
def test_undiscounted_too_where_cycles_cost_nothing(states: int, seed: int, reward: float) -> None:
    """Moves among the first states are free, so that they can be wandered in for ever."""
    rng = np.random.default_rng(seed)
    p = np.zeros((states, 3, states))
    for s, a in itertools.product(range(states), range(2)):
        p[s, a, rng.integers(states - 1)] += 0.5
        p[s, a, rng.integers(states - 1)] += 0.5
    p[:, 2] = rng.dirichlet(np.ones(states), states)
    rewards = np.zeros((states, 3))
    rewards[:, 2] = np.round(rng.normal(size=states), 2)
    rewards[:, 1] = -reward
    terminal = np.arange(states) == states - 1
    rewards[:, 2] -= rewards[:, 2].max()  # no cycle earns
    truth = every_policy(p, rewards, terminal, 1.0)
    mdp = FiniteMDP.from_dense(p, rewards, terminal=terminal)
    for name, options in VARIANTS:
        solution = solve(mdp, name, tolerance=1e-6, **options)
        assert np.abs(solution.values - truth).max() <= solution.bound + 1e-9, (name, options)
        assert solution.bound <= 1e-6
        assert np.abs(mdp.policy_values(solution.policy) - truth).max() <= 1e-4, (name, options)


@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.95]))
def test_no_certificate_is_violated_against_the_linear_programme(
    states: int, actions: int, seed: int, gamma: float
) -> None:
    mdp = FiniteMDP.from_dense(**random_dense(states, actions, seed), gamma=gamma)
    exact = solve(mdp, "linear-programming", tolerance=1e-6)
    for tolerance in (1.0, 1e-3):
        for name, options in VARIANTS:
            rough = solve(mdp, name, tolerance=tolerance, **options)
            assert np.abs(rough.values - exact.values).max() <= rough.bound + exact.bound, (name, options)


@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_the_bound_holds_for_any_values(states: int, actions: int, seed: int, sweeps: int) -> None:
    """Values that no planner came by, with and without ends."""
    arrays = random_dense(states, actions, seed)
    rng = np.random.default_rng(seed)
    if seed % 2:
        arrays["terminal"] = np.zeros(states, np.bool_)
        arrays["transitions"][:, 0] = rng.dirichlet(np.ones(states), states)
    mdp = FiniteMDP.from_dense(**arrays, gamma=0.8)
    truth = every_policy(arrays["transitions"], arrays["rewards"], arrays["terminal"], 0.8)
    v = np.where(mdp.terminal, 0.0, rng.normal(size=states) * 10)
    for _ in range(sweeps):
        v = backups.back_up(mdp, v).new
    found = bounds.discounted(mdp, backups.back_up(mdp, v))
    assert np.abs(found.values - truth).max() <= found.bound * (1 + 1e-9)


@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_the_undiscounted_bound_holds_for_any_values(states: int, actions: int, seed: int, sweeps: int) -> None:
    arrays = random_dense(states, actions, seed)
    arrays["rewards"] = -np.abs(arrays["rewards"]) - 0.01
    try:
        mdp = FiniteMDP.from_dense(**arrays)
    except UserError:
        assume(False)
    truth = every_policy(arrays["transitions"], arrays["rewards"], arrays["terminal"], 1.0)
    v = np.where(mdp.terminal, 0.0, np.random.default_rng(seed).normal(size=states) * 3)
    for _ in range(sweeps):
        v = backups.back_up(mdp, v).new
    found = bounds.undiscounted(mdp, v, 1e-9)
    assert np.abs(found.values - truth).max() <= found.bound * (1 + 1e-9)


OPTIMA = [
    # Computed with other libraries, to the digits given; FrozenLake undiscounted is 14/17 by hand.
    ("FrozenLake-v1", {}, 0.9, 0.068890904889), ("FrozenLake-v1", {}, 0.95, 0.180471578397),
    ("FrozenLake-v1", {}, 0.99, 0.542025932), ("FrozenLake-v1", {}, 1.0, 14 / 17),
    ("FrozenLake-v1", {"map_name": "8x8"}, 0.9, 0.006411114262),
    ("FrozenLake-v1", {"map_name": "8x8"}, 0.95, 0.048250204081),
    ("FrozenLake-v1", {"map_name": "8x8"}, 0.99, 0.4146403618), ("FrozenLake-v1", {"map_name": "8x8"}, 1.0, 1.0),
    ("FrozenLake-v1", {"is_slippery": False}, 1.0, 1.0), ("FrozenLake-v1", {"is_slippery": False}, 0.9, 0.9**5),
    ("Taxi-v4", {}, 1.0, 7.93), ("Taxi-v4", {}, 0.99, 6.327464315),
    ("CliffWalking-v1", {}, 1.0, -13.0), ("CliffWalking-v1", {}, 0.99, -12.2478977),
    ("CliffWalkingSlippery-v1", {}, 1.0, -64.709), ("CliffWalkingSlippery-v1", {}, 0.99, -46.352672),
]  # fmt: skip


@pytest.mark.parametrize(("env", "env_args", "gamma", "value"), OPTIMA)
def test_gymnasiums_toy_text_has_the_published_optima(
    env: str, env_args: dict[str, Any], gamma: float, value: float
) -> None:
    mdp = FiniteMDP.from_env(env, gamma=gamma, **env_args)
    for name, options in VARIANTS:
        solution = solve(mdp, name, tolerance=1e-7, **options)
        assert solution.value_at_start == pytest.approx(value, abs=5e-7 if value != -64.709 else 5e-4), (name, options)
        played = mdp.policy_values(solution.policy) @ mdp.start
        assert played == pytest.approx(solution.value_at_start, abs=1e-5), (name, options)


def test_forest_management() -> None:
    """The default example of MDPtoolbox (Chades et al. 2014), gamma 0.9: values 26.244, 29.484, 33.484; wait always."""
    p = [[[0.1, 0.9, 0], [1, 0, 0]], [[0.1, 0, 0.9], [1, 0, 0]], [[0.1, 0, 0.9], [1, 0, 0]]]
    mdp = FiniteMDP.from_dense(p, [[0, 0], [0, 1], [4, 2]], gamma=0.9)
    for name, options in VARIANTS:
        solution = solve(mdp, name, tolerance=1e-6, **options)
        assert solution.values == pytest.approx([26.244, 29.484, 33.484], abs=2e-6), (name, options)
        assert solution.policy.tolist() == [0, 0, 0]


def test_putermans_example() -> None:
    """Puterman 1994, section 3.1, at gamma 0.95: values -60/7 and -20. The second state has one action."""
    p = [[[0.5, 0.5], [0, 1]], [[0, 1], [0, 0]]]
    mdp = FiniteMDP.from_dense(p, [[5, 10], [-1, 0]], gamma=0.95)
    for name, options in VARIANTS:
        solution = solve(mdp, name, tolerance=1e-6, **options)
        assert solution.values == pytest.approx([-60 / 7, -20.0], abs=2e-6), (name, options)
        assert solution.policy.tolist() == [0, 0]
        assert solution.optimal.tolist() == [[True, False], [True, False]]
        assert solution.q[1].tolist()[1] == -np.inf


def test_of_tied_actions_the_lowest_is_taken_and_all_are_told() -> None:
    p = np.zeros((3, 4, 3))
    p[0, :, 1] = p[1, :, 2] = p[2, :, 2] = 1.0
    rewards = [[0, 1, 0.5, 1], [2, 2, 2, 2], [0, 0, 0, 0]]
    for gamma in (0.9, 1.0):
        mdp = FiniteMDP.from_dense(p, rewards, gamma=gamma, terminal=[False, False, True])
        for name, options in [*VARIANTS, ("backward-induction", {})]:
            solution = solve(mdp, name, **options)
            assert solution.policy.tolist() == [1, 0, 0], (name, options)
            assert solution.optimal.tolist() == [[False, True, False, True], [True] * 4, [True] * 4]


def test_undiscounted_the_lowest_tied_action_must_lead_to_the_end() -> None:
    """In FrozenLake without slip every move that is not into a hole is optimal; the policy must still arrive."""
    mdp = FiniteMDP.from_env("FrozenLake-v1", is_slippery=False)
    for name, options in VARIANTS:
        solution = solve(mdp, name, **options)
        assert mdp.policy_values(solution.policy)[0] == 1.0, (name, options)
        assert solution.optimal[0].tolist() == [True] * 4


def test_all_planners_take_the_same_policy() -> None:
    for env, gamma in [("FrozenLake-v1", 0.99), ("CliffWalkingSlippery-v1", 1.0), ("Taxi-v4", 0.9)]:
        mdp = FiniteMDP.from_env(env, gamma=gamma)
        policies = [solve(mdp, name, tolerance=1e-9, **options).policy for name, options in VARIANTS]
        assert all((policy == policies[0]).all() for policy in policies), env


def test_a_horizon_is_counted_back_from() -> None:
    """Stay for 1, or leave for 3: with 1 or 2 steps left leave at once, with more stay first."""
    p = [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]
    mdp = FiniteMDP.from_dense(p, [[1.0, 3.0], [0.0, 0.0]], terminal=[False, True], horizon=4)
    solution = solve(mdp)
    assert solution.value_at_start == 3 + 3
    assert solution.policy[:, 0].tolist() == [0, 0, 0, 1]
    assert solution.q[0].tolist() == [1 + 5.0, 3.0]
    assert solution.bound < 1e-13
    assert solution.why == "episodes end after 4 steps"
    with pytest.raises(UserError, match="value-iteration needs a process without a horizon"):
        solve(mdp, "value-iteration")


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_horizon_is_the_best_of_all_plans(states: int, actions: int, seed: int, horizon: int) -> None:
    """Against value functions by recursion over steps and states."""
    arrays = random_dense(states, actions, seed)
    mdp = FiniteMDP.from_dense(**arrays, horizon=horizon)

    def best(s: int, left: int) -> float:
        if left == 0 or arrays["terminal"][s]:
            return 0.0
        rows = arrays["transitions"][s]
        return max(
            float(arrays["rewards"][s, a] + sum(p * best(to, left - 1) for to, p in enumerate(rows[a]) if p))
            for a in range(actions)
            if rows[a].any()
        )

    solution = solve(mdp)
    expected = [best(s, horizon) for s in range(states)]
    assert solution.values == pytest.approx(expected, abs=1e-10)
    assert mdp.policy_values(solution.policy) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_backward_induction_needs_no_order_but_an_end(order: list[int]) -> None:
    """A chain 0, 1, 2, 3 under other numbers: 1 + 2 + 4."""
    p, rewards = np.zeros((4, 1, 4)), np.zeros((4, 1))
    for i in range(3):
        p[order[i], 0, order[i + 1]] = 1.0
        rewards[order[i], 0] = 2.0**i
    terminal = np.arange(4) == order[3]
    p[order[3], 0, 0] = 1.0
    solution = solve(FiniteMDP.from_dense(p, rewards, terminal=terminal), "backward-induction")
    assert solution.values[order].tolist() == [7.0, 6.0, 4.0, 0.0]
    assert solution.iterations == 1
    assert solution.bound < 1e-12


def test_backward_induction_refuses_cycles() -> None:
    with pytest.raises(UserError, match="from state 0 on, states come back: give --horizon"):
        solve(FiniteMDP.from_env("FrozenLake-v1", gamma=0.9), "backward-induction")


def large(states: int, reach: int, seed: int, *, ends: bool) -> FiniteMDP:
    """Three actions of two outcomes each, at most `reach` away: large enough for the parallel passes."""
    rng = np.random.default_rng(seed)
    to = (np.arange(states)[:, None, None] + rng.integers(-reach, reach + 1, (states, 3, 2))) % states
    share = rng.random((states, 3, 1))
    share = np.concatenate([share, 1 - share], axis=2)
    rewards = rng.random((states, 3)) * (rng.random((states, 1)) < 0.01)
    terminal = rng.random(states) < (0.1 if ends else 0.0)
    return FiniteMDP(
        (np.arange(0, states * 6 + 1, 2), to.ravel(), share.ravel()), rewards, gamma=0.97, terminal=terminal
    )


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("reach", [3, 15_000])
def test_large_models_local_or_not_are_solved_by_what_fits(reach: int, ends: bool) -> None:
    mdp = large(30_000, reach, 1, ends=ends)
    assert mdp.nnz > SERIAL_BELOW
    auto = solve(mdp)
    assert auto.solver == ("inexact-policy-iteration" if reach == 3 else "modified-policy-iteration")
    slow = solve(mdp, "value-iteration", method="jacobi", tolerance=1e-8)
    for name in ("auto", "modified-policy-iteration", "inexact-policy-iteration"):
        found = solve(mdp, name)
        assert np.abs(found.values - slow.values).max() <= found.bound + slow.bound
        assert found.bound <= 1e-6
        exact = mdp.q_values(slow.values)
        assert (exact[np.arange(mdp.states), found.policy] >= exact.max(axis=1) - 5e-6).all()


def test_a_large_policy_is_evaluated_without_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where states lead anywhere, the factors of (I - P) would be nearly full."""
    states = 400_000
    rng = np.random.default_rng(0)
    to = rng.integers(0, states, 2 * states)
    terminal = np.arange(states) % 30 == 0
    p = rng.random(states)
    p = np.stack([p, 1 - p], axis=1)
    mdp = FiniteMDP((np.arange(0, 2 * states + 1, 2), to, p.ravel()), np.ones((states, 1)), terminal=terminal)
    monkeypatch.setattr(policy_evaluation, "splu", None)
    values = mdp.policy_values(np.zeros(states, np.int64))
    assert np.abs(mdp.q_values(values)[:, 0] - values)[~terminal].max() <= 1e-11


def test_far_away_states_do_not_count_where_rewards_fade() -> None:
    """A line with one reward at its end: most blocks are never touched, and the answer is known: gamma^distance."""
    states = 200_000
    to = np.minimum(np.arange(states) + 1, states - 1)[:, None, None].repeat(2, 1)
    to[:, 1, 0] = np.maximum(np.arange(states) - 1, 0)
    rewards = np.zeros((states, 2))
    rewards[states - 2, 0] = 1.0
    terminal = np.arange(states) == states - 1
    mdp = FiniteMDP((np.arange(2 * states + 1), to.ravel(), np.ones(2 * states)), rewards, gamma=0.9, terminal=terminal)
    solution = solve(mdp)
    assert solution.solver == "inexact-policy-iteration"
    truth = 0.9 ** np.maximum(states - 2.0 - np.arange(states), 0.0)
    truth[-1] = 0.0
    assert np.abs(solution.values - truth).max() <= solution.bound <= 1e-6


def test_rows_of_every_width_are_summed_alike() -> None:
    """The compiled widths, the packed and uneven ones, against the dense formula."""
    for width, uneven in itertools.product([1, 3, 8, 9, 12], [True, False]):
        rng = np.random.default_rng(width)
        states = 300
        counts = np.full((states, 3), width)
        terminal = np.arange(states) % 7 == 0
        if uneven:
            counts[terminal] = 2
        indptr = np.r_[0, np.cumsum(counts)]
        share = np.concatenate([rng.dirichlet(np.ones(n)) for n in counts.ravel()])
        to = rng.integers(0, states, len(share))
        mdp = FiniteMDP((indptr, to, share), rng.normal(size=(states, 3)), gamma=0.9, terminal=terminal)
        assert mdp.packed is not uneven or width == 2
        v = np.where(terminal, 0.0, rng.normal(size=states))
        backup = backups.back_up(mdp, v)
        q = mdp.rewards + 0.9 * (mdp.transitions @ v).reshape(states, 3)
        q[terminal] = 0.0
        np.testing.assert_allclose(backup.new, q.max(axis=1), atol=1e-12)
        np.testing.assert_array_equal(backup.policy, q.argmax(axis=1))
        assert backup.high == pytest.approx((q.max(axis=1) - v)[~terminal].max())
        assert backup.low == pytest.approx((q.max(axis=1) - v)[~terminal].min())
        assert backup.residual == pytest.approx(np.abs(q.max(axis=1) - v).max())


def test_a_budget_that_is_used_up_is_an_error_with_its_bound_unless_it_is_allowed() -> None:
    mdp = FiniteMDP.from_env("FrozenLake-v1", gamma=0.99)
    truth = solve(mdp, "linear-programming")
    for name, options in VARIANTS:
        if name in ("auto", "linear-programming"):
            continue
        with pytest.raises(NotConvergedError, match=rf"{name} stopped after 1 iterations with .* used up") as e:
            solve(mdp, name, max_iterations=1, **options)
        rough = e.value.solution
        assert not rough.converged
        assert np.abs(rough.values - truth.values).max() <= rough.bound
        assert solve(mdp, name, max_iterations=1, allow_unconverged=True, **options).bound == rough.bound


def test_a_tolerance_that_float64_cannot_meet_is_not_met() -> None:
    with pytest.raises(
        NotConvergedError, match=r"with the bound .* tolerance is 1e-15: more iterations no longer"
    ) as e:
        solve(FiniteMDP.from_env("Taxi-v4", gamma=0.99), tolerance=1e-15)
    assert e.value.solution.iterations < 100_000
    assert "a larger tolerance may help" in str(e.value)
    p = [[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]
    mdp = FiniteMDP.from_dense(p, [[1e9, 3.0], [0.0, 0.0]], terminal=[False, True], horizon=4)
    with pytest.raises(
        NotConvergedError, match=r"after 4 iterations with the bound .* 1e-12: more iterations no longer"
    ):
        solve(mdp, tolerance=1e-12)
    assert solve(mdp, tolerance=1e-12, allow_unconverged=True).value_at_start == 1e9 * (1 + 0.5 + 0.25 + 0.125)


@pytest.mark.parametrize(
    ("solver", "options", "sentence"),
    [
        ("value-itertion", {}, "unknown solver 'value-itertion': did you mean 'value-iteration'"),
        ("value-iteration", {"sweeps": 3}, "value-iteration takes no option 'sweeps': it takes method"),
        ("q-iteration", {"method": "jacobi"}, "q-iteration takes no option 'method': it takes none"),
        ("value-iteration", {"method": "jacoby"}, "unknown method 'jacoby': did you mean 'jacobi'"),
        ("policy-iteration", {"evaluation": "exakt"}, "unknown evaluation 'exakt': did you mean 'exact'"),
        ("inexact-policy-iteration", {"forcing": 1.0}, "forcing is 1, expected above 0 and below 1"),
        ("modified-policy-iteration", {"sweeps": -1}, "sweeps is -1, expected at least 0"),
        ("auto", {"tolerance": 0.0}, "tolerance is 0 "),
        ("auto", {"tolerance": float("nan")}, "tolerance is nan"),
        ("auto", {"max_iterations": 0}, "max_iterations 0"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_answered_with_the_right_one(solver: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        solve(FiniteMDP.from_env("FrozenLake-v1", gamma=0.9), solver, **options)


def test_gamma_0_is_the_best_reward() -> None:
    mdp = FiniteMDP.from_env("Taxi-v4", gamma=0.0)
    for name, options in VARIANTS:
        assert (solve(mdp, name, **options).values == mdp.rewards.max(axis=1)).all(), (name, options)


def test_a_process_of_terminal_states_alone_is_worth_nothing() -> None:
    mdp = FiniteMDP.from_dense([[[1.0]]], [[5.0]], terminal=[True])
    assert solve(mdp).values.tolist() == [0.0]
    for name, options in VARIANTS:
        assert solve(mdp.replace(gamma=0.5), name, **options).values.tolist() == [0.0], (name, options)


def test_free_cycles_are_found_and_made_one() -> None:
    # 0 and 1 lead to each other at no cost, 2 to itself; 0 leaves to 2 for -1, 1 for -5, 2 to the end for 3
    p = np.zeros((4, 2, 4))
    p[0, 0, 1] = p[1, 0, 0] = p[2, 0, 2] = p[0, 1, 2] = p[1, 1, 2] = p[2, 1, 3] = p[3, :, 3] = 1.0
    mdp = FiniteMDP.from_dense(p, [[0, -1], [0, -5], [0, 3], [0, 0]], terminal=[False, False, False, True])
    usable, sets = end_components.free_rows(mdp)
    assert usable.reshape(4, 2).tolist() == [[True, False]] * 3 + [[False, False]]
    assert sets[0] == sets[1] != sets[2]
    for name, options in VARIANTS:
        assert solve(mdp, name, **options).values == pytest.approx([2.0, 2.0, 3.0, 0.0], abs=1e-6), (name, options)
    costly = FiniteMDP.from_dense(p, [[-1, -1], [-1, -5], [-1, 3], [0, 0]], terminal=[False, False, False, True])
    assert end_components.reduce(costly) is None


def test_a_cycle_that_earns_for_ever_has_no_solution() -> None:
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[0, 1, 1] = p[1, :, 1] = 1.0
    mdp = FiniteMDP.from_dense(p, [[1, 0], [0, 0]], terminal=[False, True])
    for name, options in VARIANTS:
        with pytest.raises(UserError):
            solve(mdp, name, max_iterations=500, **options)


def test_what_json_prints() -> None:
    told = solve(FiniteMDP.from_env("FrozenLake-v1", gamma=0.99)).to_dict()
    assert told["states"] == 16
    assert told["outcomes"] == 152
    assert len(told["policy"]) == 16
    assert told["converged"] is True
    assert told["why"] == "small"
    assert set(told) >= {"solver", "value_at_start", "bound", "iterations", "seconds", "gamma", "horizon", "actions"}


def test_a_goal_is_met_by_the_bound_or_undiscounted_by_the_residual() -> None:
    mdp = FiniteMDP.from_dense([[[0.0, 1.0]], [[0.0, 1.0]]], [[2.0], [0.0]], terminal=[False, True], gamma=0.5)
    goal = Goal(tolerance=0.1, threshold=0.5, margin=0.0, iterations=10)
    first, second = backups.back_up(mdp, np.zeros(2)), backups.back_up(mdp, np.array([2.0, 0.0]))
    assert (goal.met(mdp, first), goal.met(mdp, second)) == (False, True)
    free = mdp.replace(gamma=1.0)
    assert goal.met(free, backups.back_up(free, np.array([1.6, 0.0])))
    assert goal.left(7).iterations == 3
    assert planners.choose(free).solver == "backward-induction"
