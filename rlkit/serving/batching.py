"""Batches: requests that wait together are computed together.

A small model is computed on the event loop's own thread, after everything that lay ready on the connections was
read: that fills the batch, and spares a request the change of threads and back (docs/decisions/0018). A slow model is
computed in a thread of its own, while the loop reads what will be the next batch. So a request alone is computed at
once; it waits for others only as long as `timeout` asks for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from rlkit.serving.errors import ServingError, told
from rlkit.serving.metrics import Metrics
from rlkit.serving.models import Version
from rlkit.serving.signature import Arrays, Outputs, Signature

Answer = Outputs | ServingError

SLOW = 0.005
"""Seconds of a model's call from which on it leaves the event loop's thread."""


class Call:
    """A request's computation; its `answer` is called on the event loop's thread.

    Args:
        version: that is to compute it.
        signature: of that version.
        arrays: its inputs, checked.
    """

    __slots__ = ("answer", "arrays", "key", "rows", "signature", "version")

    answer: Callable[[Answer], None]

    def __init__(self, version: Version, signature: Signature, arrays: Arrays) -> None:
        self.version, self.signature, self.arrays = version, signature, arrays
        self.rows = signature.rows(arrays)
        self.key: Hashable = (id(signature), *[a.shape[1:] for a in arrays.values()]) if self.rows else id(self)


@dataclass
class Batcher:
    """Computes calls, several at a time.

    Args:
        loop: on whose thread calls are submitted and answered.
        size: rows after which a batch takes no further call.
        timeout: seconds that a call may wait for others to fill its batch.
        metrics: told of each batch.
    """

    loop: asyncio.AbstractEventLoop
    size: int
    timeout: float
    metrics: Metrics

    def __post_init__(self) -> None:
        self._waiting: dict[Hashable, list[Call]] = {}
        self._rows = 0
        self._next: asyncio.Handle | None = None
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "slow-model")

    def submit(self, call: Call) -> None:
        """Take a call; its answer follows."""
        call.version.active += 1
        self._waiting.setdefault(call.key, []).append(call)
        self._rows += call.rows or 1
        if self._next is None:
            if not self._busy:
                wait = self.timeout > 0 and self._rows < self.size
                self._next = self.loop.call_later(self.timeout, self._run) if wait else self.loop.call_soon(self._run)
        elif self.timeout > 0 and self._rows >= self.size > self._rows - (call.rows or 1):
            self._next.cancel()
            self._next = self.loop.call_soon(self._run)

    def close(self) -> None:
        """End; nothing may wait any more."""
        self._thread.shutdown()

    def _run(self) -> None:
        """Compute one batch: of those that have waited longest for a turn."""
        key = next(iter(self._waiting))
        waiting = self._waiting.pop(key)
        rows = end = 0
        while end < len(waiting) and rows < self.size:
            rows += waiting[end].rows or 1
            end += 1
        calls = waiting[:end]
        if end < len(waiting):
            self._waiting[key] = waiting[end:]
        self._rows -= rows
        self._next = None
        if calls[0].signature.seconds < SLOW:
            self._answer(calls, self._compute(calls))
        else:
            self._busy = True
            self.loop.run_in_executor(self._thread, self._compute, calls).add_done_callback(
                lambda done: self._answer(calls, done.result())
            )

    def _answer(self, calls: Sequence[Call], answers: Sequence[Answer]) -> None:
        self._busy = False
        if self._waiting and self._next is None:
            self._next = self.loop.call_soon(self._run)
        for call, answer in zip(calls, answers, strict=True):
            call.version.active -= 1
            call.answer(answer)

    def _compute(self, calls: Sequence[Call]) -> list[Answer]:
        """The answers of calls that may share a batch."""
        signature = calls[0].signature
        begun = time.perf_counter()
        try:
            if len(calls) == 1:
                return [signature(calls[0].arrays)]
            arrays, finite = signature({k: np.concatenate([c.arrays[k] for c in calls]) for k in calls[0].arrays})
        except Exception as error:
            if len(calls) == 1:
                return [told(error)]
            return self._alone(calls)  # so that one does not spoil the others
        finally:
            signature.seconds = time.perf_counter() - begun
            self.metrics.batch(sum(call.rows or 1 for call in calls), signature.seconds)
        rows = sum(call.rows for call in calls)
        for array in arrays.values():
            if len(array) != rows:  # the signature said a row for each, the model does otherwise
                return self._alone(calls)
        answers: list[Answer] = []
        start = 0
        for call in calls:
            end = start + call.rows
            answers.append(Outputs({k: array[start:end] for k, array in arrays.items()}, finite))
            start = end
        return answers

    def _alone(self, calls: Sequence[Call]) -> list[Answer]:
        return [self._compute([call])[0] for call in calls]
