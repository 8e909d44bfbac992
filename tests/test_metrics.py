"""What observers write: CSV files to the byte, TensorBoard events read back, lines of progress on stderr."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlkit.errors import UserError
from rlkit.reporting import time_text
from rlkit.runs.digests import Manifest, rows_in
from rlkit.runs.observers import METRICS, CsvFile, CsvObserver, Forecast, ProgressObserver, TensorBoardObserver, number

HEADER = "step,episode,episode_return,episode_length,loss,td_error,q,gradient_norm,updates,epsilon,learning_rate\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (math.nan, ""), (0, "0"), (12_345_678_901, "12345678901"), (1.0, "1"), (0.1, "0.1"),
        (-21.5, "-21.5"), (1e-8, "1e-08"), (1 / 3, "0.333333333"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_numbers_keep_a_float32() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert [np.float32(number(float(v))) for v in values] == values.tolist()


# ---- CSV


def test_the_files_to_the_byte(tmp_path: Path) -> None:
    observer = CsvObserver(tmp_path)
    observer.row(1000, {"episode": 40, "episode_return": None, "loss": math.nan, "epsilon": 0.905}, 1.23456)
    observer.evaluation(1000, {"mean": 6.5}, [9.0, 10.0, 0.5])
    observer.evaluation(2000, {"mean": 8.0, "regret": 0.125}, [8.0])
    observer.evaluation(3000, {"mean": 8.0, "regret": math.inf, "confirmation": 7.5}, [8.0])
    row = {
        "learning_rate": 1e-3, "epsilon": 0.05, "updates": 250, "gradient_norm": 1.5, "q": -2.25,
        "td_error": 0.125, "loss": 0.0625, "episode_length": 21.5, "episode_return": 21.5, "episode": 85,
    }  # fmt: skip
    observer.row(2000, row, 2.0)
    assert (tmp_path / "metrics.csv").read_bytes().decode() == (
        HEADER + "1000,40,,,,,,,,0.905,\n" + "2000,85,21.5,21.5,0.0625,0.125,-2.25,1.5,250,0.05,0.001\n"
    )
    assert (tmp_path / "evaluations.csv").read_bytes().decode() == (
        "step,mean,regret,returns,confirmation\n1000,6.5,,9 10 0.5,\n2000,8,0.125,8,\n3000,8,inf,8,7.5\n"
    )
    assert (tmp_path / "timing.csv").read_bytes().decode() == "step,seconds\n1000,1.235\n2000,2.000\n"
    assert ",".join(METRICS) + "\n" == HEADER


def test_a_resumed_run_goes_on_in_the_same_files(tmp_path: Path) -> None:
    for step in (1000, 2000):
        observer = CsvObserver(tmp_path)
        observer.row(step, {}, step / 1000)
        observer.evaluation(step, {"mean": 1.0}, [1.0])
    assert (tmp_path / "metrics.csv").read_text() == HEADER + "1000,,,,,,,,,,\n2000,,,,,,,,,,\n"
    assert (
        tmp_path / "evaluations.csv"
    ).read_text() == "step,mean,regret,returns,confirmation\n1000,1,,1,\n2000,1,,1,\n"


def test_a_run_of_an_earlier_version_goes_on_with_the_columns_that_its_file_has(tmp_path: Path) -> None:
    (tmp_path / "evaluations.csv").write_text("step,mean,returns\n1000,1,1\n")
    CsvObserver(tmp_path).evaluation(2000, {"mean": 2.0, "regret": 0.5, "confirmation": 3.0}, [2.0])
    assert (tmp_path / "evaluations.csv").read_text() == "step,mean,returns\n1000,1,1\n2000,2,2\n"


@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        ("step,a\n1,7\n2,8\n3,9\n", 2, "step,a\n1,7\n2,8\n"),
        ("step,a\n1,7\n2,8\n3,9\n", 3, "step,a\n1,7\n2,8\n3,9\n"),
        ("step,a\n1,7\n2,8\n3,9\n", 0, "step,a\n"),
        ("step,a\n1,7\n10,8\n9,9\n", 9, "step,a\n1,7\n9,9\n"),  # numbers, not words, are compared
        ("step,a\n1,7\n2,", 5, "step,a\n1,7\n"),  # cut short by a kill
        ("step,a\n1,7\n2", 5, "step,a\n1,7\n"),
        ("step,a\n1,7\n1", 5, "step,a\n1,7\n"),
        ("step,a\n", 5, "step,a\n"),
    ],
)
def test_cut(tmp_path: Path, before: str, step: int, after: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(before)
    CsvFile.cut(path, step)
    assert path.read_text() == after
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("torn", ["", "st", "step,a"])
def test_a_file_that_was_killed_in_its_first_line_gets_it_again(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(torn)
    CsvFile.cut(path, 0)
    CsvFile(path, ("step", "a")).write(["1", "x"])
    assert path.read_text() == "step,a\n1,x\n"


def test_cut_of_a_run_drops_later_rows_of_each_file(tmp_path: Path) -> None:
    observer = CsvObserver(tmp_path)
    for step in (1000, 2000, 3000):
        observer.row(step, {"loss": step / 1000}, step / 1000)
        observer.evaluation(step, {"mean": float(step)}, [float(step)])
    CsvObserver.cut(tmp_path, 2000)
    assert (tmp_path / "metrics.csv").read_text() == HEADER + "1000,,,,1,,,,,,\n2000,,,,2,,,,,,\n"
    assert (tmp_path / "evaluations.csv").read_text() == (
        "step,mean,regret,returns,confirmation\n1000,1000,,1000,\n2000,2000,,2000,\n"
    )
    assert (tmp_path / "timing.csv").read_text() == "step,seconds\n1000,1.000\n2000,2.000\n"


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ("", "", None),
        ("2000,0", "2000,9", "0 of its 2"),  # it can be read, and is not as it was
        ("2000,0.000\n3000,0.000\n", "", "1 of its 2"),
        ("1000,0", "1o00,0", "1 of its 2"),
        ("2000", "\x80\x00", "1 of its 2"),
        (",", ";", "2 of its 2"),
        ("\n", "", "2 of its 2"),
    ],
)
def test_rows_that_are_lost_are_told(old: str, new: str, lost: str | None, tmp_path: Path) -> None:
    observer = CsvObserver(tmp_path)
    for step in (1000, 2000):
        observer.row(step, {"loss": step / 1000}, 0.0)
    manifest = Manifest(2000, {}, rows_in(tmp_path))
    observer.row(3000, {"loss": 3.0}, 0.0)
    path = tmp_path / "timing.csv"
    path.write_text(path.read_text().replace(old, new) if old else path.read_text(), "latin-1")
    told = CsvObserver.cut(tmp_path, 2000, manifest)
    assert (tmp_path / "metrics.csv").read_text() == HEADER + "1000,,,,1,,,,,,\n2000,,,,2,,,,,,\n"
    assert told == ([f"timing.csv is damaged: {lost} rows are lost, others may be changed"] if lost else [])
    CsvObserver(tmp_path).row(3000, {}, 3.0)  # and it goes on
    text = path.read_text()
    assert text.startswith("step,seconds\n")
    assert text.endswith("3000,3.000\n")
    assert lost is not None or text == "step,seconds\n1000,0.000\n2000,0.000\n3000,3.000\n"


def test_cut_of_files_that_are_missing_does_nothing(tmp_path: Path) -> None:
    CsvObserver.cut(tmp_path, 5)
    CsvObserver.cut(tmp_path / "missing", 5)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/rows\.csv cannot be written: Not a directory"):
        CsvFile(tmp_path / "file" / "rows.csv", ("step",))


# ---- TensorBoard


def test_the_events_hold_the_same_scalars(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    observer = TensorBoardObserver(tmp_path)
    observer.row(1000, {"loss": 0.5, "epsilon": 0.905, "episode_return": None, "q": math.nan}, 1.0)
    observer.row(2000, {"loss": 0.25, "epsilon": 0.05, "episode_return": 21.5, "episode": 85}, 2.0)
    observer.evaluation(2000, {"mean": 15.0, "regret": None}, [10.0, 20.0])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()

    def scalars(tag: str) -> list[tuple[int, float]]:
        return [(e.step, float(np.float32(tf.make_ndarray(e.tensor_proto)))) for e in events.Tensors(tag)]

    read = {tag: scalars(tag) for tag in events.Tags()["tensors"] if tag != "evaluate/returns"}
    assert read == {
        "train/loss": [(1000, 0.5), (2000, 0.25)],
        "train/epsilon": [(1000, float(np.float32(0.905))), (2000, float(np.float32(0.05)))],
        "train/episode_return": [(2000, 21.5)],
        "train/episode": [(2000, 85.0)],
        "evaluate/mean": [(2000, 15.0)],
    }
    (histogram,) = events.Tensors("evaluate/returns")
    buckets = tf.make_ndarray(histogram.tensor_proto)  # rows of left, right, count
    assert histogram.step == 2000
    assert (buckets[0, 0], buckets[-1, 1], buckets[:, 2].sum()) == (10.0, 20.0, 2.0)


def test_steps_that_a_resumed_run_writes_again_are_there_once(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TensorBoardObserver(tmp_path)
    for step in range(1, 9):
        first.row(step, {"loss": step}, 0.0)  # killed at 8, when the last checkpoint was of step 5
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    TensorBoardObserver(tmp_path)  # killed before its first row
    assert list(tmp_path.iterdir()) == [file]
    TensorBoardObserver(tmp_path).row(6, {"loss": 0.0}, 0.0)
    TensorBoardObserver(tmp_path).row(6, {"loss": 0.0}, 0.0)
    again = TensorBoardObserver(tmp_path)
    again.evaluation(6, {"mean": 1.0})
    for step in range(6, 11):
        again.row(step, {"loss": -step}, 0.0)
    expected = [(step, float(step if step < 6 else -step)) for step in range(1, 11)]
    read = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    read.Reload()
    assert [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in read.Tensors("train/loss")] == expected
    assert len(list(tmp_path.iterdir())) == 2, "what is left of all earlier processes is in one file"
    plain = [e.step for file in sorted(tmp_path.iterdir()) for e in tf.compat.v1.train.summary_iterator(str(file))]
    assert plain == [0, 1, *range(1, 6), 0, 6, *range(6, 7), *range(6, 11)], "and for who reads the files one by one"


# ---- progress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("rlkit.runs.observers.time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Clock(monkeypatch)


def test_without_a_terminal_progress_is_plain_lines_on_stderr(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressObserver(200_000, label="seed 3: ") as progress:
        clock.now += 2.0
        progress.row(10_000, {"loss": 0.5, "episode_return": 21.53, "epsilon": 0.9}, 2.0)
        assert capsys.readouterr().err == "", "no line before its time"
        clock.now += 8.0
        progress.evaluation(50_000, {"mean": 100.5}, [100.0, 101.0])
        progress.row(50_000, {"loss": 0.012345678, "episode_return": None, "epsilon": 0.05, "q": 7.0}, 10.0)
        # 50,000 steps in 10 seconds; the 150,000 that are left take 30. The last known return stays.
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            "seed 3: 50,000/200,000 steps  5,000 steps/s  return 21.53  eval 100.5  epsilon 0.05"
            "  loss 0.01235  0:30 left\n"
        )
        clock.now += 1.0
        progress.row(60_000, {"loss": math.nan}, 11.0)
        assert capsys.readouterr().err == "", "five seconds have not passed"
        progress.row(200_000, {}, 11.0)
        assert "200,000/200,000 steps  18,182 steps/s" in capsys.readouterr().err, "the last row is always told"


def test_a_resumed_run_counts_its_own_steps(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressObserver(10_000, start=9_000, interval=1.0)
    clock.now += 4.0
    progress.row(9_100, {}, 100.0)
    # 100 steps in 4 seconds; 900 more take 36.
    assert capsys.readouterr().err == "9,100/10,000 steps  25 steps/s  0:36 left\n"


def test_a_run_that_finishes_its_last_round_has_no_negative_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = ProgressObserver(1_000, interval=5.0)
    clock.now += 10.0
    progress.row(1_024, {"loss": 0.5}, 10.0)
    assert capsys.readouterr().err == "1,024/1,000 steps  102 steps/s  loss 0.5  0:00 left\n"


def test_long_times_are_minutes_and_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressObserver(100_000, interval=1.0)
    clock.now += 10.0
    progress.row(1_000, {}, 10.0)
    assert capsys.readouterr().err.endswith("100 steps/s  16:30 left\n")  # 99,000 / 100 = 990 s


def test_lines_are_neither_broken_nor_read_as_markup(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    text = "runs/[draft]/CartPole-v1 :warning: [/] " + "word " * 60 + "end"
    ProgressObserver(10).say(text)
    assert clock.now == 100.0
    assert capsys.readouterr() == ("", text + "\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_a_bar_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressObserver(200_000, start=1_000, label="seed 3: ") as progress:
        progress.row(50_000, {"loss": 0.5, "episode_return": 21.5, "epsilon": 0.25}, 1.0)
        progress.evaluation(50_000, {"mean": 100.5}, [100.0, 101.0])
        progress.say("saved")
    shown = terminal.getvalue()
    for words in (
        "seed 3: 50,000/200,000 steps",
        "steps/s",
        "return 21.5",
        "eval 100.5",
        "epsilon 0.25",
        "loss 0.5",
    ):
        assert words in shown
    assert "seed 3: saved" in shown
    assert capsys.readouterr().out == ""


def test_the_rest_is_forecast_once_after_a_minute_of_learning() -> None:
    told: list[str] = []
    forecast = Forecast(100_000, told.append)
    forecast.row(1_000, {"loss": None}, 10.0)  # before learning, steps are fast
    forecast.row(2_000, {"loss": 0.1}, 20.0)
    forecast.row(3_000, {"loss": 0.1}, 79.0)
    assert told == []
    forecast.row(6_000, {"loss": 0.1}, 100.0)  # 4,000 steps in 80 s
    forecast.row(9_000, {"loss": 0.1}, 200.0)
    assert told == ["50 steps/s: about 31 min to go"]  # 94,000 / 50 = 1,880 s
    assert [time_text(seconds) for seconds in (7_500, 20, 3_570)] == ["2 h 05 min", "1 min", "1 h 00 min"]
