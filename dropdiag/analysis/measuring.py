"""Measure runs of several conditions: everything that is taken of them, layers called as the baseline calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from dropdiag.analysis.compare.copies import distinct
from dropdiag.analysis.compare.gather import gather
from dropdiag.analysis.compare.lenient import Problems, attempt
from dropdiag.analysis.compare.matching import (
    Matched,
    check_match,
    layer_mismatches,
    matched,
    of_condition,
    sites,
)
from dropdiag.analysis.compare.measurements import CompareSettings, Measurements
from dropdiag.analysis.compare.measures import quantities_of_runs
from dropdiag.analysis.compare.reading import relabelled
from dropdiag.analysis.compare.step_ranges import step_ranges
from dropdiag.analysis.flow.measures import flow_terms
from dropdiag.analysis.gradient_flow import Steps
from dropdiag.analysis.select import check, today
from dropdiag.store.reader import Runs, add_problem


class Measured(NamedTuple):
    """What was measured, and how the layers of the conditions stand beside those of the baseline."""

    measurements: Measurements
    matches: Mapping[str, Matched]


def measure_runs(
    every: Runs,
    base: str,
    problems: Problems,
    settings: CompareSettings,
    *,
    layers: Sequence[str] | None = None,
    match: Mapping[str, str] | None = None,
    steps: Steps = None,
) -> Measured:
    """Take all measures of all runs.

    Parameters
    ----------
    every : Runs
        Of two conditions or more.
    base : str
        The condition whose names of layers count.
    problems : list of str
        What could not be read or compared is added.
    settings : CompareSettings
    layers, match, steps
        As in `dropdiag.analysis.comparison.compare`.
    """
    check_match(every, base, match)
    known = sites(every, base)
    wanted = check("layer", today(every, layers), known)
    problems += layer_mismatches(every)
    if every.places.problem:
        add_problem(problems, f"{every.places.problem}.")
    matches = {name: matched(every, base, name, match) for name in every.conditions if name != base}
    ranges = step_ranges(every, chosen=steps is not None)
    quantities = quantities_of_runs(every)
    beside = {name: {other: one for one, other in them.layers.items()} for name, them in matches.items()}
    beside[base] = {name: name for name in known}
    untils = {one.until for one in ranges.values()}
    found = gather(every, quantities, problems, untils, beside, steps=steps)
    terms = attempt(every, lambda some: relabelled(flow_terms(some, untils), some, every), problems)
    found = found.adding(terms)
    every, *frames = distinct(every, *found, problems)
    values, histograms, series = (_as_in_baseline(frame, matches) for frame in frames)
    names = tuple(name for name in known if name in wanted)  # in network order, whatever order they were asked for in
    called = {name: beside.layers for name, beside in matches.items()}
    places = of_condition(every, base).places
    measurements = Measurements(
        every, (base, *matches), names, values, histograms, ranges, settings, quantities, called, places, series
    )
    return Measured(measurements, matches)


def _as_in_baseline(frame: pd.DataFrame, matches: Mapping[str, Matched]) -> pd.DataFrame:
    """Call the layers of each condition as the baseline does; those that match none are left out."""
    names = {(name, other): one for name, beside in matches.items() for one, other in beside.layers.items()}
    sites_of = zip(frame["condition"], frame["layer"], strict=True)
    # what belongs to the network has no layer, and the baseline's layers keep their names
    called = [names.get((condition, layer)) if condition in matches else layer for condition, layer in sites_of]
    renamed = frame.assign(layer=pd.Series(called, index=frame.index, dtype="object"))
    kept = renamed[renamed["layer"].notna() | frame["layer"].isna()]
    return kept.iloc[pd.factorize(kept["condition"])[0].argsort(kind="stable")].reset_index(drop=True)
