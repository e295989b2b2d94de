"""Which condition plays dropout, and which GAAF: as one says, else by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dropdiag.analysis.select import check
from dropdiag.errors import ArgumentError

_WITHOUT: Final = re.compile(r"\b(no|non|without|w/o)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Roles:
    """Conditions that claims (e) and (f) speak of; None where there is none.

    Attributes
    ----------
    dropout, gaaf : str or None
    guessed : tuple of str
        A sentence for each that was not given.
    """

    dropout: str | None
    gaaf: str | None
    guessed: tuple[str, ...]


def cast(conditions: Sequence[str], dropout: str | None, gaaf: str | None) -> Roles:
    """Find who plays dropout and GAAF.

    Parameters
    ----------
    conditions : sequence of str
        The baseline first: it plays neither unless given.
    dropout, gaaf : str, optional
        A condition; None is a guess by name: the only one whose name holds "gaaf", and the only other one whose name
        holds "drop", or the only other one there is. A name with "no" or "without" in it is none.

    Raises
    ------
    ArgumentError
        If a condition does not exist, or plays both.
    """
    for given in (dropout, gaaf):
        check("condition", None if given is None else [given], conditions)
    if gaaf is not None and gaaf == dropout:
        raise ArgumentError(f"{gaaf!r} cannot be both dropout= and gaaf=; name two conditions")
    guessed = []
    if gaaf is None:
        gaaf = _only([name for name in conditions[1:] if "gaaf" in name.lower() and name != dropout])
        guessed += [f"{gaaf!r} is taken for GAAF by its name"] if gaaf else []
    if dropout is None:
        others = [name for name in conditions[1:] if name != gaaf and not _WITHOUT.search(name)]
        dropout = _only([name for name in others if "drop" in name.lower()]) or _only(others)
        guessed += [f"{dropout!r} is taken for dropout"] if dropout else []
    return Roles(dropout, gaaf, tuple(guessed))


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None
