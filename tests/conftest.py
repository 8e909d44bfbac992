"""What several test files share."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import settings

from rlkit.cli import main

# As the command line does; before anything that sets it otherwise, as JAX does where it is installed.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

# The first example of a property may compile or load something, so none has a deadline.
settings.register_profile("rlkit", deadline=None)
settings.load_profile("rlkit")


def pytest_configure() -> None:
    """Set TensorFlow's threads as training does by default: it takes them once a process, whatever test comes first."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)


def tail(statistic: float, freedom: int) -> float:
    """P(chi-square > statistic): known for 1 and 2 degrees of freedom, then by recurrence in steps of 2."""
    half, odd = statistic / 2, freedom % 2
    probability = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    for k in range(1 if odd else 2, freedom, 2):
        probability += math.exp((k / 2) * math.log(half) - half - math.lgamma(k / 2 + 1)) if half > 0 else 0.0
    return probability


@pytest.fixture(scope="session")
def chi_square() -> Callable[[np.ndarray, np.ndarray], float]:
    """Pearson's test: how likely counts this far from the expected ones are, if those are right."""

    def probability(counts: np.ndarray, expected: np.ndarray) -> float:
        assert counts.shape == expected.shape
        assert counts.sum() == pytest.approx(expected.sum())
        assert expected.min() > 5, "too few are expected for the approximation to hold"
        return tail(float(((counts - expected) ** 2 / expected).sum()), counts.size - 1)

    # Points of the chi-square distribution as tables list them: statistic, degrees of freedom, probability.
    for statistic, freedom, listed in (
        (3.841, 1, 0.05),
        (5.991, 2, 0.05),
        (9.488, 4, 0.05),
        (16.266, 3, 0.001),
    ):
        assert tail(statistic, freedom) == pytest.approx(listed, rel=1e-3)
    return probability


class Said(NamedTuple):
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def rl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def terminal() -> Iterator[None]:
    """SIGHUP as processes of a terminal have it, also where the tests run under nohup, which has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
