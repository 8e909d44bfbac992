"""Benchmarks measure what their names say, and name the machine that their figures hold for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlkit.agents.dqn.config import DQNConfig
from rlkit.experiments.benchmarks import _measuring

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


TIMED = """
from rlkit.api import training
from rlkit.experiments.benchmarks import host_loop
runs, train = [], training.train
training.train = lambda *arguments, **fields: runs.append(train(*arguments, **fields)) or runs[-1]
host_loop.WARM_UP = 250
print(host_loop.rlkit_rate(250) > 0, runs[0].config.loop, runs[0].config.threads)
"""


def test_the_host_loops_benchmark_times_the_host_loop() -> None:
    """It once took what `auto` takes, which became the compiled loop."""
    assert _measuring.last_line(["-c", TIMED]) == "True host 1"


def test_a_run_that_is_not_what_a_benchmark_says_is_refused() -> None:
    run: Any = SimpleNamespace(config=DQNConfig(env="CartPole-v1", loop="host"))
    assert _measuring.check_run(run, loop="host", num_envs=1) is run
    with pytest.raises(RuntimeError, match="loop of the measured run is host, expected compiled"):
        _measuring.check_run(run, loop="compiled")


def test_a_measurement_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert _measuring.last_line(["-c", "print('first'); print(7)"]) == "7"
    with pytest.raises(SystemExit, match="no such peer"):
        _measuring.last_line(["-c", "raise ValueError('no such peer')"])
