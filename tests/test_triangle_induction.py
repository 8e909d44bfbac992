"""The triangle's own backward induction, against the recurrence row by row and the generic planner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.agents.planning.planners import solve
from rlkit.agents.planning.triangle import BAND, offset, solve_triangle
from rlkit.api import solving
from rlkit.envs.number_triangle import NumberTriangleEnv, Triangle


def by_rows(triangle: Triangle, slip: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values and policy of each row, the top one first."""
    values, policy = [triangle.row(triangle.rows - 1).copy()], [np.zeros(triangle.rows, np.int64)]
    for i in range(triangle.rows - 2, -1, -1):
        left, right = values[0][:-1], values[0][1:]
        down, across = (1 - slip) * left + slip * right, (1 - slip) * right + slip * left
        values.insert(0, triangle.row(i) + np.maximum(down, across))
        policy.insert(0, (across > down).astype(np.int64))
    return values, policy


@given(st.integers(1, 40), st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_small_triangles(rows: int, seed: int, slip: float) -> None:
    triangle = Triangle.random(rows, seed)
    found = solve_triangle(triangle.bottom_first(), slip)
    values, policy = by_rows(triangle, slip)
    assert abs(found.value_at_start - values[0][0]) <= found.bound + 1e-12
    np.testing.assert_allclose(found.cells, np.concatenate(values), atol=1e-9)
    np.testing.assert_array_equal(found.policy, np.concatenate(policy))


@pytest.mark.parametrize("rows", [BAND, BAND + 1, BAND + 2, 2 * BAND + 1, 2_300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bands_and_parts_meet(rows: int, dtype: type) -> None:
    """From 2,000 rows on a band is computed in parts."""
    triangle = Triangle.random(rows, rows)
    found = solve_triangle(triangle.bottom_first().astype(dtype), 0.25)
    values, policy = by_rows(triangle, 0.25)
    size = values[0][0]
    assert abs(found.value_at_start - size) <= found.bound + 1e-9 * size
    for i in {0, 1, rows // 2, rows - BAND, rows - 2, rows - 1}:
        np.testing.assert_allclose(found.row(i), values[i], rtol=1e-12 if dtype is np.float64 else 1e-4)
        if dtype is np.float64:
            at = offset(rows, i)
            np.testing.assert_array_equal(found.steps[at : at + i + 1], policy[i])


def test_the_policy_can_be_put_into_memory_that_is_there() -> None:
    triangle = Triangle.random(30, 1)
    given_ = np.full(triangle.cells, -1, np.int8)
    found = solve_triangle(triangle.bottom_first(), 0.25, given_)
    assert found.steps is given_
    assert set(np.unique(given_)) == {0, 1}


def test_a_large_triangle_is_solved_without_its_model_and_as_the_generic_planner_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = NumberTriangleEnv(rows=60, triangle_seed=3, slip=0.25)
    generic = solve(env.mdp(1.0), "backward-induction")
    monkeypatch.setattr(solving, "LARGE_TRIANGLE", 1_000)
    found = solving.solve(env)
    assert found.value_at_start == pytest.approx(generic.value_at_start, abs=1e-9)
    np.testing.assert_allclose(found.values, generic.values, atol=1e-9)
    np.testing.assert_array_equal(found.policy, generic.policy)
    np.testing.assert_allclose(found.q, generic.q, atol=1e-9)
    assert found.size == generic.size
    assert 0 < found.bound < 1e-9
    told = found.to_dict()
    assert told["converged"] is True
    assert told["policy"] == generic.policy.tolist()
    assert found.optimal[0].any()


def test_one_solved_from_its_numbers_alone_has_no_model() -> None:
    with pytest.raises(ValueError, match="it has no model"):
        solve_triangle(np.array([1.0, 2.0, 3.0])).mdp  # noqa: B018


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 17, 60])
@pytest.mark.parametrize("slip", [0.0, 0.25, 0.5, 1.0])
def test_the_tensorflow_program_agrees(rows: int, slip: float) -> None:
    import tensorflow as tf

    from rlkit.agents.planning import triangle_tensorflow

    triangle = Triangle.random(rows, rows)
    fast = solve_triangle(triangle.bottom_first(), slip)
    found = triangle_tensorflow.solve_triangle(tf.constant(triangle.bottom_first()), rows, slip)
    assert abs(float(found.value) - fast.value_at_start) < 1e-9
    np.testing.assert_array_equal(found.policy.numpy(), fast.steps)
