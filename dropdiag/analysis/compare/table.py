"""The table of effects: one row a condition, layer and measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.distances import PooledCounts
from dropdiag.analysis.compare.effects import Effect, assess, holm, mean_difference
from dropdiag.analysis.compare.matching import Matched
from dropdiag.analysis.compare.measurements import CompareSettings, Measurements
from dropdiag.analysis.compare.measures import W1, Measure
from dropdiag.analysis.compare.resampling import Design
from dropdiag.analysis.compare.step_ranges import StepRange
from dropdiag.analysis.seeds import SeedPairing, sides_of
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.schema import DISTANCE

COLUMNS: Final = [
    "condition", "baseline", "layer", "call", "quantity", "measure", "scale", "unit", "effect", "low", "high",
    "interval", "value", "baseline_value", "null", "baseline_null", "p", "p_attainable", "p_holm", "test", "n",
    "n_baseline", "paired", "steps", "note",
]  # fmt: skip
_NAN: Final = float("nan")


def effect_of(
    measure: Measure, values: Mapping[str, float], pairing: SeedPairing, settings: CompareSettings,
    *, threshold: float = 0.0,
) -> tuple[Effect | None, SeedPairing]:  # fmt: skip
    """Take a measure's effect from one value a run.

    Parameters
    ----------
    measure : Measure
    values : mapping of str to float
        Label of a run, of either condition -> value.
    pairing : SeedPairing
    settings : CompareSettings
    threshold : float
        Taken off the effect, so that p is that of the threshold.

    Returns
    -------
    effect : Effect or None
        On the measure's scale, less the threshold; None where a side has no value.
    used : SeedPairing
        The runs that have one.
    """
    used, mine, theirs = sides_of(values, pairing, logs=measure.logs)
    if not mine.size or not theirs.size:
        return None, used
    return mean_difference(mine - threshold, theirs, paired=used.paired, **asdict(settings)), used


@dataclass(frozen=True)
class _Pair:
    """A condition beside its baseline."""

    condition: str
    baseline: str
    pairing: SeedPairing
    settings: CompareSettings
    step_range: StepRange


def rows_of(measurements: Measurements, condition: str, matched: Matched) -> list[dict[str, Any]]:
    """Rows of the table of one condition, in the baseline's network order.

    Parameters
    ----------
    measurements : Measurements
    condition : str
        Other than the baseline.
    matched : Matched
        Its layers beside those of the baseline.
    """
    names = condition, measurements.baseline
    pair = _Pair(*names, measurements.pairing(*names), measurements.settings, measurements.step_range(*names))
    order = {name: i for i, name in enumerate(matched.layers)}
    wanted = {None, *set(measurements.layers) & set(order)}
    rows = [row for row in (*_measured(measurements, pair), *_distances(measurements, pair)) if row["layer"] in wanted]
    for row in rows:
        row["note"] = "; ".join(filter(None, [_place(row["layer"], matched), row["note"]]))
    rows.sort(key=lambda row: (order.get(row["layer"], len(order)), row["call"]))
    return rows


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame, with Holm's p over the layers of a condition and measure."""
    # over layers and not over measures: which measures to look at is to be chosen beforehand
    table = pd.DataFrame(rows, columns=COLUMNS)
    adjusted = table.groupby(["condition", "measure"], sort=False)["p"].transform(lambda p: holm(p.to_numpy()))
    return table.assign(p_holm=adjusted.astype("float64"))


def by_site(
    values: pd.DataFrame, column: str = "value"
) -> dict[tuple[str, str | None, int], dict[str, dict[str, Any]]]:
    """Return a column by measure, layer and call; then by condition; then by the run's label."""
    found: dict[tuple[str, str | None, int], dict[str, dict[str, Any]]] = {}
    columns = (values[name].tolist() for name in ("measure", "layer", "call", "condition", "run", column))
    for measure, layer, call, condition, run, value in zip(*columns, strict=True):
        site = measure, layer if isinstance(layer, str) else None, int(call)
        found.setdefault(site, {}).setdefault(condition, {})[run] = value
    return found


def _measured(measurements: Measurements, pair: _Pair) -> Iterator[dict[str, Any]]:
    values = measurements.of(pair.condition, pair.baseline)
    nulls, notes = by_site(values, "null"), by_site(values, "note")
    for site, sides in by_site(values).items():
        # a layer or quantity of one condition alone has nothing beside it
        if len(sides) < 2:
            continue
        both = {run: value for side in sides.values() for run, value in side.items()}
        measure = measurements.measure(site[0])
        effect, used = effect_of(measure, both, pair.pairing, pair.settings)
        said = {run: note for side in notes[site].values() for run, note in side.items()}
        null, other = (nulls[site][one] for one in (pair.condition, pair.baseline))
        yield _row(measure, site[1:], effect, pair, used, said=said) | {
            "value": _mean(both, used.condition), "baseline_value": _mean(both, used.baseline),
            "null": _mean(null, used.condition), "baseline_null": _mean(other, used.baseline),
        }  # fmt: skip


def _mean(values: Mapping[str, float], runs: Sequence[str]) -> float:
    known = [values[run] for run in runs if np.isfinite(values[run])]
    return float(np.mean(known)) if known else _NAN


def _distances(measurements: Measurements, pair: _Pair) -> Iterator[dict[str, Any]]:
    every = measurements.histograms
    both = every[every["condition"].isin([pair.condition, pair.baseline])]
    for (quantity, layer, call), part in both.groupby(["quantity", "layer", "call"], sort=False):
        histograms: dict[str, Histogram] = dict(zip(part["run"], part["histogram"], strict=True))
        used = pair.pairing.having(histograms, histograms)
        if not used.condition or not used.baseline:
            continue
        # seeds are pooled by their counts; a run that recorded more values weighs more
        pooled = PooledCounts([histograms[run] for run in used.runs])
        design = Design(len(used.condition), len(used.baseline), used.paired)
        effect = assess(pooled.wasserstein, pooled.counts, design, floor=0.0, **asdict(pair.settings))
        yield _row(measurements.measure(f"{quantity}{W1}"), (layer, call), effect, pair, used)


def _row(
    measure: Measure,
    site: Any,
    effect: Effect | None,
    pair: _Pair,
    used: SeedPairing,
    *,
    said: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    design = Design(len(used.condition), len(used.baseline), used.paired)
    layer, call = site
    flow = measure.name == "gradient_flow"
    of_runs = told({label: (said or {}).get(label, "") for label in pair.pairing.runs})
    notes = [pair.step_range.note if flow else "", _note(measure, effect, pair.pairing, used), of_runs]
    return {
        "condition": pair.condition, "baseline": pair.baseline, "layer": layer if isinstance(layer, str) else None,
        "call": int(call), "quantity": measure.quantity, "measure": measure.name, "scale": measure.scale,
        "unit": measure.unit, **asdict(effect or Effect.untested(_NAN, design)),
        **dict.fromkeys(("value", "baseline_value", "null", "baseline_null"), _NAN),
        "steps": float(pair.step_range.steps or _NAN) if flow else _NAN,
        "note": "; ".join(filter(None, notes)),
    }  # fmt: skip


def _note(measure: Measure, effect: Effect | None, pairing: SeedPairing, used: SeedPairing) -> str:
    """Say what is missing, and why."""
    had, have = len(pairing.runs), len(used.runs)
    notes = []
    if pairing.alone:
        notes.append(f"{len(pairing.alone)} runs left out, for no run has their seed on the other side")
    if have < had:
        need = "positive finite" if measure.logs else "finite"
        how = ", with their partners" if used.paired else ""
        notes.append(f"{had - have} of {had} runs left out{how}: no {need} value")
    if effect is None:
        return "; ".join([*notes, "no value on one side"])
    if effect.test == "none":
        notes.append("one seed on a side: no interval, no p")
    elif effect.without_spread and measure.scale != DISTANCE:
        notes.append("the seeds do not differ: the interval says nothing")
    return "; ".join(notes)


def told(notes: Mapping[str, str]) -> str:
    """Join what is said of runs: those of which the same is said together."""
    by: dict[str, list[str]] = {}
    for run, note in notes.items():
        if note:
            by.setdefault(note, []).append(run)
    return "; ".join(f"{', '.join(labels[:3])}{f' and {len(labels) - 3} more' if len(labels) > 3 else ''}: {note}"
                     for note, labels in by.items())  # fmt: skip


def _place(layer: str | None, matched: Matched) -> str:
    if layer is None or matched.layers.get(layer) in (layer, None):
        return ""
    how = "by its position" if layer in matched.by_position else "as given by match="
    return f"matched with {matched.layers[layer]!r} {how}"
