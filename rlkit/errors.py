"""A user's mistake, told in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: the message names what was wrong and what would be right.

    The command line prints it as one sentence on stderr and exits with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown("agent", "dqm", ["dqn", "sarsa"]))
    unknown agent 'dqm': did you mean 'dqn'?
    """
    names = sorted(known, key=str.casefold)
    folded = {n.casefold(): n for n in names}
    close = [folded[n] for n in difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)]
    if close:
        hint = "did you mean " + " or ".join(repr(n) for n in close) + "?"
    elif names:
        shown = ", ".join(names[:12])
        hint = f"there is {shown}" + (" and more" if len(names) > 12 else "")
    else:
        hint = "there is none"
    return UserError(f"unknown {kind} {name!r}: {hint}")
