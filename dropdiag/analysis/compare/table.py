"""The table of effects: one row a condition, layer and measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.effects import Effect, assess, holm
from dropdiag.analysis.compare.matching import Matched
from dropdiag.analysis.compare.measurements import Pair, Site, Value
from dropdiag.analysis.compare.measures import W1, Measure
from dropdiag.analysis.compare.resampling import Design
from dropdiag.analysis.seeds import SeedPairing
from dropdiag.formatting import some
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.schema import DISTANCE

COLUMNS: Final = [
    "condition", "baseline", "layer", "call", "quantity", "measure", "scale", "unit", "effect", "low", "high",
    "interval", "value", "baseline_value", "null", "baseline_null", "p", "p_attainable", "p_t", "p_holm", "test", "n",
    "n_baseline", "paired", "steps", "note",
]  # fmt: skip
FLOW: Final = "gradient_flow"
_NAN: Final = float("nan")


class _Found(NamedTuple):
    """The effect of one site, the runs that it is taken from, and what was measured of each run."""

    site: Site
    effect: Effect | None
    used: SeedPairing
    values: Mapping[str, Value]


def rows_of(pair: Pair, matched: Matched) -> list[dict[str, Any]]:
    """Rows of the table of one condition beside the baseline of all, in the baseline's network order.

    Parameters
    ----------
    pair : Pair
    matched : Matched
        The condition's layers beside those of the baseline.
    """
    rows = [_row(pair, matched, found) for found in (*_differences(pair), *_distances(pair))]
    return sorted(rows, key=lambda row: pair.measurements.key(row["layer"], row["call"]))


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame, with Holm's p over the layers of a condition and measure."""
    # over layers and not over measures: which measures to look at is to be chosen beforehand
    table = pd.DataFrame(rows, columns=COLUMNS)
    # the network as a whole is none of its layers
    groups = [table["condition"], table["measure"], table["layer"].isna()]
    adjusted = table["p"].groupby(groups, sort=False).transform(lambda p: holm(p.to_numpy()))
    return table.assign(p_holm=adjusted.astype("float64"))


def _differences(pair: Pair) -> Iterator[_Found]:
    for site, values in pair.sites.items():
        measure = pair.measurements.measure(site.measure)
        effect, used = pair.effect(measure, {run: one.value for run, one in values.items()})
        yield _Found(site, effect, used, values)


def _distances(pair: Pair) -> Iterator[_Found]:
    every = pair.measurements.histograms
    both = every["condition"].isin([pair.condition, pair.baseline]) & every["layer"].isin(pair.measurements.layers)
    key: Any
    for key, part in every[both].groupby(["quantity", "layer", "call"], sort=False):
        histograms: dict[str, Histogram] = dict(zip(part["run"], part["histogram"], strict=True))
        used = pair.pairing.having(histograms)
        if not used.condition or not used.baseline:
            continue
        # seeds are pooled by their counts; a run that recorded more values weighs more
        pooled = PooledCounts([histograms[run] for run in used.runs])
        settings = pair.measurements.settings.of_effects
        effect = assess(pooled.wasserstein, pooled.counts, _design(used), floor=0.0, **settings)
        quantity, layer, call = key
        yield _Found(Site(f"{quantity}{W1}", layer, int(call)), effect, used, {})


def _row(pair: Pair, matched: Matched, found: _Found) -> dict[str, Any]:
    site, effect, used, values = found
    measure = pair.measurements.measure(site.measure)
    mine, theirs = ([values[run] for run in side if run in values] for side in (used.condition, used.baseline))
    notes = [_place(site.layer, matched), *_notes(pair, measure, effect, used)]
    notes.append(told({run: values[run].note for run in pair.pairing.runs if run in values}))
    return {
        "condition": pair.condition, "baseline": pair.baseline, "layer": site.layer, "call": site.call,
        "quantity": measure.quantity, "measure": measure.name, "scale": measure.scale, "unit": measure.unit,
        **asdict(effect or Effect.untested(_NAN, _design(used))),
        "value": _mean(one.value for one in mine), "baseline_value": _mean(one.value for one in theirs),
        "null": _mean(one.null for one in mine), "baseline_null": _mean(one.null for one in theirs),
        "steps": float(pair.step_range.steps or _NAN) if measure.name == FLOW else _NAN,
        "note": "; ".join(filter(None, notes)),
    }  # fmt: skip


def _design(used: SeedPairing) -> Design:
    return Design(len(used.condition), len(used.baseline), used.paired)


def _mean(numbers: Iterable[float]) -> float:
    known = [number for number in numbers if np.isfinite(number)]
    return float(np.mean(known)) if known else _NAN


def _notes(pair: Pair, measure: Measure, effect: Effect | None, used: SeedPairing) -> Iterator[str]:
    """Say what the numbers are taken over, what is missing, and why."""
    if measure.name == FLOW:
        yield pair.step_range.note
    alone, had, have = len(pair.pairing.alone), len(pair.pairing.runs), len(used.runs)
    yield pair.pairing.note
    if alone:
        yield f"{alone} runs left out, for no run has their seed on the other side"
    if have < had:
        need = "positive finite" if measure.logs else "finite"
        how = ", with their partners" if used.paired else ""
        yield f"{had - have} of {had} runs left out{how}: no {need} value"
    if effect is None:
        yield "no value on one side"
    elif effect.test == "none":
        yield "one seed on a side: no interval, no p"
    elif effect.without_spread and measure.scale != DISTANCE:
        yield "the seeds do not differ: the interval says nothing"


def told(notes: Mapping[str, str]) -> str:
    """Join what is said of runs: those of which the same is said together."""
    by: dict[str, list[str]] = {}
    for run, note in notes.items():
        by.setdefault(note, []).append(run)
    return "; ".join(f"{some(labels)}: {note}" for note, labels in by.items() if note)


def _place(layer: str | None, matched: Matched) -> str:
    if layer is None or matched.layers.get(layer) in (layer, None):
        return ""
    how = "by its position" if layer in matched.by_position else "as given by match="
    return f"matched with {matched.layers[layer]!r} {how}"
