"""How runs end: written to their folders and told, also where one of a series fails or is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rlkit.errors import EnvError, FailedRunsError, UserError
from rlkit.reporting import Say
from rlkit.runs.run_directory import AnyRun, RunDirectory

R = TypeVar("R", bound=AnyRun)


class Ended(Protocol):
    """A loop, of which these are known."""

    saved_at: int
    """Step of the last checkpoint; below 0 for none."""
    seconds: float


@contextmanager
def recorded(
    directories: Sequence[RunDirectory], loops: Sequence[Ended], statuses: Sequence[str], say: Say
) -> Iterator[None]:
    """Write how runs ended, however they do; where that is a second Ctrl-C, say how to go on from what is saved.

    Args:
        directories: of the runs.
        loops: of the runs.
        statuses: how each has ended, "failed" as long as it has not.
        say: told it.
    """
    halted = False
    try:
        yield
    except KeyboardInterrupt:
        halted = True
        raise
    finally:
        for directory, loop, status in zip(directories, loops, statuses, strict=True):
            cut = halted and status == "failed"
            status = "interrupted" if cut else status
            directory.end(say, status=status, step=loop.saved_at, seconds=round(loop.seconds, 3))
            if halted and loop.saved_at >= 0:
                since = ": what came after its last checkpoint is lost" if cut else ""
                then = directory.resuming if status == "interrupted" else directory.evaluating
                say(f"the run is {status} at step {loop.saved_at:,}{since}; go on with: {then}")


def in_turn(seeds: Sequence[int], start: Callable[[int], list[R]]) -> list[R]:
    """Train seeds one after the other, the others too where one fails, until one is interrupted.

    Args:
        seeds: of the runs.
        start: trains one.

    Raises:
        FailedRunsError: some have failed.
        UserError: whatever is wrong before the first run has begun, as it is wrong for all; but for what an env does,
            which may be another thing with another seed.
    """
    runs: list[R] = []
    failures: dict[int, str] = {}
    for seed in seeds:
        try:
            runs += start(seed)
        except FailedRunsError as error:
            failures |= error.failures
        except UserError as error:
            if not (runs or failures or isinstance(error, EnvError)):
                raise
            failures[seed] = str(error)
        if runs and runs[-1].status == "interrupted":
            break
    if failures:
        raise FailedRunsError(failures, runs)
    return runs
