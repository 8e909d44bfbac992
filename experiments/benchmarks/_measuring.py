"""Times of several contestants in turn, on the same number of threads, and tables of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

THREADS = 2
"""Threads for everything that takes several."""

SHORT = 0.02
"""Seconds below which a measurement is repeated and its mean taken."""

LONG = 20.0
"""Seconds above which a measurement is not repeated."""


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

    numba.set_num_threads(min(THREADS, numba.get_num_threads()))
    threadpool_limits(THREADS)
    busy = psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or 1)
    print(f"numba {numba.__version__}, {numba.get_num_threads()} threads; others keep {busy:.1f} cores busy")
    if busy > 0.2:
        print(
            "Threads that spin as they wait are slow beside other work: measure later, or with OMP_WAIT_POLICY=passive"
        )


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
