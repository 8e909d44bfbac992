"""Keeping libraries quiet that say too much."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*, always: bool = False) -> Iterator[None]:
    """Keep what is written to stderr, also by libraries in C++, and show it only if there is an exception.

    Args:
        always: not even then.
    """
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(stderr, 2)
            kept.seek(0)
            if not always:
                sys.stderr.write(kept.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
