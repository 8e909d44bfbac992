"""Benchmarks measure what their names say, and name the machine that their figures hold for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlkit.experiments import training
from rlkit.experiments.benchmarks import _measuring, host_loop
from rlkit.experiments.training import Run

FILES = sorted(p for p in Path(_measuring.__file__).parent.glob("*.py") if not p.name.startswith("_"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_benchmark_prints_the_machine(file: Path) -> None:
    main = file.read_text(encoding="utf-8").partition("def main()")[2]
    assert "print_machine()" in main or "set_up()" in main


def test_the_machine_is_named_with_its_date_and_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    _measuring.print_machine()
    line = capsys.readouterr().out
    assert line[:4].isdigit()
    assert " cores; " in line
    assert line.count("\n") == 1


@pytest.fixture(scope="module")
def measured() -> tuple[float, Run]:
    """The rate that the host loop's benchmark gives for a few steps, and the run that it timed."""
    runs: list[Run] = []
    with pytest.MonkeyPatch.context() as patch:
        train = training.train

        def kept(*args: Any, **fields: Any) -> Run:
            runs.append(train(*args, **fields))
            return runs[-1]

        patch.setattr(training, "train", kept)
        patch.setattr(host_loop, "WARM_UP", 250)
        rate = host_loop.rlkit_rate(250)
    return rate, runs[0]


def test_the_host_loops_benchmark_times_the_host_loop(measured: tuple[float, Run]) -> None:
    """It once took what `auto` takes, which became the compiled loop."""
    rate, run = measured
    assert run.config.loop == "host"
    assert rate > 0


def test_a_run_that_is_not_what_a_benchmark_says_is_refused(measured: tuple[float, Run]) -> None:
    run = measured[1]
    assert _measuring.check_run(run, loop="host", num_envs=1) is run
    with pytest.raises(RuntimeError, match="loop of the measured run is host, expected compiled"):
        _measuring.check_run(run, loop="compiled")


def test_a_measurement_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert _measuring.last_line(["-c", "print('first'); print(7)"]) == "7"
    with pytest.raises(SystemExit, match="no such peer"):
        _measuring.last_line(["-c", "raise ValueError('no such peer')"])
