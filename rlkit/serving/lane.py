"""Threads beside the event loop for long requests, a few at a time, so that the others do not wait for them.

The interpreter runs one thread at a time: what runs here is cut into calls of a few milliseconds, after each of which
the loop may take over (docs/decisions/0029).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rlkit.serving.batching import Call
from rlkit.serving.errors import ServingError, invalid, logged
from rlkit.serving.json_answers import Slice, parts_of
from rlkit.serving.metrics import Metrics
from rlkit.serving.signature import Outputs

LONG = 16 * 1024
"""Bytes of a request from which on it is read beside the loop."""

AT_ONCE = 2
"""Long requests that are worked on at the same time; others wait."""

ROWS = 1024
"""Rows of one call of the model, of a request that has more."""

NUMBERS = 16 * 1024
"""Numbers and lists of an answer from which on it is written beside the loop."""

T = TypeVar("T")


class Lane:
    """Runs what is long.

    Args:
        loop: on whose thread results are told.
        whole: compute a request's rows in one call, however many they are.
        metrics: told of each call of the model.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, whole: bool, metrics: Metrics) -> None:
        self.loop, self.whole, self.metrics = loop, whole, metrics
        self._threads = ThreadPoolExecutor(AT_ONCE, "long-request")

    def future(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """The result of work, to be awaited."""
        return self.loop.run_in_executor(self._threads, work)

    def run(self, work: Callable[[], T], then: Callable[[T | ServingError], None]) -> None:
        """Have work done, and its result, or what the client is told of its exception, passed on."""

        def done(future: asyncio.Future[T]) -> None:
            error = future.exception()
            then(future.result() if error is None else logged(error))

        self.future(work).add_done_callback(done)

    def close(self) -> None:
        """End; nothing may wait any more."""
        self._threads.shutdown()

    def takes(self, call: Call) -> bool:
        """Whether a call is too long for the loop's thread and for a batch with others."""
        if call.rows:
            return call.rows > ROWS
        return sum(map(parts_of, call.arrays.values())) > NUMBERS

    def slices(self, call: Call) -> Iterator[Slice]:
        """The outputs of a call, some rows after the other; whole where the model has not a row for each.

        Raises:
            Exception: what the model raises.
        """
        if not call.rows or self.whole:
            yield call.rows, self._compute(call, slice(None), call.rows)
            return
        for start in range(0, call.rows, ROWS):
            rows = min(ROWS, call.rows - start)
            outputs = self._compute(call, slice(start, start + rows), rows)
            if any(len(array) != rows for array in outputs.arrays.values()):
                if start:
                    raise invalid(f"{rows} rows of {call.rows} are not answered by as many")
                yield call.rows, self._compute(call, slice(None), call.rows)
                return
            yield rows, outputs

    def _compute(self, call: Call, part: slice, rows: int) -> Outputs:
        arrays = {name: array[part] for name, array in call.arrays.items()} if rows else call.arrays
        begun = time.perf_counter()
        try:
            return call.signature(arrays)
        finally:
            self.metrics.batch(rows or 1, time.perf_counter() - begun)
