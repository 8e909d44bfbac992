"""What every training loop does besides learning: rows of metrics, evaluations, checkpoints, signals."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Protocol

import numpy as np

from rlkit.config import Config
from rlkit.errors import EnvError, UserError
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.signals import interrupt, stopping
from rlkit.spaces import Arrays


class RoundObserver(Protocol):
    """Sees the rounds of updates, to profile them."""

    def round(self, number: int) -> None:
        """Called before each round."""
        ...

    def stop(self) -> None:
        """Called when training ends."""
        ...


@contextmanager
def closing_profile(profiler: RoundObserver | None) -> Iterator[None]:
    """Stop a profiler at the end, however it comes."""
    try:
        yield
    finally:
        if profiler:
            profiler.stop()


class Loop:
    """What all training has in common: observers, evaluation and checkpoints when their steps have come.

    A loop is `_cycle`, which learns for some steps, `_row`, what it measured, `_evaluate`, and its own part of the
    state.

    Args:
        config: of the run.
        checkpointer: where to save.
        observers: see metrics and evaluations.
    """

    def __init__(self, config: Config, checkpointer: Checkpointer, observers: Sequence[Observer] = ()) -> None:
        self.config, self.checkpointer, self.observers = config, checkpointer, observers
        self.step = self.episode = 0
        self.stride = 1
        """Steps of a cycle, which is always finished, at most."""
        self.seconds = 0.0
        self.best: float | None = None
        self.saved_at = -1
        self.profiler: RoundObserver | None = None
        self._clock_start = time.monotonic()
        self.interrupted = False

    def _cycle(self) -> bool:
        """Learn for some steps, none beyond `due`; whether there is anything left to do."""
        raise NotImplementedError

    def _complete(self) -> bool:
        """Whether all was learned before."""
        return False

    def _row(self) -> dict[str, float | None]:
        """What was measured since the row before."""
        raise NotImplementedError

    def _publish(self) -> None:
        """Copy what was learned to the agent's variables, where it is kept elsewhere."""

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        """The loop's own counters and arrays."""
        raise NotImplementedError

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        """The inverse of `_state`."""
        raise NotImplementedError

    def due(self) -> int:
        """The next step at which something else is to be done than learning."""
        c = self.config
        intervals = [c.log_interval, c.eval_interval, c.checkpoint_interval]
        return min(c.steps, *((self.step // n + 1) * n for n in intervals if n > 0))

    def run(self) -> str:
        """Train to the config's last step, or until an evaluation ends the run.

        Returns:
            "finished", "interrupted" (by a signal; a checkpoint was saved), or what the evaluation said, as "solved".

        Raises:
            UserError: a metric is not finite, an env is at fault, or a file cannot be written.
        """
        with ExitStack() as stack:
            stack.callback(self.checkpointer.write_best)
            stack.enter_context(self.interruptible())
            stack.enter_context(closing_profile(self.profiler))
            self.begin_run()
            going, status = not self._complete(), None
            try:
                while going and status is None and self.step < self.config.steps:
                    before = self.step
                    going = self._cycle()
                    status = self.attend(before, going=going)
                return self.finish(status or "finished")
            except EnvError as error:
                raise self._stopped(error) from error

    def begin_run(self) -> None:
        self._clock_start = time.monotonic() - self.seconds
        if self.saved_at < 0:
            self.save()

    def attend(self, before: int, *, going: bool = True) -> str | None:
        """Do what fell due since a step; how the run has ended, if it has.

        All that is written of a step comes before its checkpoint, which knows how far the files were.

        Args:
            before: the step.
            going: whether there is anything left to do.
        """
        if self._due(self.config.log_interval, before) or not going:
            self._log()
        last = self.config.eval_interval > 0 and (not going or self.step >= self.config.steps) and not self.interrupted
        if (last or self._due(self.config.eval_interval, before)) and (ended := self._evaluate()):
            return ended
        if self._due(self.config.checkpoint_interval, before):
            self.save()
        return "interrupted" if self.interrupted and self.step < self.config.steps else None

    def _due(self, interval: int, before: int) -> bool:
        return interval > 0 and self.step // interval > before // interval

    def _log(self) -> None:
        """A row of metrics for the steps since the one before."""
        row = self._row()
        for observer in self.observers:
            observer.row(self.step, row, time.monotonic() - self._clock_start)

    def _evaluate(self) -> str | None:
        """Evaluate and keep the best; how the run ends by it, if it does."""
        raise NotImplementedError

    def finish(self, status: str) -> str:
        """Save what a run ends with."""
        if self.saved_at != self.step:
            self.save()
        return status

    def _check_finite(self, metrics: Sequence[str], values: np.ndarray) -> None:
        """UserError where a metric is not finite, of their names and values."""
        if not math.isfinite(values.sum()):
            for name, value in zip(metrics, map(float, values), strict=True):
                if not math.isfinite(value):
                    raise self._diverged(name, value)

    def _diverged(self, metric: str, value: float) -> UserError:
        kept = self.saved_at
        return UserError(
            f"the {metric} is {value} at step {self.step}: stopped; the last good checkpoint, of step {kept}, is "
            "kept; a smaller learning_rate or max_gradient_norm may help"
        )

    def _intact(self) -> bool:
        """Whether the state is that of before the step in which an env has failed."""
        return False

    def _stopped(self, error: EnvError) -> UserError:
        """Save what was learned before an env failed, and say how to go on."""
        if self._intact() and self.saved_at != self.step:
            self.save()
        run = shlex.quote(str(self.checkpointer.directory.parent))
        return UserError(
            f"{error}; training stopped at step {self.step}, saved at {self.saved_at}: "
            f"resume with rlkit train --resume {run}"
        )

    def save(self) -> None:
        """Write a checkpoint of everything that decides how the run goes on."""
        self.seconds = time.monotonic() - self._clock_start
        self._publish()
        counters, state = self._state()
        counters |= {"step": self.step, "episode": self.episode, "seconds": self.seconds, "best": self.best}
        self.checkpointer.save(self.step, {"counters": np.array(json.dumps(counters)), **state})
        self.saved_at = self.step

    def restore(self, report: Callable[[str], None]) -> None:
        """Continue from the newest good checkpoint; `report` is told what could not be had.

        Raises:
            UserError: there is none.
        """
        self.saved_at, state = self.checkpointer.restore(report)
        counters = json.loads(str(state["counters"]))
        self.step, self.episode = counters["step"], counters["episode"]
        self.seconds, self.best = counters["seconds"], counters["best"]
        if self.checkpointer.best_lost:
            self.best = self.checkpointer.best_score
        self._restore(counters, state, report)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first Ctrl-C, SIGTERM or SIGHUP ends the loop after the cycle in hand; the second one at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                interrupt(number, frame)
            self.interrupted = True

        with stopping(handle):
            yield
