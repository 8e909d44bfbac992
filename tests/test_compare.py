"""`rlkit compare`: errors, regret and optimal actions against values worked by hand, and the tables of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

import rlkit
from rlkit.api import agent_run, catalogue, comparison
from rlkit.api.comparison import Judge
from rlkit.cli.compare import table, text
from rlkit.cli.solve import duration
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.pictures import learning_curves
from rlkit.runs.curves import Curve
from rlkit.runs.run_directory import RunDirectory, create

SOLVERS = [name for name in catalogue.SOLVERS if name != "backward-induction"]


Command = Callable[..., Any]


def fork(**rest: Any) -> FiniteMDP:
    """Three states and an end: from 0, action 0 leads to 1 and action 1 to 2; then 5, or 3 by action 1, and the end.

    In state 2 action 0 stays there for nothing, and action 1 ends with 1.
    """
    p, r = np.zeros((4, 2, 4)), np.zeros((4, 2))
    p[0, 0, 1] = p[0, 1, 2] = p[1, 0, 3] = p[1, 1, 3] = p[2, 0, 2] = p[2, 1, 3] = 1
    p[3, :, 3] = 1
    r[1], r[2, 1] = (5, 3), 1
    return FiniteMDP.from_dense(p, r, terminal=[False, False, False, True], **rest)


def finished(root: Path, agent: str, seed: int, evaluations: str | None = None) -> RunDirectory:
    """A run that ended, with the text of its evaluations.csv."""
    made = create(root, agent, "FrozenLake-v1", seed, {"env": "FrozenLake-v1", "gamma": 0.9})
    made.update(status="finished", step=2000, seconds=12.5)
    if evaluations is not None:
        (made.path / "evaluations.csv").write_text(evaluations)
    return made


# ---- measures


def test_the_error_is_the_largest_distance_of_values() -> None:
    judge = Judge(fork())
    assert judge.reference(1.0).values.tolist() == [5, 5, 1, 0]
    assert judge.error(np.array([5.0, 4.5, 3.0, 0.0]), 1.0) == pytest.approx(2.0)
    assert judge.error(judge.reference(1.0).values, 1.0) == 0


@pytest.mark.parametrize(
    ("policy", "regret", "optimal"),
    [
        ([0, 0, 1, 0], 0.0, 1.0),
        ([0, 1, 1, 0], 2.0, 2 / 3),
        ([1, 0, 1, 0], 4.0, 2 / 3),
        # To stay in state 2 costs nothing: once it is optimal, for ever it is not.
        ([0, 0, 0, 0], 0.0, 1.0),
        ([1, 1, 0, 0], 5.0, 1 / 3),
    ],
)
def test_the_regret_is_what_a_policy_loses_at_the_start(policy: list[int], regret: float, optimal: float) -> None:
    judge = Judge(fork())
    assert judge.regret(np.array(policy), 1.0) == pytest.approx(regret)
    assert judge.optimal(np.array(policy), 1.0) == pytest.approx(optimal)


def test_the_regret_averages_over_the_start() -> None:
    judge = Judge(fork(start=[0.5, 0.25, 0.25, 0]))
    assert judge.regret(np.array([1, 1, 1, 0]), 1.0) == pytest.approx(0.5 * 4 + 0.25 * 2)


def test_each_discount_has_its_own_reference() -> None:
    judge = Judge(fork())
    assert judge.reference(0.5).value_at_start == pytest.approx(2.5)
    assert judge.regret(np.array([1, 0, 1, 0]), 0.5) == pytest.approx(2.0)
    assert sorted(judge.references) == [0.5, 1.0]


def test_a_policy_that_pays_for_ever_has_infinite_regret() -> None:
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[0, 1, 1] = p[1, :, 1] = 1
    mdp = FiniteMDP.from_dense(p, [[-1, -1], [0, 0]], terminal=[False, True])
    assert Judge(mdp).regret(np.array([0, 0]), 1.0) == math.inf


# ---- solvers


def test_every_solver_that_applies_is_compared_without_names() -> None:
    result = rlkit.compare("FrozenLake-v1", gamma=0.95)
    assert [row.name for row in result.rows] == SOLVERS
    assert list(result.skipped) == ["backward-induction"]
    best = result.references[0.95]
    assert best.value_at_start == pytest.approx(0.180471578397, abs=1e-9)
    assert best.bound <= 1e-9
    for row in result.rows:
        assert row.error <= 1e-6 + best.bound
        assert row.regret == 0
        assert row.optimal == 1
        assert row.work > 0
        assert row.seconds > 0
        assert row.kind == "solver"
    assert result.rows[0].taken == "value-iteration"


def test_models_and_envs_are_compared_too() -> None:
    result = rlkit.compare(fork(), ["policy-iteration", "linear-programming"])
    assert [row.value_at_start for row in result.rows] == pytest.approx([5, 5])
    assert result.problem == "a model of 4 states"
    with gymnasium.make("FrozenLake-v1", is_slippery=False) as env:
        (row,) = rlkit.compare(env, ["value-iteration"], gamma=0.9).rows
    assert row.value_at_start == pytest.approx(0.9**5)


def test_a_solver_that_does_not_converge_says_so() -> None:
    mdp = FiniteMDP.from_env("FrozenLake-v1", gamma=0.99999)
    row = comparison.solver_row(Judge(mdp), "q-iteration", tolerance=1e-15)
    assert row.note == "not converged"


def test_a_slow_solver_is_left_out_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(comparison.SLOW, "linear-programming", 3)
    result = rlkit.compare(fork())
    assert "slow for more than 3 states" in result.skipped["linear-programming"]
    assert rlkit.compare(fork(), ["linear-programming"]).rows[0].error <= 1e-9


def test_errors_fall_with_the_iterations() -> None:
    result = rlkit.compare("FrozenLake-v1", ["auto", "value-iteration", "policy-iteration"], gamma=0.9)
    errors = result.errors()
    assert list(errors) == ["value-iteration", "policy-iteration"]  # auto is one of them
    for row in result.rows[1:]:
        curve = errors[row.name]
        assert curve.x[-1] == row.work
        assert curve.y[-1] == pytest.approx(row.error)
        assert curve.y[0] > 100 * curve.y[-1]
    assert result.regrets() == {}


# ---- the command


def test_the_table_has_a_line_a_solver(rl: Command) -> None:
    said = rl("compare", "--env", "FrozenLake-v1", "--gamma", "0.95", "value-iteration", "policy-iteration")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("FrozenLake-v1, gamma 0.95: optimal value at the start 0.180471578")
    assert lines[2].split()[-1] == "time"
    assert [line.split()[0] for line in lines[3:]] == ["value-iteration", "policy-iteration"]
    assert all("0.180472" in line and "100.0%" in line for line in lines[3:])
    assert len({len(line) for line in lines[2:]}) == 1


def test_json_is_one_object(rl: Command) -> None:
    said = rl("compare", "--env", "FrozenLake-v1", "--no-is-slippery", "--json", "policy-iteration")
    found = json.loads(said.out)
    assert said.out.count("\n") == 1
    assert found["problem"] == "FrozenLake-v1 (is_slippery=False)"
    assert found["optimum"][0]["value_at_start"] == 1
    (row,) = found["rows"]
    assert row["name"] == "policy-iteration"
    assert row["regret"] == 0
    assert row["optimal"] == 1
    assert row["iterations"] >= 1
    assert "samples" not in row


def test_what_is_infinite_is_null_in_json() -> None:
    row = comparison.Row("a", "learner", 1.0, math.nan, 1.0, math.inf, 0.5, 7, 0.1)
    found = row.to_dict()
    assert found["value_at_start"] is None
    assert found["regret"] is None
    assert found["samples"] == 7
    json.dumps(found, allow_nan=False)


def test_a_triangle_has_its_short_form(rl: Command) -> None:
    Path("hand.txt").write_text("1\n1 2\n1 2 1\n")
    said = rl("compare", "--triangle", "hand.txt", "--slip", "0.25", "--json")
    found = json.loads(said.out)
    assert found["optimum"][0]["value_at_start"] == 4.5
    assert [row["name"] for row in found["rows"]] == list(catalogue.SOLVERS)
    assert all(row["value_at_start"] == pytest.approx(4.5) and row["regret"] == 0 for row in found["rows"])


def test_the_picture_is_drawn(rl: Command) -> None:
    said = rl("compare", "--env", "FrozenLake-v1", "--gamma", "0.9", "--picture", "errors.png")
    assert said.out.splitlines()[-1] == "errors.png"
    with Image.open("errors.png") as picture:
        assert picture.size == (500, 400)


def test_a_picture_has_a_panel_for_solvers_and_one_for_learners(tmp_path: Path) -> None:
    errors = {"value-iteration": Curve(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.1, 0.0]))}
    regrets = {"q-learning": Curve(np.array([100.0, 200.0]), np.array([math.inf, 0.5]))}
    path = learning_curves.convergence(errors, regrets, tmp_path / "both.svg", title="both")
    drawn = path.read_text()
    assert "iterations" in drawn
    assert "env steps" in drawn
    assert (
        path.read_bytes()
        == learning_curves.convergence(errors, regrets, tmp_path / "again.svg", title="both").read_bytes()
    )


WRONG = {
    "compare": "no problem is given: name an env with --env",
    "compare value-iteration": "value-iteration needs a problem: name an env with --env, such as FrozenLake-v1",
    "compare dqn": "dqn needs a problem",
    "compare valu-iteration": "unknown solver, agent or run 'valu-iteration': did you mean 'value-iteration'",
    "compare dqm --env FrozenLake-v1": "unknown solver, agent or run 'dqm': did you mean 'dqn'?",
    "compare --env CartPole-v1": "env 'CartPole-v1' has no model to plan with",
    "compare --env FrozenLak-v1": "unknown env 'FrozenLak-v1'",
    "compare --env FrozenLake-v1 --mdp a.npz": "--mdp and --env exclude each other",
    "compare --env FrozenLake-v1 backward-induction": "backward-induction needs an end to count back from",
    "compare --env FrozenLake-v1 --picture a.gif": "a.gif must end in .png or .svg",
    "compare --env FrozenLake-v1 --steps 0": "--steps is 0, expected at least 1",
    "compare . --picture a.png": "--picture needs a problem",
    "compare .": ". is not a run",
}


@pytest.mark.parametrize(("line", "told"), WRONG.items())
def test_a_mistake_ends_in_one_sentence(line: str, told: str, rl: Command, tmp_path: Path) -> None:
    said = rl(*line.split())
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("rlkit: " + told)
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# ---- finished runs


def test_finished_runs_are_one_table(rl: Command, tmp_path: Path) -> None:
    csv = "step,episodes,mean,std,low,high,regret\n1000,20,0.5,0,0,0,0.25\n2000,20,0.25,0,0,0,0.125\n"
    first, second = finished(tmp_path / "runs", "dqn", 0, csv), finished(tmp_path / "runs", "dqn", 1)
    said = rl("compare", first.path, second.path)
    lines = said.out.splitlines()
    assert lines[0].split() == ["env", "agent", "seed", "steps", "status", "best", "return", "last", "return",
                                "regret", "seconds"]  # fmt: skip
    assert lines[1].split() == ["FrozenLake-v1", "dqn", "0", "2,000", "finished", "0.5", "0.25", "0.125", "12.5"]
    assert lines[2].split() == ["FrozenLake-v1", "dqn", "1", "2,000", "finished", "-", "-", "-", "12.5"]
    assert lines[3:] == [str(first.path), str(second.path)], "nothing of seeds: one alone has a return"
    found = json.loads(rl("compare", "runs", "--all", "--json").out)["runs"]
    assert [row["run"] for row in found] == [
        "runs/" + str(r.path.relative_to(tmp_path / "runs")) for r in (first, second)
    ]
    assert found[0]["regret"] == 0.125
    assert found[1]["regret"] is None


def test_the_best_return_is_that_of_the_agent_that_training_reports(tmp_path: Path) -> None:
    csv = "step,mean,regret,returns,confirmation\n1000,0.9,,,0.1\n2000,0.7,,,\n3000,0.6,,,\n"
    made = finished(tmp_path, "dqn", 0, csv)
    # Of step 1000 the confirmation leaves (0.9 + 0.1) / 2.
    assert catalogue.run_summary(made)["best_return"] == 0.7
    (made.checkpoints / "best").mkdir(parents=True)
    (made.checkpoints / "best" / "ckpt-1000.index").touch()
    assert catalogue.run_summary(made)["best_return"] == 0.5, "of the agent that was kept"
    found = {"checkpoint": "best", "step": 1000, "mean": 0.62, "epsilon": 0.0}
    for told, expected in (({}, 0.62), ({"step": 3000}, 0.5), ({"epsilon": 0.1}, 0.5)):
        (made.path / "evaluation.json").write_text(json.dumps(found | told))
        assert catalogue.run_summary(made)["best_return"] == expected
    assert catalogue.run_summary(made)["last_return"] == 0.6


def test_several_seeds_have_a_mean_and_students_interval(rl: Command, tmp_path: Path) -> None:
    for seed, mean in enumerate((0.1, 0.2, 0.3)):
        finished(tmp_path / "runs", "dqn", seed, f"step,mean\n1000,{mean}\n2000,0.0\n")
    finished(tmp_path / "runs", "sarsa", 0, "step,mean\n1000,0.5\n")
    # s = 0.1, t(0.975, 2) = 4.303 (Student's table), 4.303 0.1 / sqrt(3) = 0.248.
    said = rl("compare", "runs", "--all").out.splitlines()
    assert said[-1] == (
        "FrozenLake-v1, dqn, 3 seeds, best return: "
        "mean 0.200 (95% interval -0.048 to 0.448), lowest 0.100, highest 0.300"
    )
    assert sum("seeds" in text for text in said) == 1
    (found,) = json.loads(rl("compare", "runs", "--all", "--json").out)["seeds"]
    assert (found["env"], found["agent"], found["seeds"]) == ("FrozenLake-v1", "dqn", [0, 1, 2])
    assert found["best_return"]["values"] == [0.1, 0.2, 0.3]
    assert found["best_return"]["interval"] == pytest.approx([-0.0484, 0.4484], abs=1e-4)


def test_a_folder_is_its_newest_run_and_none_stands_there_twice(rl: Command, tmp_path: Path) -> None:
    for made in (finished(tmp_path / "runs", "dqn", seed) for seed in (0, 1)):
        made.checkpoints.mkdir(exist_ok=True)
        (made.checkpoints / "ckpt-2000.index").touch()
    assert [row["seed"] for row in json.loads(rl("compare", "runs", "--json").out)["runs"]] == [1]  # the newest
    assert len(json.loads(rl("compare", made.path, made.path, "--json").out)["runs"]) == 1


@pytest.mark.parametrize(
    ("value", "cell"), [(None, "-"), (0.25, "0.25"), (1234.56, "1,234.6"), (20000, "20,000"), ("dqn", "dqn")]
)
def test_cells_are_short(value: object, cell: str) -> None:
    assert text(value) == cell


def test_columns_stand_under_their_heads() -> None:
    assert table(["name", "n"], [["a", "10"], ["long one", "2"]]) == "name       n\na         10\nlong one   2"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.00123, "1.2 ms"), (0.05, "50 ms"), (2.0, "2.00 s"), (125.0, "125.00 s")]
)
def test_times_have_the_unit_that_fits(seconds: float, told: str) -> None:
    assert duration(seconds) == told


# ---- learners


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, comparison.Comparison]:
    """A DQN that has hardly learned, beside a solver."""
    folder = tmp_path_factory.mktemp("runs")
    result = rlkit.compare(
        "FrozenLake-v1", ["value-iteration", "dqn"], steps=300, seed=1, run_dir=folder, is_slippery=False
    )
    return folder, result


def test_a_learner_is_measured_by_the_same_model(learned: tuple[Path, comparison.Comparison]) -> None:
    folder, result = learned
    solver, learner = result.rows
    assert (solver.kind, learner.kind) == ("solver", "learner")
    assert solver.gamma == learner.gamma == 0.99  # the agent's default, as no other was given
    assert learner.work == 300
    run = rlkit.load(folder)
    assert learner.run == str(run.path)
    assert isinstance(run, rlkit.Run)
    assert run.config.seed == 1
    assert run.config.env_args == {"is_slippery": False}
    q = comparison.action_values(run, 16)
    assert q.shape == (16, 4)
    policy, _ = run.policy(16, "last")
    assert policy(np.arange(16)).tolist() == q.argmax(axis=1).tolist()
    values = np.where(result.judge.mdp.terminal, 0, q.max(axis=1))
    assert learner.error == pytest.approx(np.abs(values - result.references[0.99].values).max())
    walked = result.judge.mdp.policy_values(q.argmax(axis=1))[0]
    assert learner.regret == pytest.approx(0.99**5 - walked, abs=1e-9)


def test_a_run_is_measured_again_by_its_path(learned: tuple[Path, comparison.Comparison]) -> None:
    folder, result = learned
    again = rlkit.compare("FrozenLake-v1", [str(folder)], is_slippery=False)
    (row,) = again.rows
    assert row.name.startswith("dqn ")
    assert (row.error, row.regret, row.optimal) == (result.rows[1].error, result.rows[1].regret, result.rows[1].optimal)
    assert list(again.references) == [0.99]


def test_a_run_of_another_env_is_refused(learned: tuple[Path, comparison.Comparison]) -> None:
    with pytest.raises(UserError, match="is of FrozenLake-v1 is_slippery=False, not of FrozenLake-v1: compare it on"):
        rlkit.compare("FrozenLake-v1", [str(learned[0])])
    with pytest.raises(UserError, match="dqn learns on an env by its id"):
        rlkit.compare(fork(), ["dqn"])


def test_a_run_that_does_not_see_the_state_is_refused(learned: tuple[Path, comparison.Comparison]) -> None:
    with pytest.raises(UserError, match=r"observes Discrete\(16\), expected the state, Discrete\(17\)"):
        comparison.action_values(agent_run.load(learned[0]), 17)


# ---- a random triangle


def test_the_same_seed_is_the_same_triangle_in_both_commands(rl: Command) -> None:
    solved = json.loads(rl("solve", "--rows", 5, "--seed", 3, "--json").out)["value_at_start"]
    for words in (("--seed", 3), ("--triangle-seed", 3), ("--seed", 1, "--triangle-seed", 3)):
        found = json.loads(rl("compare", "auto", "--rows", 5, *words, "--json").out)
        assert found["optimum"][0]["value_at_start"] == solved
    assert json.loads(rl("solve", "--rows", 5, "--triangle-seed", 3, "--json").out)["value_at_start"] == solved
    assert json.loads(rl("solve", "--rows", 5, "--json").out)["value_at_start"] != solved


# ---- tabular learners


def test_learners_come_near_the_solution_and_record_their_regret(rl: Command) -> None:
    """Layered: 1,000 trials of pairs with deviation 0.43, at most 2 layers: within 0.15 is over 5 standard errors."""
    Path("hand.txt").write_text("1\n1 2\n1 2 1\n")
    names = ["auto", "layered-q-iteration", "monte-carlo", "q-learning", "double-q-learning"]
    result = rlkit.compare("rlkit/NumberTriangle-v0", names, gamma=1.0, steps=40_000, triangle="hand.txt", slip=0.25)
    assert [row.name for row in result.rows] == names
    assert result.rows[1].error < 0.15
    for row in result.rows[1:]:
        assert row.value_at_start == pytest.approx(4.5, abs=0.6)
        assert row.regret == 0
        assert row.optimal == 1
    regrets = result.regrets()
    assert list(regrets) == names[1:]
    assert len(regrets["q-learning"].x) == 20
    assert regrets["q-learning"].y[-1] == 0
