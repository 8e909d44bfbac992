"""The number triangle: its data and files, its episodes, its model and how gymnasium finds it."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rlkit.agents.planning import planners
from rlkit.envs import lookup
from rlkit.envs.number_triangle import MOST_ROWS, NumberTriangleEnv, Triangle, as_text, state
from rlkit.errors import UserError
from rlkit.interaction.vector import make_vector

ROOT = Path(__file__).resolve().parents[1]

NOTES = [[1], [1, 2], [1, 2, 1]]
"""The notes' example; with slip 1/4 its values are 4.5; 2.75, 3.75; 1, 2, 1."""

IOI = [[7], [3, 8], [8, 1, 0], [2, 7, 4, 4], [4, 5, 2, 6, 5]]
"""International Olympiad in Informatics 1994, day 1, problem 1; the largest sum is 30."""

EULER = """\
75
95 64
17 47 82
18 35 87 10
20 04 82 47 65
19 01 23 75 03 34
88 02 77 73 07 63 67
99 65 04 28 06 16 70 92
41 41 26 56 83 40 80 70 33
41 48 72 33 47 32 37 16 94 29
53 71 44 65 25 43 91 52 97 51 14
70 11 33 28 77 73 17 78 39 68 17 57
91 71 52 38 17 14 91 43 58 50 27 29 48
63 66 04 68 89 53 67 30 73 16 69 87 40 31
04 62 98 27 23 09 70 98 73 93 38 53 60 04 23
"""
"""Project Euler, problem 18; the largest sum is 1074."""


def expectimax(rows: list[Any], slip: float, i: int = 0, j: int = 0) -> float:
    """The notes' recurrence, by plain recursion."""
    if i == len(rows) - 1:
        return float(rows[i][j])
    down, right = (expectimax(rows, slip, i + 1, k) for k in (j, j + 1))
    return float(rows[i][j] + max((1 - slip) * down + slip * right, slip * down + (1 - slip) * right))


def play(env: NumberTriangleEnv, actions: tuple[int, ...]) -> tuple[float, list[int], list[bool]]:
    """The return, the observations and what terminated."""
    env.reset(seed=0)
    total, observations, ended = 0.0, [], []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        assert not truncated
        assert info == {}
        total += reward
        observations.append(observation)
        ended.append(terminated)
    return total, observations, ended


@st.composite
def triangles(draw: st.DrawFn, most: int = 6) -> list[list[float]]:
    rows = draw(st.integers(2, most))
    flat = draw(arrays.arrays(np.float64, rows * (rows + 1) // 2, elements=st.integers(-50, 50)))
    return [list(flat[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]) for i in range(rows)]


# The data.


def test_a_triangle_lies_with_its_bottom_row_first() -> None:
    triangle = Triangle(NOTES)
    assert (triangle.rows, len(triangle), triangle.cells) == (3, 3, 6)
    assert triangle.bottom_first().tolist() == [1, 2, 1, 1, 2, 1]
    assert triangle.top_first().tolist() == [1, 1, 2, 1, 2, 1]
    assert triangle.bottom_first().dtype == np.float64
    assert repr(triangle) == "Triangle(3 rows, top 1)"


@given(triangles())
def test_every_cell_is_found_in_both_orders(rows: list[list[float]]) -> None:
    triangle = Triangle(rows)
    for i, row in enumerate(rows):
        assert triangle.row(i).tolist() == row
        begin = triangle.cells - (i + 1) * (i + 2) // 2
        assert triangle.bottom_first()[begin : begin + i + 1].tolist() == row
        for j, number in enumerate(row):
            assert triangle[i, j] == number
            assert triangle.top_first()[state(i, j)] == number


def test_rows_are_views_and_flat_arrays_are_kept() -> None:
    flat = np.arange(6.0)
    triangle = Triangle.from_bottom_first(flat)
    assert triangle.bottom_first() is flat
    assert np.shares_memory(triangle.row(1), flat)
    assert triangle.row(0).tolist() == [5.0]
    assert triangle.row(2).tolist() == [0.0, 1.0, 2.0]
    assert Triangle.from_bottom_first(np.arange(6)) == triangle


@pytest.mark.parametrize("above", [0.0, np.nan])
def test_a_square_array_holds_a_triangle_on_and_below_its_diagonal(above: float) -> None:
    square = np.array([[1, above, above], [1, 2, above], [1, 2, 1]])
    assert Triangle(square) == Triangle(NOTES)
    assert Triangle([np.array([1]), (1, 2), [1.0, 2.0, 1.0]]) == Triangle(NOTES)
    assert Triangle(NOTES) != Triangle(IOI)
    assert Triangle(NOTES) != NOTES


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([], "the triangle has no rows"),
        ([[1], [1]], "row 2 of the triangle has 1 number, expected 2"),
        ([[1], [1, 2, 3]], "row 2 of the triangle has 3 numbers, expected 2"),
        ([[1, 2], [1]], "row 1 of the triangle has 2 numbers, expected 1"),
        ([[1], [1, float("nan")]], "row 2 of the triangle has nan, expected finite numbers"),
        ([[1], [-float("inf"), 0]], "row 2 of the triangle has -inf, expected finite numbers"),
        ([["one"]], "row 1 of the triangle is ['one'], expected 1 number"),
        ([[1], [[1, 2]]], "row 2 of the triangle is [[1, 2]], expected 2 numbers"),
        (None, "the triangle is None, expected a list of rows"),
        (np.ones((2, 3)), "the triangle's shape is (2, 3), expected a list of rows or a square array"),
        (np.ones((2, 2)), "the triangle's array has numbers above its diagonal, expected 0 or NaN there"),
    ],
)
def test_what_is_no_triangle_is_refused(numbers: Any, told: str) -> None:
    with pytest.raises(UserError) as refused:
        Triangle(numbers)
    assert str(refused.value) == told


@pytest.mark.parametrize("shape", [0, 2, 4, 5, 7, (3, 1)])
def test_a_flat_array_has_the_size_of_a_triangle(shape: Any) -> None:
    with pytest.raises(UserError, match=r"expected \[1\], \[3\], \[6\], \[10\], \.\.\.$"):
        Triangle.from_bottom_first(np.zeros(shape))


def test_a_flat_array_is_finite() -> None:
    assert Triangle.from_bottom_first(np.full(3, 1e308)).rows == 2
    with pytest.raises(UserError, match="must be finite"):
        Triangle.from_bottom_first(np.array([1.0, np.nan, 1.0]))


@pytest.mark.parametrize("cell", [(0, 1), (1, -1), (2, 3), (-1, -1), (3, 0)])
def test_a_cell_outside_is_an_index_error(cell: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        Triangle(NOTES)[cell]


def test_random_numbers_are_uniform_and_belong_to_the_seed(chi_square: Callable[..., float]) -> None:
    first, same, other = Triangle.random(300, 0), Triangle.random(300, 0), Triangle.random(300, 1)
    assert first == same
    assert first != other
    numbers = first.bottom_first()
    assert first.rows == 300
    assert set(numbers) == set(range(100))
    # With another seed this would fail once in 1,000 times.
    assert chi_square(np.bincount(numbers.astype(int)), np.full(100, numbers.size / 100)) > 1e-3
    # Neither seeds nor neighbours go together: a correlation of 45,150 pairs has standard deviation 0.0047.
    assert abs(np.corrcoef(numbers, other.bottom_first())[0, 1]) < 4 * 0.0047
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 4 * 0.0047


@pytest.mark.parametrize(
    ("rows", "seed", "told"),
    [
        (0, 0, "rows is 0, expected a whole number from 1 to 65535"),
        (MOST_ROWS + 1, 0, "rows is 65536, expected a whole number from 1 to 65535"),
        (2.5, 0, "rows is 2.5, expected"),
        (True, 0, "rows is True, expected"),
        (3, -1, "triangle_seed is -1, expected"),
        (3, 0.5, "triangle_seed is 0.5, expected"),
    ],
)
def test_a_random_triangle_has_rows_and_a_seed(rows: Any, seed: Any, told: str) -> None:
    with pytest.raises(UserError) as refused:
        Triangle.random(rows, seed)
    assert str(refused.value).startswith(told)


def test_cells_of_the_largest_triangle_are_numbered_in_int32() -> None:
    assert MOST_ROWS * (MOST_ROWS + 1) // 2 <= 2**31 - 1 < (MOST_ROWS + 1) * (MOST_ROWS + 2) // 2


# Files.


@pytest.mark.parametrize(
    "content",
    [
        "1\n1 2\n1 2 1\n",
        "1\n1 2\n1 2 1",
        "1\r\n1 2\r\n1 2 1\r\n",
        "\ufeff1\n1 2\n1 2 1\n",
        "# the notes'\n\n1  # top\n   1 2\n# between\n\t1\t2   1   \n\n   \n# end\n\n",
        "1.0\n+1 2.\n1e0 20e-1 01\n",
    ],
    ids=["plain", "no last newline", "Windows", "byte order mark", "comments and blanks", "decimals"],
)
def test_a_file_is_read(content: str, tmp_path: Path) -> None:
    path = tmp_path / "triangle.txt"
    path.write_bytes(content.encode())
    for name in (path, str(path)):
        assert Triangle.read(name) == Triangle(NOTES)


def test_decimals_and_signs_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "triangle.txt"
    path.write_text("-0.1\n.5 -3\n1234567890123 0.30000000000000004 -.25e-3\n", encoding="utf-8")
    assert Triangle.read(path).top_first().tolist() == [-0.1, 0.5, -3.0, 1234567890123.0, 0.1 + 0.2, -0.00025]


@given(triangles(8))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]) -> None:
    path = tmp_path_factory.mktemp("written") / "triangle.txt"
    path.write_text("\n".join(" ".join(map(repr, map(float, row))) for row in rows), encoding="utf-8")
    assert Triangle.read(path) == Triangle(rows)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"1\n1 2\n1 2\n", "line 3 has 2 numbers, expected 3"),
        (b"1\n1 2\n1 2 3 4\n", "line 3 has 4 numbers, expected 3"),
        (b"1\n1\n1 2 3\n", "line 2 has 1 number, expected 2"),
        (b"1 2 1\n1 2\n1\n", "line 1 has 3 numbers, expected 1"),
        (b"# two lines\n# of comments\n1\n1 2 # a third\n1 2\n", "line 5 has 2 numbers, expected 3"),
        (b"1\n1 two\n1 2 3\n", "line 2: 'two' is no number, expected integers or decimals"),
        (b"1\n1,2\n", "line 2: '1,2' is no number, expected integers or decimals"),
        (b"1\n1 2\n1 2 0x10\n", "line 3: '0x10' is no number, expected integers or decimals"),
        (b"1\n1 1_000\n", "line 2: '1_000' is no number, expected integers or decimals"),
        ("1\n1 \u0663\n".encode(), "line 2: '\u0663' is no number, expected integers or decimals"),
        (b"1\n1 nan\n", "line 2: 'nan' is not finite, expected integers or decimals"),
        (b"1\n-inf 2\n", "line 2: '-inf' is not finite, expected integers or decimals"),
        (b"1e999\n", "line 1: '1e999' is not finite, expected integers or decimals"),
        (b"1\n1 x\n1\n", "line 2: 'x' is no number, expected integers or decimals"),
        (b"x" * 500, f"line 1: '{'x' * 30}...' is no number, expected integers or decimals"),
        (b"1\n\n1 2\n", "line 2 is blank, expected 2 numbers"),
        (b"1\n1 2\n\n \n# more\n1 2 3\n", "line 3 is blank, expected 3 numbers"),
        (b"1\n1 2\n\xff\xfe 3 4\n", "line 3 is no text in UTF-8"),
        ("1\n1 2\n".encode("utf-16"), "line 1 is no text in UTF-8"),
        (b"1\n1 \x00\n", "line 2: '\\x00' is no number, expected integers or decimals"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    for read in (Triangle.read, NumberTriangleEnv):
        with pytest.raises(UserError) as refused:
            read(path)
        assert str(refused.value) == f"triangle file {path}: {told}"


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"])
def test_an_empty_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        Triangle.read(path)
    assert str(refused.value) == f"triangle file {path} is empty, expected rows of 1, 2, 3, ... numbers"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path / "missing.txt", "does not exist"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "nul\0", "cannot be read: embedded null byte"),
    ):
        with pytest.raises(UserError) as refused:
            Triangle.read(path)
        assert str(refused.value) == f"triangle file {path} {told}"


# Episodes.


def test_without_slip_every_path_returns_the_sum_of_its_numbers() -> None:
    env = NumberTriangleEnv(IOI)
    sums = []
    for actions in itertools.product((0, 1), repeat=4):
        total, observations, ended = play(env, actions)
        cells = [(i, sum(actions[:i])) for i in range(5)]
        sums.append(sum(IOI[i][j] for i, j in cells))
        assert total == sums[-1]
        assert observations == [i * (i + 1) // 2 + j for i, j in cells[1:]]
        assert ended == [False, False, False, True]
        assert env.path == cells
    assert max(sums) == 30


def test_with_slip_1_the_other_action_happens_always() -> None:
    straight, slipping = NumberTriangleEnv(IOI), NumberTriangleEnv(IOI, slip=1)
    for actions in itertools.product((0, 1), repeat=4):
        assert play(slipping, actions) == play(straight, tuple(1 - a for a in actions))


def test_the_start_counts_in_the_first_reward_only() -> None:
    env = NumberTriangleEnv([[100], [1, 2], [10, 20, 30]])
    assert env.reset(seed=0) == (0, {})
    assert env.step(1) == (2, 102.0, False, False, {})
    assert env.step(0) == (4, 20.0, True, False, {})
    env.reset()
    assert env.step(0)[1] == 101.0


@pytest.mark.parametrize("slip", [0.25, 0.9])
def test_the_other_action_happens_with_the_probability_that_is_given(
    slip: float, chi_square: Callable[..., float]
) -> None:
    env = NumberTriangleEnv([[0], [0, 1]], slip=slip)
    env.reset(seed=12)
    for action in (0, 1):
        steps, other = 20_000, 0
        for _ in range(steps):
            env.reset()
            other += env.step(action)[0] != 1 + action
        counts = np.array([steps - other, other])
        # With another seed each would fail once in 1,000 times.
        assert chi_square(counts, steps * np.array([1 - slip, slip])) > 1e-3


def test_a_seed_makes_an_episode_and_the_triangle_has_one_of_its_own() -> None:
    def rollout(seed: int) -> list[Any]:
        env = NumberTriangleEnv(rows=40, slip=0.5)
        env.reset(seed=seed)
        return [env.step(k % 2) for k in range(39)]

    assert rollout(3) == rollout(3)
    assert rollout(3) != rollout(4)
    same, other = NumberTriangleEnv(rows=40), NumberTriangleEnv(rows=40, triangle_seed=1)
    same.reset(seed=1)
    assert same.triangle == NumberTriangleEnv(rows=40, triangle_seed=0).triangle
    assert same.triangle == Triangle.random(40, 0)
    assert same.triangle != other.triangle


def test_an_env_can_be_pickled_in_mid_episode() -> None:
    env = NumberTriangleEnv(rows=20, slip=0.5)
    env.reset(seed=5)
    for _ in range(7):
        env.step(1)
    copy = pickle.loads(pickle.dumps(env))
    assert copy.path == env.path
    assert [copy.step(0) for _ in range(12)] == [env.step(0) for _ in range(12)]


def test_a_step_outside_an_episode_and_an_unknown_action_are_errors() -> None:
    env = NumberTriangleEnv(NOTES)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    wrong: list[Any] = [2, -1, 0.5]
    for action in wrong:
        with pytest.raises(gymnasium.error.InvalidAction, match=f"action {action}, expected 0"):
            env.step(action)
    assert env.step(np.int64(1))[0] == 2
    assert env.step(0)[2]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"slip": 1.5}, "slip is 1.5, expected a probability from 0 to 1"),
        ({"slip": -0.1}, "slip is -0.1, expected a probability"),
        ({"slip": float("nan")}, "slip is nan, expected a probability"),
        ({"slip": "a"}, "slip is 'a', expected a probability"),
        ({"rows": 1}, "the triangle has 1 row, expected at least 2: there is nowhere to go"),
        ({"triangle": [[1]]}, "the triangle has 1 row, expected at least 2"),
        ({"rows": 0}, "rows is 0, expected a whole number from 1"),
        ({"triangle_seed": -1}, "triangle_seed is -1, expected"),
        ({"triangle": "missing.txt"}, "triangle file missing.txt does not exist"),
        ({"triangle": 18}, "triangle file 18 does not exist"),
        ({"render_mode": "human"}, "render_mode is 'human', expected None, 'ansi' or 'rgb_array'"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        NumberTriangleEnv(**arguments)
    assert str(refused.value).startswith(told)
    if "render_mode" not in arguments:
        with pytest.raises(UserError, match=r"\w"):
            make_vector("rlkit/NumberTriangle-v0", arguments, 1)


# The model.


def test_the_notes_example_has_the_notes_values() -> None:
    env = NumberTriangleEnv(NOTES, slip=0.25)
    solution = planners.solve(env.mdp())
    numbers = env.triangle.top_first()
    notes = np.where(np.arange(6) == 0, 0.0, numbers) + solution.values  # the top's number is in its value already
    assert notes == pytest.approx([4.5, 2.75, 3.75, 1, 2, 1])
    assert solution.policy[:3].tolist() == [1, 1, 0]
    q = solution.q[:3] - [[1, 1], [0, 0], [0, 0]]
    assert q == pytest.approx(np.array([[3.0, 3.5], [1.25, 1.75], [1.75, 1.25]]))


@pytest.mark.parametrize(
    ("rows", "slip", "value"),
    [
        (IOI, 0.0, 30.0),
        ([[3], [7, 4], [2, 4, 6], [8, 5, 9, 3]], 0.0, 23.0),  # Project Euler 18's own example
        (IOI, 0.25, 26.42578125),
        (EULER, 0.0, 1074.0),
        (EULER, 0.25, 940.8493558503687),
    ],
)
def test_published_triangles(rows: Any, slip: float, value: float, tmp_path: Path) -> None:
    if isinstance(rows, str):
        (tmp_path / "triangle.txt").write_text(rows, encoding="utf-8")
        rows = str(tmp_path / "triangle.txt")
    else:
        assert expectimax(rows, slip) == pytest.approx(value, rel=1e-14)
    solution = planners.solve(NumberTriangleEnv(rows, slip=slip).mdp())
    assert solution.value_at_start == pytest.approx(value, rel=1e-13)


@settings(max_examples=40)
@given(triangles(), st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.9, 1.0]))
def test_the_model_solves_to_the_recurrence(rows: list[list[float]], slip: float) -> None:
    solution = planners.solve(NumberTriangleEnv(rows, slip=slip).mdp())
    assert solution.value_at_start == pytest.approx(expectimax(rows, slip), abs=1e-9)


@pytest.mark.parametrize("slip", [0.0, 0.25, 1.0])
def test_the_model_is_the_one_that_steps_are_drawn_from(slip: float, chi_square: Callable[..., float]) -> None:
    env = NumberTriangleEnv([[5], [1, -2], [3, 4, 0.5]], slip=slip)
    model = env.mdp(gamma=0.9)
    assert model.gamma == 0.9
    assert model.terminal.tolist() == [False, False, False, True, True, True]
    assert model.start.tolist() == [1, 0, 0, 0, 0, 0]
    assert model.nnz == (6 if slip in (0.0, 1.0) else 12)
    for cell, action in itertools.product([(0, 0), (1, 0), (1, 1)], (0, 1)):
        row = 2 * state(*cell) + action
        outcomes = slice(model.indptr[row], model.indptr[row + 1])
        assert model.outcome_rewards is not None
        rewards = dict(zip(model.indices[outcomes].tolist(), model.outcome_rewards[outcomes].tolist(), strict=True))
        counts = dict.fromkeys(rewards, 0)
        env.reset(seed=row)
        for _ in range(3_000):
            env.path = [(0, 0), cell][cell == (0, 0) :]
            observation, reward, terminated, _, _ = env.step(action)
            counts[observation] += 1
            assert reward == rewards[observation]
            assert terminated == model.terminal[observation]
        if len(counts) > 1:  # with another seed each of 6 would fail once in 1,000 times
            assert chi_square(np.array(list(counts.values())), 3_000 * model.probabilities[outcomes]) > 1e-3


def test_monte_carlo_returns_of_the_best_policy_have_its_value() -> None:
    env = NumberTriangleEnv(IOI, slip=0.25)
    policy = planners.solve(env.mdp()).policy
    returns = []
    observation, _ = env.reset(seed=0)
    for _ in range(4_000):
        total, terminated = 0.0, False
        while not terminated:
            observation, reward, terminated, _, _ = env.step(int(policy[observation]))
            total += reward
        returns.append(total)
        observation, _ = env.reset()
    # Beyond 4 standard errors with a probability of 6e-5, had the seed been another.
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - 26.42578125) < 4 * error


# Pictures.


def test_text_marks_the_path_and_the_agent() -> None:
    env = NumberTriangleEnv(IOI, render_mode="ansi")
    assert as_text(env.triangle, []).splitlines()[1].strip() == "7"
    env.reset(seed=0)
    env.step(1)
    env.step(0)
    assert env.render() == "\n".join(
        [
            "row 3 of 5, sum 16",
            "        (7)",
            "       3  (8)",
            "     8  [1]  0",
            "   2   7   4   4",
            " 4   5   2   6   5",
        ]
    )


def test_text_of_a_large_triangle_shows_what_lies_below() -> None:
    triangle = Triangle.random(100, 0)
    lines = as_text(triangle, [(0, 0), (1, 1)]).splitlines()
    assert lines[0].startswith("row 2 of 100, sum ")
    assert lines[1].strip() == f"[{triangle[1, 1]:g}]"
    assert lines[-1] == "... 79 rows more"
    assert len(lines) == 1 + 20 + 1
    assert lines[-2].split() == [f"{x:g}" for x in triangle.row(20)[1:]]
    last = as_text(triangle, [(k, 0) for k in range(100)]).splitlines()
    assert [line.strip() for line in last[1:]] == [f"[{triangle[99, 0]:g}]"]


@pytest.mark.parametrize("rows", [2, 15, 30])
def test_pictures_of_an_episode_have_one_size_and_differ(rows: int) -> None:
    env = NumberTriangleEnv(rows=rows, render_mode="rgb_array")
    env.reset(seed=0)
    frames = [env.render()]
    for _ in range(rows - 1):
        env.step(0)
        frames.append(env.render())
    for before, after in itertools.pairwise(frames):
        assert isinstance(before, np.ndarray)
        assert isinstance(after, np.ndarray)
        assert before.dtype == np.uint8
        assert before.shape == after.shape
        assert (before != after).any()


def test_without_a_mode_render_warns() -> None:
    env = NumberTriangleEnv(NOTES)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


# How it is found.


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ORDERS = {
    "gymnasium alone": "import gymnasium",
    "rlkit first": "import rlkit, gymnasium",
    "gymnasium first": "import gymnasium, rlkit",
    "a part of rlkit first": "import rlkit.errors\nimport gymnasium",
    "both twice": "import rlkit, gymnasium, rlkit.exact.mdp\nimport importlib\nimportlib.reload(rlkit)",
    "the envs twice": "import rlkit.envs, gymnasium, importlib\nimportlib.reload(rlkit.envs)",
}


@pytest.mark.parametrize("order", ORDERS)
def test_gymnasium_finds_it_by_the_modules_name_in_any_order(order: str) -> None:
    outcome = python(
        f"{ORDERS[order]}\n"
        "env = gymnasium.make('rlkit:rlkit/NumberTriangle-v0', slip=0.25)\n"
        "again = gymnasium.make('rlkit:rlkit/NumberTriangle-v0')\n"
        "import rlkit, rlkit.envs\n"
        "assert rlkit.__spec__.name == 'rlkit'\n"
        "print(env.spec.id, gymnasium.make('rlkit/NumberTriangle-v0').observation_space.n)"
    )
    assert outcome.stderr == ""
    assert outcome.stdout == "rlkit/NumberTriangle-v0 120\n"


def test_its_id_is_enough_after_the_envs_are_imported() -> None:
    outcome = python("import rlkit.envs, gymnasium\nprint(gymnasium.make('rlkit/NumberTriangle-v0').spec.id)")
    assert outcome.stderr == ""
    assert outcome.stdout == "rlkit/NumberTriangle-v0\n"


def test_importing_rlkit_alone_registers_nothing() -> None:
    outcome = python("import sys, rlkit\nassert rlkit.__spec__.name == 'rlkit'\nassert 'gymnasium' not in sys.modules")
    assert outcome.stderr == ""


def test_its_arguments_are_flags() -> None:
    taken = {"triangle": None, "rows": 15, "triangle_seed": 0, "slip": 0.0}
    for name in ("rlkit/NumberTriangle-v0", "rlkit:rlkit/NumberTriangle-v0"):
        assert lookup.find(name).id == "rlkit/NumberTriangle-v0"
        assert lookup.arguments(name) == taken
    assert "rlkit/NumberTriangle-v0" in lookup.names()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_several_run_side_by_side(vectorization: str, tmp_path: Path) -> None:
    path = tmp_path / "triangle.txt"
    path.write_text("100\n1 2\n10 20 30\n", encoding="utf-8")
    vector = make_vector("rlkit/NumberTriangle-v0", {"triangle": str(path)}, 2, vectorization)
    try:
        observations, _ = vector.reset(seed=0)
        assert observations.tolist() == [0, 0]
        observations, rewards, terminated, truncated, _ = vector.step(np.array([0, 1]))
        assert observations.tolist() == [1, 2]
        assert rewards.tolist() == [101.0, 102.0]
        assert not terminated.any()
        assert not truncated.any()
    finally:
        vector.close()
