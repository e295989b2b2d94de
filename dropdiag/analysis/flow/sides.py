"""Two conditions side by side: their runs, their steps, and which of their terms stand beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.baseline import baseline_of
from dropdiag.analysis.compare.matching import check_match, matched
from dropdiag.analysis.compare.step_ranges import LOST, step_ranges
from dropdiag.analysis.flow.align import Aligned, align
from dropdiag.analysis.flow.readings import Bins, Integers, Means, averaged, scheduled
from dropdiag.analysis.seeds import SeedPairing, pair_by_seed
from dropdiag.analysis.select import check
from dropdiag.analysis.training import step_bins
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.formatting import some
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import NamesOrAll


@dataclass(frozen=True)
class Side:
    """A condition beside the baseline.

    Attributes
    ----------
    condition, baseline : str
    made : dict of (str, int) to Aligned
        Activations of the baseline, in network order.
    pairing : SeedPairing
    steps : float
        That the means of a run are over, on average.
    middles : tuple of float
        The mean step of each bin.
    note : str
        What was left out.
    """

    condition: str
    baseline: str
    made: dict[Site, Aligned]
    pairing: SeedPairing
    steps: float
    middles: tuple[float, ...]
    note: str


@dataclass(frozen=True)
class Asked:
    """What is asked of runs; see `dropdiag.analysis.flow_decomposition.table`.

    Raises
    ------
    ArgumentError
        If alpha is no probability.
    """

    conditions: NamesOrAll = None
    baseline: str | None = None
    until: int | None = None
    match: Mapping[str, str] | None = None
    alpha: float = 0.05
    bins: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ArgumentError(f"alpha must lie between 0 and 1, got {self.alpha!r}")


class _Read(NamedTuple):
    """Means of runs, in bins with the mean step of each, up to a last step."""

    means: list[Means]
    middles: tuple[float, ...]
    until: int | None


def sides_of_conditions(runs: Run | Runs, asked: Asked) -> Iterator[Side]:
    """Yield each condition beside the baseline."""
    every, given = as_runs(runs), asked.baseline
    base = baseline_of(every) if given is None else check("condition", [given], every.conditions)[0]
    others = [name for name in check("condition", asked.conditions, every.conditions) if name != base]
    if not others:
        raise NotRecordedError(f"there is no condition beside {base!r} to compare; per_run() has the terms of each run")
    check_match(every, base, asked.match)
    ranges = step_ranges(every)

    @cache
    def read(last: int | None) -> _Read:
        place, middles = _bins(every, [base, *others], last, asked.bins)
        found = averaged(every, [base, *others], until=last, bins=place, count=len(middles))
        return _Read(found, middles, last)

    for name in others:
        found = read(ranges[frozenset((name, base))].until if asked.until is None else asked.until)
        mine = [one for one in found.means if one.condition in (name, base)]
        yield _side(every, (name, base), found._replace(means=mine), asked.match)


def _bins(runs: Runs, conditions: list[str], until: int | None, bins: int) -> tuple[Bins | None, tuple[float, ...]]:
    if bins == 1:
        return None, (0.0,)
    known = scheduled(runs, conditions, until)
    numbers = pd.factorize(step_bins(pd.Series(known), bins))[0].astype(np.int64)
    if not known.size:
        return None, (0.0,)

    def place(given: Integers) -> Integers:
        at = np.searchsorted(known, given).clip(max=known.size - 1)
        return np.where(known[at] == given, numbers[at], -1)

    return place, tuple(np.bincount(numbers, known) / np.bincount(numbers))


def _side(runs: Runs, names: tuple[str, str], read: _Read, match: Mapping[str, str] | None) -> Side:
    (condition, base), found = names, read.means
    kept, notes = _kept(runs, found, read.until)
    pairing = pair_by_seed(runs, condition, base)
    missing = [name for name in (condition, base) if not any(one.condition == name for one in kept)]
    activations = _activations(runs, base, found)
    if missing:
        problem = f"no run of {missing[0]!r} {'is left' if notes else 'holds the decomposition'}"
        made = {site: Aligned(problem=problem) for site in activations}
    else:
        called = {other: one for one, other in matched(runs, base, condition, match).layers.items()}
        made = {site: align(kept, base, called, site) for site in activations}
    count = float(np.mean([one.steps.size for one in kept])) if kept else np.nan
    return Side(condition, base, made, pairing, count, read.middles, "; ".join([*notes, *_told(pairing, found)]))


def _activations(runs: Runs, base: str, found: list[Means]) -> list[Site]:
    """Activations of the baseline's chains; where it has none, of the other condition's."""
    own = [one for one in found if one.condition == base] or found
    return runs.places.sorted({site for one in own for site in one.chain})


def _told(pairing: SeedPairing, found: list[Means]) -> Iterator[str]:
    if pairing.note:
        yield pairing.note
    if pairing.alone:
        yield f"{len(pairing.alone)} runs left out, for no run has their seed on the other side"
    known = {one.run for one in found}
    lost = [run for run in pairing.runs if run not in known]
    if lost:
        yield f"{some(lost)}: without the decomposition"


def _kept(runs: Runs, found: list[Means], until: int | None) -> tuple[list[Means], list[str]]:
    """Leave out runs by the rules of `dropdiag.compare`: those that end early, and those that diverged."""
    lengths = {label: int(run.meta.get("steps") or 0) for label, run in zip(runs.labels(), runs, strict=True)}
    kept, notes = [], []
    for one in found:
        if until is not None and 0 < lengths[one.run] < until:
            notes.append(f"{one.run}: at step {lengths[one.run]:,} it has not reached step {until:,}")
        elif one.lost > LOST * one.recorded:
            notes.append(f"{one.run}: {one.lost:,} of {one.recorded:,} gradients are not finite")
        else:
            kept.append(one)
    return kept, notes
