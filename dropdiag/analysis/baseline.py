"""Which condition the others are compared with, where nobody says: by what it is, never by the alphabet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dropdiag.errors import BaselineError
from dropdiag.store.reader import Runs

# An underscore parts words here, as in "no_dropout"; to \b it would be a letter.
WITHOUT: Final = re.compile(r"(?<![^\W_])(no|non|without|w/o)(?![^\W_])|(?<![^\W_])no-?drop", re.IGNORECASE)
_BASE: Final = re.compile(r"(?<![^\W_])(base|baseline|none)(?![^\W_])", re.IGNORECASE)
_ZERO: Final = re.compile(r"(.*[=:\s])?\s*(0+(\.0*)?|\.0+|false|off)\s*%?\s*", re.IGNORECASE)
_NUMBER: Final = re.compile(
    r"(?:(?P<key>.*?)\s*[=:\s]\s*)?(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<of>%?)", re.IGNORECASE
)
_RATE: Final = re.compile(
    r"(?<![^\W_])(p|(?<!learning.)rates?|drop(out|ped)?s?|prob(ability)?)(?![^\W_])", re.IGNORECASE
)
_KEPT: Final = re.compile(r"keep|kept|retain|retention", re.IGNORECASE)


def baseline_of(runs: Runs) -> str:
    """Return the condition that the others are compared with: one rule for comparisons, reports, tables and figures.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    str
        The first of these that holds for one condition alone: its name says so (`says_baseline`); none of its runs
        recorded a dropout with a rate above 0, while each other condition has such runs; its name is the smallest of
        numbers (``0.1`` beside ``0.3``, ``rate=0.1`` beside ``rate=0.3``, see `smallest`). Else, in an order that the
        user gave, as a dict of conditions has it, the first one, if no name says so or its does.

    Raises
    ------
    BaselineError
        If that leaves it open, as where several names say so: an order of file names would decide which way a verdict
        turns.
    """
    conditions = runs.conditions
    named = [name for name in conditions if says_baseline(name)]
    if len(named) == 1 or len(conditions) == 1:
        return (named or conditions)[0]
    told = None if named else without_dropout(runs)
    if told is None and not named:
        told = smallest(conditions, ordered=runs.ordered)
    if told is not None:  # the condition may be called ""
        return told
    if runs.ordered and (not named or conditions[0] in named):
        return conditions[0]
    which = (
        f"{', '.join(map(repr, named))} may each be" if named else "no name and no recorded dropout rate says which is"
    )
    raise BaselineError(
        f"{which} the baseline of {', '.join(map(repr, conditions))}; name it: baseline={(named or conditions)[0]!r}"
    )


def says_baseline(condition: str) -> bool:
    """Whether a condition's name says that something is left out: "no", "without", "base", "baseline", "none", or 0.

    Words count whole ("Noise" is not "no"), but for "nodropout". A 0, "off" or "False" is the whole name, or comes last
    after "=", ":" or a blank ("rate=0.0"); of a name made of several settings, one is enough ("lr=0.1, rate=0").
    """
    if WITHOUT.search(condition) or _BASE.search(condition):
        return True
    return any(_ZERO.fullmatch(part) for part in condition.split(","))


def without_dropout(runs: Runs) -> str | None:
    """Return the one condition whose runs recorded no dropout with a rate above 0; None where that tells nothing.

    It tells nothing where several conditions have none, where another one has some in none of its runs, or where the
    rate of a dropout is not known.
    """
    held: dict[str, set[bool | None]] = {name: set() for name in runs.conditions}
    for run in runs:
        held[run.condition].add(drops(run.meta))
    without = [name for name, found in held.items() if found == {False}]
    others = [found for name, found in held.items() if name not in without]
    return without[0] if len(without) == 1 and all(True in found for found in others) else None


def drops(meta: Mapping[str, Any]) -> bool | None:
    """Whether a run has a dropout with a rate above 0, at its start or by an intervention; None: it is not known.

    Parameters
    ----------
    meta : mapping
        Of ``run.json``.
    """
    rates = {str(row["layer"]): row.get("rate") for row in meta.get("layers") or () if row.get("kind") == "dropout"}
    steps, later = int(meta.get("steps") or 0), list[float | None]()
    for told in meta.get("interventions") or ():
        if told.get("schedule"):  # whatever its numbers are, it was meant to drop something at some step
            return True
        sites, given = told.get("sites") or [], told.get("rates") or []
        always = told.get("step") == 0 and (told.get("until") is None or told["until"] >= steps)
        if always and len(sites) == len(given):  # "off", say, from the first step to the last
            rates.update(zip(map(str, sites), given, strict=True))
        else:
            later += given
    found = [*rates.values(), *later]
    if any(rate is not None and rate > 0.0 for rate in found):
        return True
    return None if None in found else False


def smallest(conditions: Sequence[str], *, ordered: bool = False) -> str | None:
    """Return the condition of the smallest number, where all names are numbers of one kind; else None.

    Parameters
    ----------
    conditions : sequence of str
        Each a number, or one after a key that all share ("rate=0.1", "p: .2", "dropout 10 %").
    ordered : bool
        Whether the user gave their order: then a number decides only where it is that of a rate, by itself or by its
        key. A key that speaks of what is kept decides nothing.
    """
    found = [number_in(name) for name in conditions]
    known = [one for one in found if one is not None]
    keys = {key for key, _ in known}
    if len(known) < len(found) or len(keys) != 1:
        return None
    (key,) = keys
    if _KEPT.search(key) or (ordered and key and not is_rate(key)):
        return None
    values = [value for _, value in known]
    least = min(values)
    return conditions[values.index(least)] if values.count(least) == 1 else None


def number_in(name: str) -> tuple[str, float] | None:
    """Return the key, in small letters ("" where there is none), and the number of a name such as "rate=0.1" or "10 %".

    None where the name is no number, or has more before it than a key that is set apart.
    """
    match = _NUMBER.fullmatch(name.strip())
    if match is None:
        return None
    return (match["key"] or "").strip().lower(), float(match["number"]) / (100.0 if match["of"] else 1.0)


def is_rate(key: str) -> bool:
    """Whether a key speaks of a dropout rate: of what is dropped, not of what is kept, and not of a learning rate."""
    return bool(_RATE.search(key)) and not _KEPT.search(key)
