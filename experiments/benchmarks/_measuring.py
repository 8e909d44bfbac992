"""Times of several contestants in turn, on the same number of threads; tables; the machine that they hold for."""

from __future__ import annotations

import datetime
import gc
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlkit.api.agent_run import Run

THREADS = 2
"""Threads for everything that takes several."""

SHORT = 0.02
"""Seconds below which a measurement is repeated and its mean taken."""

LONG = 20.0
"""Seconds above which a measurement is not repeated."""

EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
"""Instructions that decide how fast a CPU multiplies; figures of two machines that differ in them do not compare."""


@dataclass
class Contestant:
    """Something to time: `run` is timed, on what `prepare` makes; `prepare` is called anew for each run if `fresh`."""

    name: str
    prepare: Callable[[], object]
    run: Callable[[object], object]
    fresh: bool = False
    prepared: list[float] = field(default_factory=list)
    """Seconds that each call of `prepare` took."""
    seconds: list[float] = field(default_factory=list)
    """Of each round."""
    answer: object = None
    """What the first run returned."""
    model: object = None

    @property
    def best(self) -> float:
        """Least seconds of a round."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Median seconds of the rounds."""
        return statistics.median(self.seconds)

    def make(self) -> object:
        """Prepare once more, timed."""
        begun = time.perf_counter()
        made = self.prepare()
        self.prepared.append(time.perf_counter() - begun)
        return made

    def round(self) -> None:
        """One measurement; a short one is repeated until it is long enough to be timed."""
        if self.seconds and self.seconds[-1] > LONG:
            return
        if self.model is None or self.fresh:
            self.model = None
            self.model = self.make()
        gc.collect()
        begun = time.perf_counter()
        answer = self.run(self.model)
        once = time.perf_counter() - begun
        if not self.seconds:
            self.answer = answer
        if once < SHORT:
            times = int(SHORT / once) + 1
            models = [self.prepare() if self.fresh else self.model for _ in range(times)]
            begun = time.perf_counter()
            for model in models:
                self.run(model)
            once = (time.perf_counter() - begun) / times
        self.seconds.append(once)


def alternate(contestants: Sequence[Contestant], rounds: int) -> None:
    """Each in turn, several times; one that took long only once."""
    for _ in range(rounds):
        for contestant in contestants:
            # OpenMP's threads spin for a while after their work, and would take a core from the next one.
            time.sleep(0.05)
            contestant.round()


def set_up() -> None:
    """Hold Numba, BLAS and OpenMP to the same number of threads, and say how busy the machine is without this."""
    import numba
    import psutil
    from threadpoolctl import threadpool_limits

    print_machine()
    numba.set_num_threads(min(THREADS, numba.get_num_threads()))
    threadpool_limits(THREADS)
    busy = psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or 1)
    print(f"numba {numba.__version__}, {numba.get_num_threads()} threads; others keep {busy:.1f} cores busy")
    if busy > 0.2:
        print(
            "Threads that spin as they wait are slow beside other work: measure later, or with OMP_WAIT_POLICY=passive"
        )


def print_machine() -> None:
    """Print the date and the machine, which every figure below holds for."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""

    def entry(key: str) -> str | None:
        found = re.search(rf"^{key}\s*:\s*(.*)", text, re.MULTILINE)
        return found[1] if found else None

    name = entry("model name") or platform.processor() or platform.machine()
    family, model = entry("cpu family"), entry("model")
    numbers = f" (family {family}, model {model})" if family and model else ""
    flags = set((entry("flags") or "").split())
    has = ", ".join(word for word in EXTENSIONS if word in flags) or "no extension of " + ", ".join(EXTENSIONS)
    print(f"{datetime.date.today()}: {name}{numbers}, {os.cpu_count()} cores; {has}", flush=True)


def check_run(run: Run, **expected: object) -> Run:
    """The run, whose settled config has the expected values and whose device is the CPU.

    Raises:
        RuntimeError: something else was trained than the benchmark's name says.
    """
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        raise RuntimeError("TensorFlow computes on a GPU, and the figures are of a CPU: set CUDA_VISIBLE_DEVICES=-1")
    for name, value in expected.items():
        if (actual := getattr(run.config, name)) != value:
            raise RuntimeError(f"{name} of the measured run is {actual}, expected {value}")
    return run


def last_line(arguments: Sequence[str], **variables: str) -> str:
    """The last line that a Python process prints; ends this process with the other's error if it fails."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {result.returncode}:\n{result.stderr[-2_000:]}")
    return result.stdout.splitlines()[-1]


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a title, the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}")
    for row in [heads, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        print("  " + "  ".join(cells), flush=True)


def milliseconds(seconds: float) -> str:
    """Three significant digits, in ms."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
