"""Signals that ask a process to stop: Ctrl-C, SIGTERM, and SIGHUP, of a terminal that was closed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@contextmanager
def stopping(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have these signals handled, in the main thread; in another one, whoever runs it there handles them.

    A process that is told to ignore SIGHUP, as by nohup, ignores it still.
    """
    previous = {}
    try:
        for number in STOPPING:
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ends what is under way as Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt
