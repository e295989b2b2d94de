"""What does dropout's net variance do to the gradient of saturated nodes? Figure 4, measured.

Taken from runs in which `Recorder.net_variance` was called, or from what `dropdiag.net_variance` gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.saturation import activation_of, areas_of, by_label
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, SITE, check, histograms, scalars
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.net_variance import NetVariance
from dropdiag.store.reader import Run, Runs, as_runs

Source: TypeAlias = Run | Runs | NetVariance
Floats: TypeAlias = NDArray[np.float64]

MEASURES: Final = (
    "net_variance_mean",
    "net_variance_closed_form_mean",
    "saturated_mean_share",
    "gradient_probability",
    "slope_over_masks",
    "slope_at_mean",
)
QUANTILES: Final = {"lowest": 0.05, "low": 0.25, "median": 0.5, "high": 0.75, "highest": 0.95}
MASKS: Final = "masks"
"""The phase in which `Recorder.net_variance` records unless told otherwise."""
ONE_MODEL: Final = "model"
"""The condition of what was measured on a model, outside of any run."""


def table(
    source: Source,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Net variance and the gradient of saturated nodes, layer by layer.

    Parameters
    ----------
    source : Run, Runs or NetVariance
    layers, conditions : sequence of str, optional
        All, or these in this order.
    phase : str, optional
        Phase of the measurement in the runs, where it was given one; by default "masks".

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; then, each a mean over runs at their last
        measurement, with its ``_sd``: net_variance_mean (net-value units squared), net_variance_closed_form_mean (what
        the dropout right before the layer gives by itself; missing where there is none), saturated_mean_share (of net
        values whose mean over masks lies in the saturation area), gradient_probability (share of masks in which those
        leave it), slope_over_masks and slope_at_mean (mean of abs(phi') over masks, and at the means); seeds; missing.

    Raises
    ------
    ArgumentError
        For an unknown layer or condition.
    NotRecordedError
        If no run holds a net variance.
    """
    if isinstance(source, NetVariance):
        rows = source.table.assign(condition=ONE_MODEL, run=ONE_MODEL)
        rows = _chosen(rows, layers, conditions)
    else:
        rows = _last_rows(source, layers, conditions, phase)
    return over_seeds(rows, GROUP, MEASURES)


def spread(
    source: Source,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Distribution of the net variance over a layer's net values, runs pooled.

    Returns
    -------
    DataFrame
        One row a condition and layer: condition, layer, call, n (net values), lowest, low, median, high, highest
        (quantiles .05, .25, .5, .75, .95), in net-value units squared; to within a bin, 1/64 of the value.
    """
    rows = []
    for key, pooled in _pooled(_histograms(source, "net_variance", layers, conditions, phase)).items():
        ends = pooled.quantile(list(QUANTILES.values()))
        rows.append({**dict(zip(GROUP, key, strict=True)), "n": pooled.n, **dict(zip(QUANTILES, ends, strict=True))})
    return pd.DataFrame(rows)


def wandering(
    source: Source,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    phase: str | None = None,
    limits: tuple[float, float] | None = None,
    bins: int = 72,
) -> pd.DataFrame:
    """Where masks take the net values whose mean lies in the saturation area, runs pooled.

    Parameters
    ----------
    source, layers, conditions, phase
        As in `table`.
    limits : (float, float), optional
        First and last net value.
    bins : int
        Equal bins between them; a border of the saturation area cuts one in two.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, left, right (net-value units), means, masks: density of those means, and of the
        same nodes' net values over masks. NaN where no mean lies in the saturation area.
    """
    means = _pooled(_histograms(source, "masked_net_mean", layers, conditions, phase))
    wandered = _wanderers(source, conditions, phase)
    borders = areas(source, layers=layers, conditions=conditions, phase=phase)
    first, last = limits or _limits(wandered.values(), borders)
    by_site = {
        key: part[["low", "high"]].to_numpy(dtype=np.float64) for key, part in borders.groupby(GROUP, sort=False)
    }
    parts = []
    for key, resting in means.items():
        wanderers = wandered.get(key, Histogram.from_values([]))
        ends = by_site.get(key, np.empty((0, 2)))
        inner = ends[np.isfinite(ends) & (ends > first) & (ends < last)]
        edges = np.unique(np.concatenate([np.linspace(first, last, bins + 1), inner]))
        centre = 0.5 * (edges[1:] + edges[:-1])
        inside = np.logical_or.reduce([np.zeros(centre.size, bool), *((centre > a) & (centre < b) for a, b in ends)])
        frame = {"left": edges[:-1], "right": edges[1:]}
        frame["means"] = _density(np.where(inside, resting.rebin(edges), 0.0), edges)
        frame["masks"] = _density(wanderers.rebin(edges), edges)
        parts.append(pd.DataFrame({**dict(zip(GROUP, key, strict=True)), **frame}))
    return pd.concat(parts, ignore_index=True)


def areas(
    source: Source,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Intervals of the saturation area: condition, layer, call, low, high (infinite at open ends)."""
    if not isinstance(source, NetVariance):
        found = areas_of(source, _histograms(source, "masked_net_mean", layers, conditions, phase))
        return found[[*GROUP, "low", "high"]]
    rows = [
        {"condition": ONE_MODEL, "layer": layer.layer, "call": layer.call, "low": low, "high": high}
        for layer in source
        for low, high in (*layer.left, *layer.right)
    ]
    return _chosen(pd.DataFrame(rows, columns=[*GROUP, "low", "high"]), layers, conditions)


def slopes(
    source: Source,
    limits: tuple[float, float],
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """abs(phi') between two net values: condition, layer, call, z, slope; without rows where it is not known."""
    z = line_centres()
    inside = (z >= limits[0]) & (z <= limits[1]) & ((np.abs(z) > 1e-3) | (np.arange(z.size) % 64 == 0))
    rows = _histograms(source, "masked_net_mean", layers, conditions, phase).drop_duplicates(GROUP)
    parts = []
    for row in rows.to_dict("records"):
        derivative = _derivative(source, row)
        if derivative is not None:
            key = {name: row[name] for name in GROUP}
            parts.append(pd.DataFrame({**key, "z": z[inside], "slope": derivative[inside]}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*GROUP, "z", "slope"])


def _derivative(source: Source, row: dict[Any, Any]) -> Floats | None:
    if isinstance(source, NetVariance):
        return next(a.derivative for a in source if (a.layer, a.call) == (row["layer"], row["call"]))
    run = by_label(source)[row["run"]]
    name = activation_of(run, row["layer"], row["call"])
    return None if name is None else run.derivative(name)[1]


def _phase(runs: Run | Runs, phase: str | None) -> str | None:
    """Return the phase to read: that of `Recorder.net_variance` unless another is named."""
    if phase is not None:
        return phase
    return MASKS if any(MASKS in run.phases("net_variance") for run in as_runs(runs)) else None


def _histograms(
    source: Source,
    quantity: str,
    layers: Sequence[str] | None,
    conditions: Sequence[str] | None,
    phase: str | None,
) -> pd.DataFrame:
    """One row a run and site, with the column histogram."""
    if not isinstance(source, NetVariance):
        chosen = _phase(source, phase)
        return histograms(source, quantity, layers=layers, conditions=conditions, phase=chosen)
    rows = [
        {
            "condition": ONE_MODEL,
            "run": ONE_MODEL,
            "layer": a.layer,
            "call": a.call,
            "histogram": a.histograms()[quantity],
        }
        for a in source
    ]
    return _chosen(pd.DataFrame(rows), layers, conditions)


def _wanderers(source: Source, conditions: Sequence[str] | None, phase: str | None) -> dict[Any, Histogram]:
    """Pooled net values of saturated nodes; a layer (or all of them) without any is not recorded."""
    try:
        return _pooled(_histograms(source, "wandering_net_value", None, conditions, phase))
    except NotRecordedError:
        return {}


def _pooled(frame: pd.DataFrame) -> dict[Any, Histogram]:
    """Histograms summed over runs, by (condition, layer, call)."""
    return {key: reduce(add, part["histogram"]) for key, part in frame.groupby(GROUP, sort=False, observed=True)}


def _last_rows(
    source: Run | Runs, layers: Sequence[str] | None, conditions: Sequence[str] | None, phase: str | None
) -> pd.DataFrame:
    """Return the measures of each run at its last measurement, a column each."""
    keys = ["condition", "seed", "run", *SITE]
    known = _histograms(source, "net_variance", layers, conditions, phase)
    phase = str(known["phase"].iloc[0])
    whole: pd.DataFrame | None = None
    for quantity in MEASURES:
        frame = scalars(source, quantity, layers=layers, conditions=conditions, phase=phase)
        last = frame[frame["step"] == frame.groupby(["run"], observed=True)["step"].transform("max")]
        column = last[[*keys, "value"]].rename(columns={"value": quantity})
        whole = column if whole is None else whole.merge(column, on=keys, how="outer", sort=False)
    assert whole is not None  # noqa: S101 - there are measures
    order = check("condition", conditions, as_runs(source).conditions)
    layer_order = list(dict.fromkeys(known["layer"]))
    place = whole["condition"].map(order.index).astype(int) * len(layer_order)
    return whole.loc[(place + whole["layer"].map(layer_order.index).astype(int)).sort_values(kind="stable").index]


def _chosen(frame: pd.DataFrame, layers: Sequence[str] | None, conditions: Sequence[str] | None) -> pd.DataFrame:
    check("condition", conditions, [ONE_MODEL])
    names = check("layer", layers, list(dict.fromkeys(frame["layer"])))
    place = {name: i for i, name in enumerate(names)}
    kept = frame[frame["layer"].isin(names)]
    return kept.sort_values("layer", key=lambda column: column.map(place), kind="stable").reset_index(drop=True)


def _limits(wandered: Iterable[Histogram], borders: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold nearly all of the wandering net values and the borders of the areas."""
    ends = borders[["low", "high"]].to_numpy(dtype=np.float64)
    found = [1.3 * end for end in ends[np.isfinite(ends)]]
    for histogram in wandered:
        if histogram.n_finite:
            found += list(histogram.quantile([0.002, 0.998]))
    if not found:
        raise ArgumentError("no net value has its mean in a saturation area, so that there is nothing to draw")
    return min(*found, -1.0), max(*found, 1.0)


def _density(counts: Floats, edges: Floats) -> Floats:
    total = counts.sum()
    return counts / (total * np.diff(edges)) if total else np.full(counts.size, np.nan)
