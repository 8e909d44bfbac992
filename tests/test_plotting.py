"""What is drawn is what hand-made runs hold; the same runs give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from matplotlib.axes import Axes
from PIL import Image

from rlkit.cli.plot import plot
from rlkit.envs.returns import possible_returns
from rlkit.errors import UserError
from rlkit.pictures import learning_curves
from rlkit.pictures.learning_curves import draw, figure
from rlkit.runs.curves import groups
from rlkit.runs.observers import METRICS
from rlkit.runs.run_directory import RunDirectory

Make = Callable[..., RunDirectory]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a run from its evaluations, {step: mean return}; a step takes a millisecond."""
    made = 0

    def run(
        evaluations: Mapping[int, float],
        *,
        seed: int = 0,
        env: str = "CartPole-v1",
        agent: str = "dqn",
        status: str = "finished",
        metrics: Sequence[Mapping[str, Any]] = (),
        **config: Any,
    ) -> RunDirectory:
        nonlocal made
        made += 1
        path = tmp_path / "runs" / f"{made}"
        path.mkdir(parents=True)
        info = {"format": 1, "agent": agent, "env": env, "seed": seed, "status": status}
        (path / "run.json").write_text(json.dumps(info))
        (path / "config.toml").write_text(tomli_w.dumps({"agent": agent, "env": env, "seed": seed, **config}))
        rows = [f"{step},{mean},{mean} {mean}\n" for step, mean in evaluations.items()]
        (path / "evaluations.csv").write_text("step,mean,returns\n" + "".join(rows))
        (path / "timing.csv").write_text("step,seconds\n" + "".join(f"{s},{s / 1000}\n" for s in evaluations))
        lines = [",".join(str(row.get(name, "")) for name in METRICS) + "\n" for row in metrics]
        (path / "metrics.csv").write_text(",".join(METRICS) + "\n" + "".join(lines))
        return RunDirectory(path)

    return run


def lines(panel: Axes, width: float) -> list[tuple[list[float], list[float]]]:
    """The x and y of a panel's lines of a width."""
    found = [line for line in panel.get_lines() if line.get_linewidth() == width]
    return [(np.asarray(f.get_xdata()).tolist(), np.asarray(f.get_ydata()).tolist()) for f in found]


def legend(drawn: Any) -> list[str]:
    return [text.get_text() for text in drawn.legends[0].get_texts()]


def test_one_run_is_one_line(make: Make) -> None:
    drawn = figure([make({10: 1.0, 20: 3.0}, seed=4)])
    (panel,) = drawn.axes
    assert lines(panel, 2) == [([10, 20], [1, 3])]
    assert lines(panel, 0.7) == []
    assert legend(drawn) == ["dqn, seed 4"]
    assert panel.get_xlabel() == "env steps"
    assert panel.get_title(loc="left") == "CartPole-v1"


def test_the_mean_interpolates_over_what_all_seeds_cover(make: Make) -> None:
    drawn = figure([make({10: 0.0, 30: 20.0}, seed=0), make({20: 30.0, 40: 50.0}, seed=1)])
    (panel,) = drawn.axes
    # At 20 the first is 10 and the second 30; at 30 they are 20 and 40.
    assert lines(panel, 2) == [([20, 30], [20, 30])]
    assert lines(panel, 0.7) == [([10, 30], [0, 20]), ([20, 40], [30, 50])]
    assert not panel.collections, "two seeds have no band"
    assert legend(drawn) == ["dqn, mean of 2 seeds"]


def test_the_band_is_students_interval(make: Make) -> None:
    drawn = figure([make({10: y, 20: 5.0}, seed=s) for s, y in enumerate([1.0, 2.0, 3.0])])
    (panel,) = drawn.axes
    # Three seeds: mean 2, s = 1, t(0.975, 2) = 4.303, 4.303 / sqrt(3) = 2.484; at 20 all agree.
    extent = panel.collections[0].get_datalim(panel.transData)
    assert (extent.ymin, extent.ymax) == pytest.approx((2 - 2.484, 5.0), abs=0.03)
    assert legend(drawn) == ["dqn, mean of 3 seeds", "95% interval of the mean"]


def test_band_and_axis_end_where_returns_are_known_to(make: Make) -> None:
    runs = [make({10: y, 20: y, 30: 500.0}, seed=s) for s, y in enumerate([400.0, 500.0, 500.0])]
    (band,) = figure(runs, returns=possible_returns).axes
    # Mean 466.7, s = 57.7, 2.484 s = 143.4: 323.2 to 610.1, and no episode of CartPole-v1 has more than 500 steps.
    extent = band.collections[0].get_datalim(band.transData)
    assert (extent.ymin, extent.ymax) == pytest.approx((323.2, 500.0), abs=0.1)
    assert band.get_ylim() == pytest.approx((395.0, 500.0))
    (group,) = groups(runs, returns=possible_returns)
    assert (group.low[-1], group.high[-1], group.possible) == (500.0, 500.0, (1.0, 500.0))
    unknown = figure([make({10: y}, seed=s, env="none/Unknown-v0") for s, y in enumerate([400.0, 500.0, 500.0])])
    extent = unknown.axes[0].collections[0].get_datalim(unknown.axes[0].transData)
    assert (extent.ymin, extent.ymax) == pytest.approx((323.2, 610.1), abs=0.1)


def test_what_the_command_draws_of_cartpole_ends_at_500(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, y in enumerate([400.0, 500.0, 500.0]):
        make({10: y, 20: y}, seed=seed, env_args={})
    drawn: list[Any] = []
    monkeypatch.setattr(learning_curves, "save_figure", lambda what, _: drawn.append(what))
    plot.main([str(tmp_path / "runs"), "--all", "--to", str(tmp_path / "a.png")], standalone_mode=False)
    (panel,) = drawn[0].axes
    assert panel.collections[0].get_datalim(panel.transData).ymax == 500
    assert panel.get_ylim()[1] == 500


def test_a_regret_is_never_drawn_below_0_and_an_accuracy_never_above_1(make: Make) -> None:
    for column, values, ends in (("regret", (0.0, 0.1, 0.8), (0.0, np.inf)), ("accuracy", (0.9, 1.0, 1.0), (0, 1))):
        runs = []
        for seed, value in enumerate(values):
            run = make({}, seed=seed)
            (run.path / "evaluations.csv").write_text(f"step,{column}\n10,{value}\n20,{value}\n")
            runs.append(run)
        y = "regret" if column == "regret" else "test_accuracy"
        (panel,) = figure(runs, y=y).axes
        extent = panel.collections[0].get_datalim(panel.transData)
        assert ends[0] <= extent.ymin < extent.ymax <= ends[1]
        assert ends[0] <= panel.get_ylim()[0] < panel.get_ylim()[1] <= ends[1]


def test_a_value_beyond_what_should_be_possible_is_drawn(make: Make) -> None:
    (panel,) = figure([make({10: 505.0, 20: 600.0}, seed=s) for s in range(3)], returns=possible_returns).axes
    assert panel.get_ylim()[1] == 600
    (panel,) = figure([make({10: 1.0}, env="none/Unknown-v0")], returns=lambda *_: (1.0, 1.0)).axes
    assert panel.get_ylim() == (1, 2)


def test_a_solved_run_counts_with_its_last_value(make: Make) -> None:
    drawn = figure([make({10: 0.0, 20: 480.0}, status="solved"), make({10: 0.0, 20: 20.0, 30: 40.0}, seed=1)])
    (panel,) = drawn.axes
    assert lines(panel, 2) == [([10, 20], [0, 250]), ([20, 30], [250, 260])]
    solid, dashed = (line for line in panel.get_lines() if line.get_linewidth() == 2)
    assert (solid.is_dashed(), dashed.is_dashed()) == (False, True)
    assert legend(drawn)[-1] == "mean with solved seeds at their last value"


def test_a_run_that_ended_otherwise_ends_the_mean(make: Make) -> None:
    drawn = figure([make({10: 0.0, 20: 480.0}, status="failed"), make({10: 0.0, 20: 20.0, 30: 40.0}, seed=1)])
    assert lines(drawn.axes[0], 2) == [([10, 20], [0, 250])]


def test_a_loss_is_not_held(make: Make) -> None:
    rows = [{"step": s, "loss": s / 10} for s in (10, 20, 30)]
    runs = [make({10: 1.0}, status="solved", metrics=rows[:2]), make({10: 1.0}, seed=1, metrics=rows)]
    assert lines(figure(runs, y="loss").axes[0], 2) == [([10, 20], [1, 2])]


def test_seeds_without_a_common_range_have_their_lines(make: Make) -> None:
    (panel,) = figure([make({10: 1.0, 20: 2.0}), make({30: 3.0, 40: 4.0}, seed=1)]).axes
    assert lines(panel, 2) == []
    assert len(lines(panel, 0.7)) == 2


def test_many_seeds_have_no_thin_lines(make: Make) -> None:
    (panel,) = figure([make({10: 1.0, 20: 2.0}, seed=s) for s in range(11)]).axes
    assert lines(panel, 0.7) == []


def test_groups_are_told_apart_by_what_differs(make: Make) -> None:
    runs = [
        make({10: 1.0}, seed=s, double=double, gamma=0.9, steps=100 * s, hidden=[64, 64])
        for double in (True, False)
        for s in range(2)
    ]
    runs.append(make({10: 3.0}, agent="sarsa", double=True))
    assert [(g.label, list(g.curves)) for g in groups(runs)] == [
        ("dqn double=true", [0, 1]),
        ("dqn double=false", [0, 1]),
        ("sarsa", [0]),
    ]
    panel = figure(runs).axes[0]
    assert len({line.get_color() for line in panel.get_lines() if line.get_linewidth() == 2}) == 3


def test_labels_stay_short_and_different(make: Make) -> None:
    runs = [make({10: 1.0}, a=i, b=i, c=i, d=d, e=d) for i, d in ((0, 0), (1, 0), (1, 1))]
    assert [g.label for g in groups(runs)] == [
        "dqn a=0, b=0, c=0, 2 more",
        "dqn a=1, b=1, c=1, 2 more",
        "dqn a=1, b=1, c=1, 2 more (2)",
    ]


def test_of_two_runs_with_one_seed_the_later_counts(make: Make) -> None:
    (group,) = groups([make({10: 1.0}), make({10: 5.0})])
    assert group.mean.y.tolist() == [5]


@pytest.mark.parametrize("status", ["failed", "interrupted", "running", "created"])
def test_a_retry_that_did_not_come_to_its_end_does_not_hide_the_run_that_did(make: Make, status: str) -> None:
    first = make({1: 10.0, 2: 20.0, 3: 30.0}, seed=0)
    done = make({1: 30.0, 2: 40.0, 3: 50.0}, seed=1)
    retry = make({1: 500.0}, seed=1, status=status)
    for order in ([first, done, retry], [retry, first, done]):
        said: list[str] = []
        (group,) = groups(order, say=said.append)
        assert (group.mean.x.tolist(), group.mean.y.tolist()) == ([1, 2, 3], [20, 30, 40])
        (text,) = said
        assert text.startswith(f"seed 1: {retry.path}, ")
        assert text.endswith(f", is left out for {done.path}, finished")
    (group,) = groups([retry, make({1: 7.0}, seed=1, status="failed")])
    assert group.mean.y.tolist() == [7], "of two that did not, the later"


def test_each_env_has_a_panel_and_an_agent_one_colour(make: Make) -> None:
    envs = ("CartPole-v1", "Acrobot-v1", "none/Unknown-v0")
    drawn = figure([make({10: 1.0, 20: 2.0}, env=env) for env in envs])
    assert [panel.get_title(loc="left") for panel in drawn.axes] == list(envs)
    assert len({lines[0].get_color() for panel in drawn.axes if (lines := panel.get_lines())}) == 1
    assert legend(drawn) == ["dqn, seed 0"]
    thresholds = [[text.get_text() for text in panel.texts] for panel in drawn.axes]
    assert thresholds == [["solved\nat 475"], ["solved\nat -100"], []]


def test_the_threshold_is_for_returns_alone(make: Make) -> None:
    run = make({10: 1.0}, metrics=[{"step": 10, "loss": 0.5, "episode_return": 9.0}])
    assert not figure([run], y="loss").axes[0].texts
    assert figure([run], y="episode_return").axes[0].texts


def test_seconds_come_from_the_timing(make: Make) -> None:
    (panel,) = figure([make({1000: 1.0, 3000: 2.0})], x="seconds").axes
    assert lines(panel, 2) == [([1, 3], [1, 2])]
    assert panel.get_xlabel() == "training time (s)"


def test_empty_cells_and_a_line_being_written_are_left_out(make: Make) -> None:
    run = make({10: 1.0}, metrics=[{"step": 10}, {"step": 20, "q": 2.0}, {"step": 30, "q": "inf"}])
    with (run.path / "metrics.csv").open("a") as file:
        file.write("40,1,2.0,3.0,4.0,5.0,6.")
    assert lines(figure([run], y="q").axes[0], 2) == [([20], [2])]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_runs_give_the_same_bytes(make: Make, tmp_path: Path, kind: str) -> None:
    runs = [make({10: 1.0 * s, 2000: 400.0 + s}, seed=s) for s in range(3)]
    one = draw(runs, tmp_path / f"one.{kind}", title="A title")
    two = draw(runs, tmp_path / f"two.{kind}", title="A title")
    assert one.read_bytes() == two.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"runs", one.name, two.name}
    if kind == "png":
        with Image.open(one) as image:
            assert image.size == (800, 400)
    else:
        assert one.read_text().startswith("<?xml")


def test_settings_of_the_user_do_not_change_the_picture(make: Make, tmp_path: Path) -> None:
    import matplotlib as mpl

    runs = [make({10: 1.0, 20: 2.0})]
    draw(runs, tmp_path / "one.svg")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "none"}):
        draw(runs, tmp_path / "two.svg")
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_large_steps_have_thousands_separators(make: Make) -> None:
    (panel,) = figure([make({250_000: 1.0, 1_000_000: 2.0})]).axes
    assert panel.xaxis.get_major_formatter()(500_000) == "500,000"
    assert panel.xaxis.get_major_formatter()(0.1 + 0.2) == "0.3"


def test_mistakes(make: Make, tmp_path: Path) -> None:
    run = make({10: 1.0})
    with pytest.raises(UserError, match="unknown y 'los': did you mean 'loss'"):
        draw([run], tmp_path / "a.png", y="los")
    with pytest.raises(UserError, match="unknown x 'second': did you mean 'seconds'"):
        draw([run], tmp_path / "a.png", x="second")
    with pytest.raises(UserError, match=r"a\.pdf must end in \.png or \.svg"):
        draw([run], tmp_path / "a.pdf")
    with pytest.raises(UserError, match="No such file or directory"):
        draw([run], tmp_path / "none" / "at" / "a.png")
    with pytest.raises(UserError, match="there is no run to plot"):
        draw([], tmp_path / "a.png")
    (run.path / "evaluations.csv").write_text("step,mean,returns\n10,many,1\n")
    with pytest.raises(UserError, match=r"evaluations\.csv cannot be read"):
        draw([run], tmp_path / "a.png")
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}


def test_runs_without_values(make: Make) -> None:
    empty = make({})
    with pytest.raises(UserError, match=r"runs/1 has no evaluation yet"):
        figure([empty])
    (empty.path / "evaluations.csv").unlink()
    with pytest.raises(UserError, match="the 2 runs have no evaluation yet"):
        figure([empty, make({}, seed=1)])
    with pytest.raises(UserError, match="no loss yet"):
        figure([empty], y="loss")
    (group,) = groups([empty, make({10: 1.0}, seed=2)])
    assert list(group.curves) == [2]


def test_a_failing_write_leaves_no_file(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"a\.png cannot be written: No space left on device"):
        draw([make({10: 1.0})], tmp_path / "a.png")
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}
