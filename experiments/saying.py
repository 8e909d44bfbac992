"""How a command is told what a person may want to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rlkit.errors import UserError
from rlkit.metrics import Row

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


class RangeWatch:
    """Says once that returns leave the range of head c51: at the first row in which 1% of the targets do at one end.

    Args:
        v_min: the lower end.
        v_max: the upper end.
        say: told it.
    """

    SHARE = 0.01

    def __init__(self, v_min: float, v_max: float, say: Say) -> None:
        self.ends = {"below_v_min": f"below v_min, {v_min:g}", "above_v_max": f"above v_max, {v_max:g}"}
        self.flags = {"below_v_min": "a lower --v-min", "above_v_max": "a higher --v-max"}
        self.say, self.said = say, False

    def row(self, step: int, row: Row, seconds: float) -> None:
        del seconds
        shares = {name: row.get(name) or 0.0 for name in self.ends}
        left = [name for name, share in shares.items() if share >= self.SHARE]
        if self.said or not left:
            return
        self.said = True
        where = " and ".join(f"{shares[name]:.0%} are {self.ends[name]}" for name in left)
        flags = " and ".join(self.flags[name] for name in left)
        self.say(
            f"step {step:,}: head c51 cannot hold these returns: of the targets {where}, and are clipped to it: "
            f"give {flags}"
        )

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        del step, values, returns
