"""How a command is told what a person may want to know."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Says nothing."""


def labelled(say: Say, label: str) -> Say:
    """Says all behind a label."""
    return partial(_say, say, label)


def _say(say: Say, label: str, text: str) -> None:
    say(label + text)
