"""The studies end in the numbers of the notes and of Sutton and Barto's book."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlkit.agents.planning import planners
from rlkit.api import solving
from rlkit.envs.number_triangle import NumberTriangleEnv
from rlkit.experiments.studies import number_triangle as triangle
from rlkit.experiments.studies import sutton_barto as book
from rlkit.experiments.studies import triangle_recurrences as recurrences
from rlkit.experiments.studies import triangle_trials as trials

ROOT = Path(__file__).parent.parent
IOI = ((7,), (3, 8), (8, 1, 0), (2, 7, 4, 4), (4, 5, 2, 6, 5))
"""International Olympiad in Informatics 1994, "The Triangle": the answer is 30."""


# ---- the number triangle: deterministic, known probabilities


@pytest.mark.parametrize(("rows", "largest"), [(recurrences.SMALL, 23), (recurrences.EULER, 1074), (IOI, 30)])
def test_every_way_finds_the_published_largest_sum(rows: recurrences.Rows, largest: int) -> None:
    n = len(rows)
    assert recurrences.brute_force(rows) == largest
    assert recurrences.recursion(rows) == (largest, 2**n - 1)
    values = recurrences.recurrence(rows)
    assert values[0][0] == largest
    path = recurrences.best_path(values)
    assert sum(row[j] for row, j in zip(rows, path, strict=True)) == largest
    assert all(b - a in (0, 1) for a, b in itertools.pairwise(path))
    assert recurrences.known(rows, 0.0)[0][0][0] == largest


def test_known_probabilities_give_the_values_worked_by_hand() -> None:
    values, q = recurrences.known(recurrences.HAND, 0.25)
    assert values == [[4.5], [2.75, 3.75], [1, 2, 1]]
    assert q == [[(3.0, 3.5)], [(1.25, 1.75), (1.75, 1.25)]]


@pytest.mark.parametrize("rows", [recurrences.HAND, recurrences.SMALL, IOI])
def test_the_recurrence_is_the_best_of_all_policies(rows: recurrences.Rows) -> None:
    """Every policy of the inner cells, and for each the probability and sum of every path."""
    n, slip = len(rows), 0.3
    inner = [(i, j) for i in range(n - 1) for j in range(i + 1)]
    expectations = []
    for choices in itertools.product((0, 1), repeat=len(inner)):
        policy, mean = dict(zip(inner, choices, strict=True)), 0.0
        for slips in itertools.product((0, 1), repeat=n - 1):
            j, total = 0, float(rows[0][0])
            for i, slipped in enumerate(slips):
                j += policy[i, j] ^ slipped
                total += rows[i + 1][j]
            mean += total * math.prod(slip if slipped else 1 - slip for slipped in slips)
        expectations.append(mean)
    assert recurrences.known(rows, slip)[0][0][0] == pytest.approx(max(expectations), abs=1e-12)


@pytest.mark.parametrize("slip", [0.0, 0.25, 0.5, 1.0])
def test_the_recurrence_and_the_planner_agree(slip: float) -> None:
    solution = solving.solve(NumberTriangleEnv(recurrences.EULER, slip=slip))
    assert solution.value_at_start == pytest.approx(recurrences.known(recurrences.EULER, slip)[0][0][0], abs=1e-9)
    if slip == 0.25:
        assert solution.value_at_start == pytest.approx(940.8493558503687, abs=1e-9)


# ---- unknown probabilities


def test_estimates_by_layers_are_as_near_as_their_intervals_say() -> None:
    """All six hold together with 95%: that at least 13 of 20 seeds have all fails with probability below 1e-5."""
    env = NumberTriangleEnv(recurrences.HAND, slip=0.25)
    _, exact = recurrences.known(recurrences.HAND, 0.25)
    held = 0
    for seed in range(20):
        found = trials.layered(env, 200, seed)
        held += all(
            abs(found[i][j][a].mean - exact[i][j][a]) <= found[i][j][a].half
            for i in range(2)
            for j in range(i + 1)
            for a in (0, 1)
        )
    assert held >= 13


def test_intervals_shrink_with_the_root_of_the_trials() -> None:
    env = NumberTriangleEnv(recurrences.HAND, slip=0.25)
    few, many = trials.layered(env, 100), trials.layered(env, 2500)
    for i, j in ((1, 0), (1, 1), (0, 0)):
        for a in (0, 1):
            assert few[i][j][a].half / many[i][j][a].half == pytest.approx(5, rel=0.35)
    # Of a coin with p = 1/4 between 1 and 2 the deviation is sqrt(3)/4; z of 0.05 / 12 is 2.638 (normal tables).
    assert many[1][0][0].half == pytest.approx(2.638 * math.sqrt(3) / 4 / 50, rel=0.1)


def test_without_slip_a_trial_tells_all() -> None:
    found = trials.layered(NumberTriangleEnv(recurrences.SMALL), 2)
    assert found[0][0][0].mean == 20  # 23 without the top's 3
    assert found[0][0][0].half == 0


def test_one_trial_says_nothing_about_its_spread() -> None:
    assert trials.layered(NumberTriangleEnv(recurrences.HAND, slip=0.25), 1)[0][0][0].half == math.inf


@pytest.mark.parametrize("target", trials.TARGETS)
def test_each_incremental_form_comes_to_the_optimal_values(target: str) -> None:
    """Within 0.1 after 20,000 episodes: over 5 standard errors for the rarest pair, seen more than 700 times."""
    env = NumberTriangleEnv(recurrences.HAND, slip=0.25)
    q = trials.incremental(env, target, 20_000, seed=3)
    _, exact = recurrences.known(recurrences.HAND, 0.25)
    assert set(q) == {(0, 0), (1, 0), (1, 1)}
    for (i, j), pair in q.items():
        assert pair == pytest.approx(exact[i][j], abs=0.1)
        assert np.argmax(pair) == np.argmax(exact[i][j])


def test_a_constant_step_forgets() -> None:
    """The average of targets ends nearer than steps of 1/2, which follow the last few: deviation sqrt(1/3) of one."""
    env = NumberTriangleEnv(recurrences.HAND, slip=0.25)

    def errors(step_size: float | None) -> list[float]:
        tables = [trials.incremental(env, "max", 1_000, step_size=step_size, seed=s) for s in range(10)]
        return [abs(q[1, 1][0] - 1.75) for q in tables]

    assert np.mean(errors(None)) < np.mean(errors(0.5)) / 3


def test_the_same_seed_gives_the_same_estimates() -> None:
    env = NumberTriangleEnv(recurrences.HAND, slip=0.25)
    first, again, other = (trials.incremental(env, "sarsa", 50, seed=s) for s in (1, 1, 2))
    assert first == again != other
    assert trials.layered(env, 5, 1) == trials.layered(env, 5, 1) != trials.layered(env, 5, 2)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match="target is 'mean', expected one of return, sarsa, max"):
        trials.incremental(NumberTriangleEnv(recurrences.HAND), "mean", 1)


def test_the_network_comes_near() -> None:
    """Loosely: what 3,000 steps of a network are worth is no published number."""
    q = trials.network(recurrences.HAND, 0.25, steps=3_000, seed=1)
    _, exact = recurrences.known(recurrences.HAND, 0.25)
    for (i, j), pair in q.items():
        assert pair == pytest.approx(exact[i][j], abs=0.35)


def test_the_study_prints_its_steps_and_draws_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    triangle.run(out=tmp_path, quick=True)
    said = capsys.readouterr().out
    for line in (
        "  3 + 7 + 4 + 9 = 23",
        "  every path:          1074, the best of 16,384 paths",
        "  Q(1,0,down) = 0.75·1 + 0.25·2 = 1.25, Q(1,0,right) = 0.25·1 + 0.75·2 = 1.75",
        "    V(1,1) = 2 + 1.75 = 3.75, down",
        "    V(0,0) = 1 + 3.5 = 4.5, right",
        "  Project Euler 18 with the same slip: 940.8493559",
    ):
        assert line in said.splitlines()
    assert max(map(len, said.splitlines())) <= 100
    names = {"hand.png", "hand-slip.png", "euler.png", "euler-slip.png", "euler-slip.gif", "trials.png"}
    assert {file.name for file in tmp_path.iterdir()} == names
    with Image.open(tmp_path / "euler-slip.gif") as film:
        assert film.n_frames == 15  # type: ignore[attr-defined] # a gif has it: one a row


# ---- Sutton and Barto 2018


def test_gridworld_example_3_5() -> None:
    """Figure 3.2."""
    assert np.round(book.random_values(book.gridworld()).reshape(5, 5), 1).tolist() == [
        [3.3, 8.8, 4.4, 5.3, 1.5],
        [1.5, 3.0, 2.3, 1.9, 0.5],
        [0.1, 0.7, 0.7, 0.4, -0.4],
        [-1.0, -0.4, -0.4, -0.6, -1.2],
        [-1.9, -1.3, -1.2, -1.4, -2.0],
    ]


def test_gridworld_example_3_8() -> None:
    """Figure 3.5."""
    best = planners.solve(book.gridworld(), tolerance=1e-9)
    assert np.round(best.values.reshape(5, 5), 1).tolist() == [
        [22.0, 24.4, 22.0, 19.4, 17.5],
        [19.8, 22.0, 19.8, 17.8, 16.0],
        [17.8, 19.8, 17.8, 16.0, 14.4],
        [16.0, 17.8, 16.0, 14.4, 13.0],
        [14.4, 16.0, 14.4, 13.0, 11.7],
    ]
    north, south, east, west = range(4)
    actions = {0: {east}, 1: {north, south, east, west}, 2: {west}, 4: {west}, 5: {north, east}, 24: {north, west}}
    for state, optimal in actions.items():
        assert set(np.flatnonzero(best.optimal[state])) == optimal


def test_gridworld_example_4_1() -> None:
    """Figure 4.1, k = infinity; the optimal values are steps to the nearer corner."""
    grid = book.corners()
    assert np.round(book.random_values(grid), 9).tolist() == [
        *(0, -14, -20, -22),
        *(-14, -18, -20, -20),
        *(-20, -20, -18, -14),
        *(-22, -20, -14, 0),
    ]
    steps = [-min(i + j, 6 - i - j) for i in range(4) for j in range(4)]
    assert planners.solve(grid).values == pytest.approx(np.array(steps), abs=1e-6)


def test_gamblers_problem_example_4_3() -> None:
    """Bold play is optimal for p < 1/2 (Dubins and Savage 1965): V(s) = p V(2 s), or p + (1 - p) V(2 s - 100)."""
    coins = planners.solve(book.gambler(), tolerance=1e-9)
    values = coins.values
    assert values[[25, 50, 75]] == pytest.approx([0.16, 0.4, 0.64], abs=1e-9)
    for capital in range(1, 100):
        bold = 0.4 * values[2 * capital] if capital < 50 else 0.4 + 0.6 * values[2 * capital - 100]
        assert values[capital] == pytest.approx(bold if capital != 50 else 0.4, abs=1e-9)
    stakes = book.stakes(coins)
    assert stakes[[25, 50, 75]].tolist() == [25, 50, 25]
    assert stakes[1:13].tolist() == list(
        range(1, 13)
    )  # the book's figure 4.3: four teeth of height 12 and three spikes
    assert stakes[13:25].tolist() == list(range(12, 0, -1))
    assert sorted(stakes)[-4:] == [12, 25, 25, 50]


def test_a_fair_coin_makes_every_stake_right() -> None:
    coins = planners.solve(book.gambler(0.5), tolerance=1e-9)
    assert coins.values[1:-1] == pytest.approx(np.arange(1, 100) / 100, abs=1e-9)
    assert (coins.optimal == coins.mdp.available)[1:-1].all()


def test_a_day_of_car_rental_is_a_distribution_with_the_right_mean() -> None:
    """E min(X, n) = sum of P(X > k) for k < n; and the cars that come back, where there is room for all."""
    for requests, returns in zip(book.REQUESTS, book.RETURNS, strict=True):
        evening, rentals = book._day(requests, returns)
        assert evening.sum(axis=1) == pytest.approx(np.ones(21))
        assert (evening >= 0).all()
        tail, below = [], 0.0
        for k in range(20):
            below += math.exp(-requests) * requests**k / math.factorial(k)
            tail.append(1 - below)
        assert rentals == pytest.approx(np.concatenate([[0], np.cumsum(tail)]), abs=1e-9)
        assert evening[3] @ np.arange(21) == pytest.approx(3 - rentals[3] + returns, abs=1e-6)


def test_a_simulated_night_of_car_rental_agrees_with_the_model() -> None:
    """100,000 draws of Poisson numbers from 15 and 4 cars, 3 of them moved; 5 standard errors, 1e-6 of false alarm."""
    rng, draws = np.random.default_rng(7), 100_000
    mdp = book.car_rental()
    row = (21 * 15 + 4) * 11 + 3 + book.MOVED
    lo, hi = mdp.indptr[row : row + 2]
    expected = np.zeros(2)
    for to, p in zip(mdp.indices[lo:hi], mdp.probabilities[lo:hi], strict=True):
        expected += p * np.array(divmod(int(to), 21))
    morning = np.array([12, 7])
    rented = np.minimum(rng.poisson((3, 4), (draws, 2)), morning)
    evening = np.minimum(morning - rented + rng.poisson((3, 2), (draws, 2)), 20)
    assert evening.mean(axis=0) == pytest.approx(expected, abs=5 * evening.std() / math.sqrt(draws))
    reward = 10 * rented.sum(axis=1) - 6
    assert reward.mean() == pytest.approx(mdp.rewards.ravel()[row], abs=5 * reward.std() / math.sqrt(draws))


def test_jacks_car_rental_example_4_2() -> None:
    """Figure 4.2, the last policy: from -4 to 5 cars; none where both have many; other solvers agree."""
    rental = planners.solve(book.car_rental(), "policy-iteration")
    moves = book.car_moves(rental)
    assert (moves.min(), moves.max()) == (-4, 5)
    assert moves[20, 0] == moves[12, 0] == 5
    assert moves[0, 20] == -4
    assert (np.diag(moves)[:20] >= 0).all()
    assert (np.diff(moves, axis=0) >= 0).all()  # more cars at the first location, more to move from it
    assert (np.diff(moves, axis=1) <= 0).all()
    assert not moves[8:15, 8:].any()
    for solver in ("value-iteration", "modified-policy-iteration"):
        other = planners.solve(book.car_rental(), solver)
        assert np.abs(other.values - rental.values).max() <= other.bound + rental.bound
        assert (book.car_moves(other) == moves).all()


def test_more_cars_than_there_are_cannot_be_moved() -> None:
    available = book.car_rental().available.reshape(21, 21, 11)
    assert np.flatnonzero(available[2, 1]).tolist() == [4, 5, 6, 7]  # from -1 to 2
    assert available[9, 9].all()


def test_the_books_examples_are_printed_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    book.run(tmp_path)
    said = capsys.readouterr().out
    assert "   22.0   24.4   22.0   19.4   17.5" in said
    assert "    0.0  -14.0  -20.0  -22.0" in said
    assert "25: 0.160000, 50: 0.400000, 75: 0.640000" in said
    assert {file.name for file in tmp_path.iterdir()} == {"car-rental.png", "gambler.png"}
    assert min(file.stat().st_size for file in tmp_path.iterdir()) > 10_000


# ---- the page


PAGE = (ROOT / "docs" / "number-triangle.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]


def test_the_page_shows_what_the_study_prints(capsys: pytest.CaptureFixture[str]) -> None:
    shown = [line.rstrip() for kind, block in BLOCKS if not kind for line in block.splitlines()]
    triangle.deterministic(recurrences.SMALL, "Project Euler 18, the example")
    triangle.show_known(recurrences.HAND, 0.25)
    triangle.show_layered(recurrences.HAND, 0.25, (10, 100, 1_000), 0)
    said = capsys.readouterr().out
    printed = [line.rstrip() for line in said.splitlines()]
    assert len(shown) > 15
    assert [line for line in shown if line not in printed] == []


def test_the_commands_on_the_page_work(tmp_path: Path) -> None:
    assert COMMANDS
    for command in COMMANDS:
        words = shlex.split(command.partition(" #")[0])
        if words[0] == "rlkit":
            words = [str(Path(sys.executable).parent / "rlkit"), *words[1:]]
        else:
            words = [sys.executable, *words[1:]]
        if words[-1].endswith("number_triangle"):
            words.append("--quick")
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
