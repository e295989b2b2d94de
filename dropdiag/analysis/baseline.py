"""Which condition the others are compared with, where nobody says: by its name, never by the alphabet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from dropdiag.errors import BaselineError

# An underscore parts words here, as in "no_dropout"; to \b it would be a letter.
WITHOUT: Final = re.compile(r"(?<![^\W_])(no|non|without|w/o)(?![^\W_])", re.IGNORECASE)
_BASE: Final = re.compile(r"(?<![^\W_])(base|baseline|none)(?![^\W_])", re.IGNORECASE)
_ZERO: Final = re.compile(r"(.*[=:\s])?\s*(0+(\.0*)?|\.0+)\s*%?\s*")


def says_baseline(condition: str) -> bool:
    """Whether a condition's name says that something is left out: "no", "without", "base", "baseline", "none", or 0.

    Words count whole ("Noise" is not "no"). A 0 is the whole name, or comes last after "=", ":" or a blank
    ("rate=0.0"); of a name made of several settings, one is enough ("lr=0.1, rate=0").
    """
    if WITHOUT.search(condition) or _BASE.search(condition):
        return True
    return any(_ZERO.fullmatch(part) for part in condition.split(","))


def likely(conditions: Sequence[str]) -> str:
    """Return the one condition whose name says that it is the baseline; else the first."""
    named = [name for name in conditions if says_baseline(name)]
    return named[0] if len(named) == 1 else conditions[0]


def certain(conditions: Sequence[str], *, ordered: bool) -> str:
    """Return the condition that the others are compared with.

    Parameters
    ----------
    conditions : sequence of str
    ordered : bool
        Whether the user gave their order, and so may have put the baseline first.

    Returns
    -------
    str
        The one whose name says so; in an order that the user gave, else the first, if none says so or it does.

    Raises
    ------
    BaselineError
        If that leaves it open: an order of file names would decide which way a verdict turns.
    """
    named = [name for name in conditions if says_baseline(name)]
    if len(named) == 1:
        return named[0]
    if ordered and (not named or conditions[0] in named):
        return conditions[0]
    which = f"{', '.join(map(repr, named))} may each be" if named else "no name says which is"
    raise BaselineError(
        f"{which} the baseline of {', '.join(map(repr, conditions))}; name it: baseline={(named or conditions)[0]!r}, "
        "or --baseline on the command line"
    )
