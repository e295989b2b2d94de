"""Effects of two conditions' terms over seeds: differences of logarithms, so that those of a layer add up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from dropdiag.analysis.flow.align import Aligned, Key
from dropdiag.analysis.flow.terms import KINDS, TOTAL
from dropdiag.analysis.seeds import SeedPairing, difference, sides_of
from dropdiag.formatting import some

NO_RUN: Final = "no run of one side has a value"


class Sum(NamedTuple):
    """Terms that are shown as one."""

    term: str
    name: str
    keys: tuple[Key, ...]


TOTAL_ROW: Final = Sum(TOTAL, "", ())


def grouped(made: Aligned) -> list[Sum]:
    """Return the terms by kind."""
    by = {kind: tuple(key for key in made.keys if key.kind == kind) for kind in KINDS}
    return [Sum(kind, some([made.names[key] for key in keys], 4), keys) for kind, keys in by.items() if keys]


def apart(made: Aligned) -> list[Sum]:
    """Return the terms one by one, from the output down."""
    return [Sum(key.kind, made.names[key], (key,)) for key in made.keys]


def effects(
    made: Aligned, pairing: SeedPairing, shown: Sequence[Sum], *, level: float, bin_: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield a record a term of one activation, and then that of the total.

    All are taken from the same runs: those that have every term that any run of each side has. Only so do they add up.

    Parameters
    ----------
    made : Aligned
    pairing : SeedPairing
        Of the two conditions' runs.
    shown : sequence of Sum
    level : float
        What the intervals cover.
    bin_ : int

    Yields
    ------
    dict
        term, name, effect, low, high, n, n_baseline, paired, why, every_step.
    """
    runs = [run for run in pairing.runs if run in made.values]
    columns = {one: {run: made.value(run, one.keys, bin_) for run in runs} for one in shown}
    columns[TOTAL_ROW] = {run: made.total(run, bin_) for run in runs}
    known = [values for values in columns.values() if _on_both(values, pairing)]
    whole = {run for run in runs if known and all(np.isfinite(values[run]) for values in known)}
    used = pairing.having(whole)
    for one, values in columns.items():
        every = _effect({run: made.every_step[run] for run in whole}, used, level)["effect"]
        there = values in known and whole
        why = "" if there else next((made.why[key] for key in one.keys if key in made.why), NO_RUN)
        found = _effect(values if there else {}, used, level)
        more = {"why": why, "every_step": every if one is TOTAL_ROW else np.nan}
        yield {"term": one.term, "name": one.name, **found, **more}


def _on_both(values: Mapping[str, float], pairing: SeedPairing) -> bool:
    """Whether a run of each side has a value."""
    return all(_any(values[run] for run in side if run in values) for side in (pairing.condition, pairing.baseline))


def _any(values: Iterable[float]) -> bool:
    return any(np.isfinite(value) for value in values)


def _effect(values: Mapping[str, float], pairing: SeedPairing, level: float) -> dict[str, Any]:
    used, mine, theirs = sides_of(values, pairing)
    counts = {"n": len(mine), "n_baseline": len(theirs), "paired": used.paired}
    if not mine.size or not theirs.size:
        return {"effect": np.nan, "low": np.nan, "high": np.nan, **counts}
    found = difference(mine, theirs, paired=used.paired)
    low, high = found.interval(level)
    return {"effect": found.effect, "low": low, "high": high, **counts}
