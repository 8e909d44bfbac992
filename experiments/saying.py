"""How a command is told what a person may want to know."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rlkit.errors import UserError

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Says nothing."""


def bar_label(progress: str | bool | None) -> str | None:
    """The label of a progress bar, None for no bar: True is a bar without a label.

    Raises:
        UserError: it is neither a label nor True, False or None.
    """
    if not isinstance(progress, str | bool | None):
        raise UserError(f"progress is {progress!r}, expected True, False or a label to set before the bar")
    return ("" if progress else None) if isinstance(progress, bool) else progress


def labelled(say: Say, label: str) -> Say:
    """Says all behind a label."""
    return partial(_say, say, label)


def _say(say: Say, label: str, text: str) -> None:
    say(label + text)
