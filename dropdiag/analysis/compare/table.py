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
from dropdiag.analysis.compare.measures import DISTANCE, LOG_RATIO, Measure, measure_of
from dropdiag.analysis.compare.pairing import Sides, finite
from dropdiag.analysis.compare.step_ranges import Window, within
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.schema import QUANTITIES

COLUMNS: Final = [
    "condition", "baseline", "layer", "call", "quantity", "measure", "scale", "unit", "effect", "low", "high",
    "interval", "value", "baseline_value", "null", "baseline_null", "p", "p_attainable", "p_holm", "test", "n",
    "n_baseline", "paired", "steps", "note",
]  # fmt: skip
_NAN: Final = float("nan")


@dataclass(frozen=True)
class Settings:
    """How intervals are made: as in `compare`."""

    confidence: float = 0.95
    n_boot: int = 2000
    seed: int = 0


def effect_of(
    measure: Measure, condition: Mapping[str, float], baseline: Mapping[str, float], sides: Sides, settings: Settings,
    *, threshold: float = 0.0,
) -> tuple[Effect | None, Sides]:  # fmt: skip
    """Take a measure's effect from one value a run.

    Parameters
    ----------
    measure : Measure
    condition, baseline : mapping of str to float
        Label of a run -> value.
    sides : Sides
    settings : Settings
    threshold : float
        Taken off the effect, so that p is that of the threshold.

    Returns
    -------
    effect : Effect or None
        On the measure's scale, less the threshold; None where a side has no value.
    used : Sides
        The runs that have one.
    """
    logs = measure.scale == LOG_RATIO
    mine, theirs = (finite(side, positive=logs) for side in (condition, baseline))
    used = sides.having(mine, theirs)
    if not used.condition or not used.baseline:
        return None, used
    a, b = (np.array([values[label] for label in labels])
            for values, labels in ((mine, used.condition), (theirs, used.baseline)))  # fmt: skip
    a, b = (np.log(a), np.log(b)) if logs else (a, b)
    return mean_difference(a - threshold, b, paired=used.paired, **asdict(settings)), used


@dataclass(frozen=True)
class Compared:
    """A condition beside its baseline."""

    condition: str
    baseline: str
    sides: Sides
    settings: Settings
    window: Window


def rows_of(
    values: pd.DataFrame,
    distributions: Mapping[str, pd.DataFrame],
    pair: Compared,
    matched: Matched,
    layers: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of the table of one condition, in the baseline's network order.

    Parameters
    ----------
    values, distributions
        As `dropdiag.analysis.compare.measures.gather` returns them, the layers called as in the baseline.
    pair : Compared
    matched : Matched
    layers : sequence of str
        Layers of the baseline that are wanted.
    """
    order = {name: i for i, name in enumerate(matched.layers)}
    rows = [*_measured(values, pair), *_distances(distributions, pair)]
    wanted = set(layers) & set(order)
    rows = [row for row in rows if row["layer"] is None or row["layer"] in wanted]
    for row in rows:
        row["note"] = "; ".join(filter(None, [_place(row["layer"], matched), row["note"]]))
    rows.sort(key=lambda row: (order.get(row["layer"], len(order)), row["call"]))
    return rows


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame, with Holm's p over the layers of a condition and measure."""
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


def _measured(values: pd.DataFrame, pair: Compared) -> Iterator[dict[str, Any]]:
    values = within(values, pair.window)
    nulls, notes = by_site(values, "null"), by_site(values, "note")
    for (name, layer, call), sides in by_site(values).items():
        mine, theirs = (sides.get(one, {}) for one in (pair.condition, pair.baseline))
        if not mine or not theirs:
            continue
        measure = measure_of(name)
        effect, used = effect_of(measure, mine, theirs, pair.sides, pair.settings)
        null, other = (nulls[name, layer, call][one] for one in (pair.condition, pair.baseline))
        said = {**notes[name, layer, call][pair.condition], **notes[name, layer, call][pair.baseline]}
        yield _row(measure, (layer, call), effect, pair, used, said=said) | {
            "value": _mean(mine, used.condition), "baseline_value": _mean(theirs, used.baseline),
            "null": _mean(null, used.condition), "baseline_null": _mean(other, used.baseline),
        }  # fmt: skip


def _mean(values: Mapping[str, float], runs: Sequence[str]) -> float:
    known = [values[run] for run in runs if np.isfinite(values[run])]
    return float(np.mean(known)) if known else _NAN


def _distances(distributions: Mapping[str, pd.DataFrame], pair: Compared) -> Iterator[dict[str, Any]]:
    for quantity, frame in distributions.items():
        unit = QUANTITIES[quantity].unit
        for site, part in frame.groupby(["layer", "call"], sort=False):
            mine, theirs = (_histograms(part[part["condition"] == one]) for one in (pair.condition, pair.baseline))
            used = pair.sides.having(mine, theirs)
            if not used.condition or not used.baseline:
                continue
            pooled = PooledCounts([mine[r] for r in used.condition] + [theirs[r] for r in used.baseline])
            for kind, statistic, of in (
                ("w1", pooled.wasserstein, unit),
                ("energy", pooled.energy, f"square root of {unit}"),
                ("js_bits", pooled.jensen_shannon, "bits"),
            ):
                effect = assess(statistic, used.design(), floor=0.0, **asdict(pair.settings))
                yield _row(Measure(f"{quantity}_{kind}", quantity, DISTANCE, of), site, effect, pair, used)


def _histograms(frame: pd.DataFrame) -> dict[str, Histogram]:
    return dict(zip(frame["run"], frame["histogram"], strict=True))


def _row(
    measure: Measure,
    site: Any,
    effect: Effect | None,
    pair: Compared,
    used: Sides,
    *,
    said: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    nothing = Effect(_NAN, _NAN, _NAN, "none", _NAN, _NAN, "none", len(used.condition), len(used.baseline), used.paired)
    layer, call = site
    flow = measure.name == "gradient_flow"
    of_runs = told({label: (said or {}).get(label, "") for label in (*pair.sides.condition, *pair.sides.baseline)})
    notes = [pair.window.note if flow else "", _note(measure, effect, pair.sides, used), of_runs]
    return {
        "condition": pair.condition, "baseline": pair.baseline, "layer": layer if isinstance(layer, str) else None,
        "call": int(call), "quantity": measure.quantity, "measure": measure.name, "scale": measure.scale,
        "unit": measure.unit, **asdict(effect or nothing), "value": _NAN, "baseline_value": _NAN, "null": _NAN,
        "baseline_null": _NAN, "steps": float(pair.window.steps or _NAN) if flow else _NAN,
        "note": "; ".join(filter(None, notes)),
    }  # fmt: skip


def _note(measure: Measure, effect: Effect | None, sides: Sides, used: Sides) -> str:
    """Say what is missing, and why."""
    had, have = (len(side.condition) + len(side.baseline) for side in (sides, used))
    notes = []
    if sides.alone:
        notes.append(f"{len(sides.alone)} runs left out, for no run has their seed on the other side")
    if have < had:
        need = "positive finite" if measure.scale == LOG_RATIO else "finite"
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
