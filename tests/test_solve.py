"""`rlkit solve` and rlkit.solve: answers that others have published, what people see, and what is refused."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from PIL import Image

import rlkit
from rlkit.agents.planning.planners import PLANNERS
from rlkit.api import catalogue, solution_pictures, solving
from rlkit.cli import cli
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import NotConvergedError
from rlkit.pictures import terminal

HAND = "1\n1 2\n1 2 1\n"


Command = Callable[..., Any]


def backups(env: str, gamma: float, sweeps: int, **env_args: Any) -> dict[int, float]:
    """Value iteration in plain Python over Gymnasium's table, as slow as it is simple."""
    table: dict[int, Any] = gymnasium.make(env, **env_args).unwrapped.P  # type: ignore[attr-defined]
    values = dict.fromkeys(table, 0.0)
    for _ in range(sweeps):
        values = {
            s: max(sum(p * (r + gamma * values[to] * (not end)) for p, to, r, end in ways) for ways in actions.values())
            for s, actions in table.items()
        }
    return values


def answer(said: Any) -> dict[str, Any]:
    """The object of --json, after checking that there is nothing else."""
    assert said.code == 0, said.err
    assert said.err == ""
    assert said.out.count("\n") == 1
    found: dict[str, Any] = json.loads(said.out)
    return found


# ---- names


def test_the_solvers_that_are_named_are_the_planners_and_auto() -> None:
    assert list(catalogue.SOLVERS) == ["auto", *PLANNERS]


def test_the_options_that_are_named_are_those_that_planners_take() -> None:
    for name, planner in PLANNERS.items():
        takes = [p.name for p in inspect.signature(planner).parameters.values() if p.kind == p.KEYWORD_ONLY]
        assert list(catalogue.SOLVER_OPTIONS.get(name, ())) == takes


def test_list_shows_the_solvers(rl: Command) -> None:
    said = rl("list", "solvers")
    assert [line.split()[0] for line in said.out.splitlines()] == list(catalogue.SOLVERS)
    assert answer(rl("list", "solvers", "--json")) == {"solvers": catalogue.SOLVERS}


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["solve", "--help"], {"tensorflow", "keras", "numba", "scipy", "matplotlib"}),
        (["compare", "--help"], {"tensorflow", "keras", "numba", "scipy", "matplotlib"}),
        (["solve", "--help", "--env", "FrozenLake-v1"], {"tensorflow", "keras", "numba", "scipy", "matplotlib"}),
        (["list", "solvers"], {"tensorflow", "keras", "numba", "scipy", "matplotlib"}),
        (["solve", "--env", "FrozenLake-v1"], {"tensorflow", "keras", "matplotlib"}),
        (["solve", "--env", "FrozenLake-v1", "--picture", "lake.png"], {"tensorflow", "keras"}),
        (["compare", "--env", "FrozenLake-v1", "value-iteration"], {"tensorflow", "keras", "matplotlib"}),
    ],
)
def test_a_command_loads_only_what_it_needs(words: list[str], absent: set[str], tmp_path: Path) -> None:
    code = (
        "import atexit, sys\n"
        "from rlkit.cli import main\n"
        "atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr))\n"
        f"main({words!r})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    printed, _, loaded = done.stderr.rpartition("loaded ")
    assert done.returncode == 0, done.stderr
    assert printed == ""
    assert done.stdout
    assert not absent & set(loaded.split())


# ---- answers


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--env", "FrozenLake-v1"], 14 / 17),
        (["--env", "FrozenLake-v1", "--no-is-slippery"], 1.0),
        (["--env", "FrozenLake-v1", "--no-is-slippery", "--gamma", "0.9"], 0.9**5),
        (["--env", "FrozenLake-v1", "--map-name", "8x8"], 1.0),
        (["--env", "CliffWalking-v1"], -13.0),
        (["--env", "CliffWalking-v1", "--gamma", "0.99"], -(1 - 0.99**13) / 0.01),
        (["--env", "FrozenLake-v1", "--no-is-slippery", "--horizon", "5"], 0.0),
        (["--env", "FrozenLake-v1", "--no-is-slippery", "--horizon", "6"], 1.0),
    ],
)
def test_the_value_is_what_it_must_be(words: list[str], value: float, rl: Command) -> None:
    """Shortest ways are 6 and 13 steps; on the slippery lake one arrives with 14/17 if one waits for it."""
    found = answer(rl("solve", *words, "--json"))
    assert found["converged"]
    assert abs(found["value_at_start"] - value) <= found["bound"] + 1e-12 <= 1e-6 + 1e-12


@pytest.mark.parametrize("solver", [name for name in catalogue.SOLVERS if name != "backward-induction"])
def test_every_solver_agrees_with_plain_python(solver: str, rl: Command) -> None:
    values = backups("FrozenLake-v1", 0.9, 400, map_name="8x8")
    found = answer(rl("solve", solver, "--env", "FrozenLake-v1", "--map-name", "8x8", "--gamma", "0.9", "--json"))
    assert found["solver"] in (solver, "value-iteration")
    assert found["value_at_start"] == pytest.approx(values[0], abs=1e-6)
    assert len(found["policy"]) == found["states"] == 64
    assert found["seconds"] > 0


@pytest.mark.parametrize(
    "words",
    [
        "value-iteration --method jacobi",
        "value-iteration --method prioritized",
        "policy-iteration --evaluation iterative",
        "modified-policy-iteration --sweeps 3",
        "inexact-policy-iteration --forcing 0.5",
    ],
)
def test_a_planner_takes_its_own_options(words: str, rl: Command) -> None:
    found = answer(rl("solve", *words.split(), "--env", "FrozenLake-v1", "--gamma", "0.95", "--json"))
    assert found["value_at_start"] == pytest.approx(0.180471578397, abs=1e-6)


def test_python_says_the_same_as_the_command(rl: Command) -> None:
    solution = rlkit.solve("FrozenLake-v1", "value-iteration", gamma=0.99, is_slippery=True, method="jacobi")
    told = rl("solve", "value-iteration", "--env", "FrozenLake-v1", "--gamma", "0.99", "--method", "jacobi", "--json")
    found = answer(told)
    assert solution.value_at_start == found["value_at_start"]
    assert solution.policy.tolist() == found["policy"]


def test_python_takes_an_env_or_a_model() -> None:
    with gymnasium.make("FrozenLake-v1", is_slippery=False) as env:
        assert rlkit.solve(env, gamma=0.9).value_at_start == pytest.approx(0.9**5)
        model = FiniteMDP.from_env(env, gamma=0.5)
    assert rlkit.solve(model).value_at_start == pytest.approx(0.5**5)
    assert rlkit.solve(model, gamma=0.9).value_at_start == pytest.approx(0.9**5)
    assert rlkit.solve(model, horizon=3).value_at_start == 0
    assert model.gamma == 0.5
    with pytest.raises(UserError, match="'is_slippery' is no option"):
        rlkit.solve(model, is_slippery=True)


def test_a_saved_model_is_solved_with_its_own_discount_or_another(rl: Command) -> None:
    FiniteMDP.from_env("FrozenLake-v1", gamma=0.5, is_slippery=False).save("lake.npz")
    assert answer(rl("solve", "--mdp", "lake.npz", "--json"))["value_at_start"] == pytest.approx(0.5**5)
    found = answer(rl("solve", "--mdp", "lake.npz", "--gamma", "0.9", "--json"))
    assert found["value_at_start"] == pytest.approx(0.9**5)


def test_a_triangle_file_is_solved_as_by_hand(rl: Command) -> None:
    """With slip 1/4: Q(1,0) = 1.25, 1.75; Q(1,1) = 1.75, 1.25; Q(0,0) = 3, 3.5; so V = 4.5 and right; right, down."""
    Path("hand.txt").write_text(HAND)
    found = answer(rl("solve", "--triangle", "hand.txt", "--slip", "0.25", "--json"))
    assert found["value_at_start"] == 4.5
    assert found["solver"] == "backward-induction"
    assert found["policy"][:3] == [1, 1, 0]
    told = rl("solve", "--triangle", "hand.txt", "--slip", "0.25")
    assert told.out.splitlines()[-4:] == [
        "       4.50↘",
        "    2.75↘ 3.75↙",
        " 1.00  2.00  1.00",
        solution_pictures.NOTES,
    ]


def test_a_random_triangle_is_a_function_of_its_seed(rl: Command) -> None:
    first, again, other = (answer(rl("solve", "--rows", 6, "--seed", seed, "--json")) for seed in (1, 1, 2))
    assert first["value_at_start"] == again["value_at_start"] != other["value_at_start"]
    assert first["states"] == 21
    by_id = answer(rl("solve", "--env", "rlkit/NumberTriangle-v0", "--rows", 6, "--triangle-seed", 1, "--json"))
    assert by_id["value_at_start"] == first["value_at_start"]


# ---- what people see


def test_people_see_the_solver_its_reason_the_value_and_the_bound(rl: Command) -> None:
    lines = rl("solve", "--env", "FrozenLake-v1", "--no-is-slippery", "--gamma", "0.9").out.splitlines()
    assert lines[0].startswith("16 states, 4 actions, ")
    assert lines[0].endswith("gamma 0.9")
    assert lines[1] == "auto takes value-iteration: small"
    assert lines[2].startswith("value at the start 0.59049, within ")
    assert lines[2].endswith(" of the optimum, proven")
    assert lines[3].startswith("value-iteration: ")
    assert lines[5:] == [
        "0.59 ↓  0.66 →  0.73 ↓  0.66 ←",
        "0.66 ↓  0.00 ■  0.81 ↓  0.00 ■",
        "0.73 →  0.81 ↓  0.90 ↓  0.00 ■",
        "0.00 ■  0.90 →  1.00 →  0.00 ■",
    ]


def test_a_map_that_is_too_wide_says_less(rl: Command) -> None:
    lines = rl("solve", "--env", "CliffWalking-v1").out.splitlines()
    assert lines[-1] == "-13.0 ↑" + 10 * "       #" + "   0.0 ■"
    assert lines[-2].split()[:4] == ["-12.0", "→", "-11.0", "→"]
    assert max(map(len, lines)) <= 100


def test_no_map_is_shown_where_states_have_no_place(rl: Command) -> None:
    assert len(rl("solve", "--env", "Taxi-v4", "--gamma", "0.99").out.splitlines()) == 4


def test_help_shows_the_arguments_of_the_env(rl: Command) -> None:
    assert "Number triangle, in place of --env" in rl("solve", "--help").out
    told = rl("solve", "--env", "FrozenLake-v1", "--help").out
    assert "--is-slippery / --no-is-slippery" in told
    assert "Number triangle" not in told


# ---- budgets


def test_a_solver_that_does_not_converge_ends_in_a_sentence_with_its_bound(rl: Command) -> None:
    words = ("solve", "value-iteration", "--env", "FrozenLake-v1", "--gamma", "0.99", "--max-iterations", "5")
    said = rl(*words, "--json")
    assert said.code == 2
    assert said.out == ""
    assert "stopped after 5 iterations with the bound " in said.err
    assert said.err.count("\n") == 1
    with pytest.raises(NotConvergedError) as caught:
        rlkit.solve("FrozenLake-v1", "value-iteration", gamma=0.99, max_iterations=5)
    assert 1e-6 < caught.value.solution.bound < np.inf
    allowed = answer(rl(*words, "--json", "--allow-unconverged"))
    assert allowed["converged"] is False
    assert allowed["bound"] == caught.value.solution.bound
    assert allowed["iterations"] == 5
    best = backups("FrozenLake-v1", 0.99, 3000)[0]
    assert abs(allowed["value_at_start"] - best) <= allowed["bound"]
    assert "not converged: within " in rl(*words, "--allow-unconverged").out


def test_the_trace_ends_where_the_solver_does_and_never_breaks_its_bound() -> None:
    mdp = solving.model("FrozenLake-v1", gamma=0.9)
    best = np.array(list(backups("FrozenLake-v1", 0.9, 400).values()))
    points = solving.trace(mdp, "value-iteration", method="jacobi", points=20)
    counts = [point.iterations for point in points]
    assert counts == sorted(set(counts))
    assert counts[:5] == [1, 2, 3, 4, 5]
    assert len(points) <= 20
    assert points[-1].solution.converged
    for point in points:
        assert np.abs(point.solution.values - best).max() <= point.solution.bound + 1e-12
    errors = [np.abs(point.solution.values - best).max() for point in points]
    assert errors[0] > errors[len(errors) // 2] > errors[-1]


@pytest.mark.parametrize("solver", ["linear-programming", "policy-iteration", "auto"])
def test_every_solver_has_a_trace(solver: str) -> None:
    points = solving.trace(solving.model("FrozenLake-v1", gamma=0.9), solver)
    assert points[-1].solution.converged
    assert (len(points) == 1) == (solver == "linear-programming")


def test_counts_are_every_one_while_they_fit_and_then_spread() -> None:
    assert solving.spread(4, 10) == [1, 2, 3, 4]
    spread = solving.spread(1000, 10)
    assert (spread[0], spread[-1]) == (1, 1000)
    assert len(spread) <= 10
    assert spread == sorted(set(spread))


# ---- files


def test_a_solution_is_saved(rl: Command) -> None:
    said = rl("solve", "--env", "FrozenLake-v1", "--gamma", "0.9", "--save", "lake.npz")
    assert said.out.splitlines()[-1] == "lake.npz"
    with np.load("lake.npz") as file:
        assert file["q"].shape == (16, 4)
        assert file["values"] == pytest.approx(file["q"].max(axis=1), abs=1e-6)
        assert file["policy"].tolist() == file["q"].argmax(axis=1).tolist()
        assert file["bound"] <= 1e-6
        assert file["gamma"] == 0.9
        assert str(file["solver"]) == "value-iteration"


def test_pictures_have_a_frame_a_layer_or_sweep(rl: Command) -> None:
    Path("hand.txt").write_text(HAND)
    triangle = ("solve", "--triangle", "hand.txt", "--slip", "0.25")
    lake = ("solve", "value-iteration", "--env", "FrozenLake-v1", "--no-is-slippery", "--gamma", "0.9")
    for words, name in ((triangle, "triangle"), (lake, "lake")):
        for ending in (".png", ".gif"):
            said = rl(*words, "--picture", name + ending)
            assert said.out.splitlines()[-1] == name + ending, said.err
    with Image.open("triangle.gif") as film, Image.open("lake.png") as still:
        assert film.n_frames == 3  # type: ignore[attr-defined] # a gif has it
        assert min(still.size) > 200
    sweeps = answer(rl(*lake, "--json"))["iterations"]
    with Image.open("lake.gif") as film:
        assert film.n_frames == sweeps  # type: ignore[attr-defined]


def test_json_stays_alone_when_files_are_written(rl: Command) -> None:
    answer(rl("solve", "--env", "FrozenLake-v1", "--json", "--save", "a.npz", "--picture", "a.png"))
    assert Path("a.npz").stat().st_size > 0
    assert Path("a.png").stat().st_size > 0


# ---- mistakes


WRONG = {
    "solve valu-iteration --env FrozenLake-v1": "unknown solver 'valu-iteration': did you mean 'value-iteration'",
    "solve --env FrozenLak-v1": "unknown env 'FrozenLak-v1': did you mean 'FrozenLake-v1'",
    "solve": "no problem is given: name an env with --env, such as FrozenLake-v1, a file with --mdp, or a number",
    "solve --slip 0.5": "no problem is given",
    "solve --env CartPole-v1": "env 'CartPole-v1' has no model to plan with",
    "solve --env FrozenLake-v1 --sweeps 3": "auto takes no --sweeps: that is an option of modified-policy-iteration",
    "solve q-iteration --env FrozenLake-v1 --method jacobi": "q-iteration takes no --method: that is an option of",
    "solve value-iteration --env FrozenLake-v1 --method jacob": "unknown method 'jacob': did you mean 'jacobi'?",
    "solve --env FrozenLake-v1 --mdp a.npz": "--mdp and --env exclude each other",
    "solve --rows 4 --mdp a.npz": "--mdp and --rows exclude each other",
    "solve --mdp a.npz": "MDP file a.npz does not exist",
    "solve --env FrozenLake-v1 --gamma 1.5": "--gamma is 1.5, expected at least 0 and at most 1",
    "solve --env FrozenLake-v1 --tolerance 0": "--tolerance is 0, expected above 0",
    "solve --env FrozenLake-v1 --horizon 0": "--horizon is 0, expected at least 1",
    "solve --env FrozenLake-v1 --picture a.jpg": "a.jpg must end in .png or .gif",
    "solve --env FrozenLake-v1 --save a.csv": "a.csv must end in .npz",
    "solve --env FrozenLake-v1 --slip 0.5": "unknown flag '--slip'",
    "solve --env FrozenLake-v1 --gama 1": "unknown flag '--gama': did you mean '--gamma'?",
    "solve --env FrozenLake-v1 --map-name 5x5": "env 'FrozenLake-v1' cannot be made with map_name='5x5'",
    "solve backward-induction --env FrozenLake-v1": "backward-induction needs an end to count back from",
    "solve value-iteration --env FrozenLake-v1 --horizon 3": "value-iteration needs a process without a horizon",
    "solve --env Taxi-v4 --picture a.png": "env 'Taxi-v4' has no place for each state to draw it at",
    "solve --triangle missing.txt": "triangle file missing.txt does not exist",
    "solve --rows 0": "--rows is 0, expected at least 1",
    "solve --rows 4 --slip 2": "--slip is 2, expected at least 0 and at most 1",
}


@pytest.mark.parametrize(("line", "told"), WRONG.items())
def test_a_mistake_ends_in_one_sentence(line: str, told: str, rl: Command, tmp_path: Path) -> None:
    said = rl(*line.split())
    assert said.code == 2, said
    assert said.out == "" or "--picture a.png" in line
    assert said.err.startswith("rlkit: " + told)
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_episodes_that_need_not_end_need_a_discount(rl: Command) -> None:
    FiniteMDP.from_dense([[[1.0]]], [[1.0]], gamma=0.5).save("forever.npz")
    assert answer(rl("solve", "--mdp", "forever.npz", "--json"))["value_at_start"] == pytest.approx(2.0)
    said = rl("solve", "--mdp", "forever.npz", "--gamma", "1")
    assert said.code == 2
    assert "give terminal states, a gamma below 1 or a horizon" in said.err
    assert answer(rl("solve", "--mdp", "forever.npz", "--gamma", "1", "--horizon", "7", "--json"))[
        "value_at_start"
    ] == pytest.approx(7.0)


def test_a_model_cannot_be_drawn(rl: Command) -> None:
    FiniteMDP.from_dense([[[1.0]]], [[1.0]], gamma=0.5).save("forever.npz")
    said = rl("solve", "--mdp", "forever.npz", "--picture", "a.png")
    assert said.code == 2
    assert said.err.startswith("rlkit: --picture needs an env with a place for each state")


# ---- maps


def test_moves_are_read_from_the_model_also_where_steps_slip() -> None:
    lake = FiniteMDP.from_env("FrozenLake-v1", gamma=0.9, is_slippery=True)
    assert terminal.grid_moves(lake, (4, 4)) == [(0, -1), (1, 0), (0, 1), (-1, 0)]
    cliff = FiniteMDP.from_env("CliffWalking-v1", gamma=0.9, is_slippery=True)
    assert terminal.grid_moves(cliff, (4, 12)) == [(-1, 0), (0, 1), (1, 0), (0, -1)]


def test_an_action_that_stays_is_no_direction() -> None:
    mdp = FiniteMDP.from_dense(np.broadcast_to(np.eye(4)[:, None], (4, 2, 4)), np.zeros((4, 2)), gamma=0.5)
    assert terminal.grid_moves(mdp, (2, 2)) == [(0, 0), (0, 0)]


def test_only_grids_have_a_shape() -> None:
    shapes = {"FrozenLake-v1": (4, 4), "CliffWalking-v1": (4, 12), "Taxi-v4": None}
    for name, shape in shapes.items():
        with gymnasium.make(name) as env:
            assert terminal.grid_shape(env, FiniteMDP.from_env(env, gamma=0.9).states) == shape


def test_cells_that_nothing_enters_are_found() -> None:
    inside = terminal.entered(FiniteMDP.from_env("CliffWalking-v1", gamma=0.9))
    assert np.flatnonzero(~inside).tolist() == list(range(37, 47))  # the cliff sends back to the start
    assert terminal.entered(FiniteMDP.from_env("FrozenLake-v1", gamma=0.9)).all()


def test_a_pyramid_of_whole_numbers_has_no_decimals_and_a_wide_one_only_arrows() -> None:
    assert terminal.triangle_text(np.array([5.0, 3.0, 4.0]), np.array([1, 0, 0])) == "    5↘\n  3   4"
    rows = 30
    cells = rows * (rows + 1) // 2
    text = terminal.triangle_text(np.full(cells, 0.5), np.zeros(cells, int))
    assert text is not None
    assert text.splitlines()[1].strip() == "↙ ↙"
    assert terminal.triangle_text(np.zeros(60 * 61 // 2), np.zeros(60 * 61 // 2, int)) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123, "0.12"),
        (-0.001, "0.00"),
        (1234.5, "1234"),
        (-999.994, "-999.99"),
        (123456.0, "1.23e+05"),
        (np.inf, "inf"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert terminal.number(value) == text


# ---- completion


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        (["solve"], "val", ["value-iteration"]),
        (["solve"], "auto", ["auto"]),
        (["solve", "--env"], "FrozenLake-", ["FrozenLake-v1"]),
        (["solve", "--env", "FrozenLake-v1"], "--is", ["--is-slippery"]),
        (["solve", "--env", "NoSuchEnv-v0"], "--tol", ["--tolerance"]),
        (["solve", "value-iteration", "--method"], "j", ["jacobi"]),
        (["compare", "--env", "FrozenLake-v1"], "--is", ["--is-slippery"]),
        (["list"], "so", ["solvers"]),
    ],
)
def test_the_shell_completes(words: list[str], begun: str, offered: list[str]) -> None:
    found = ShellComplete(cli, {}, "rlkit", "_RLKIT_COMPLETE").get_completions(words, begun)
    assert [item.value for item in found] == offered
