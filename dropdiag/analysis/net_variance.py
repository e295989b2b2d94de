"""What does dropout's net variance do to the gradient of saturated nodes? Figure 4, measured.

Taken from runs in which `Recorder.net_variance` was called, or from what `dropdiag.measure.net_variance` gave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.correlation import recorded_with
from dropdiag.analysis.kde import Limits, Wanted
from dropdiag.analysis.saturation import activation_of, areas_of, by_label
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import (
    GROUP,
    KEYS,
    SITE,
    ReadHistograms,
    check,
    of_one_phase,
    pooled,
    read_histograms,
)
from dropdiag.deprecation import renamed
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.net_variance import NetVariance
from dropdiag.store.reader import Run, Runs, as_runs

Floats: TypeAlias = NDArray[np.float64]

MEASURES: Final = (
    "net_variance_mean", "net_variance_closed_form_mean", "saturated_mean_share",
    "gradient_probability", "slope_over_masks", "slope_at_mean",
)  # fmt: skip
HISTOGRAMS: Final = ("net_variance", "masked_net_mean", "wandering_net_value")
DISTANCES: Final = {"saturated_net_mean": "saturated", "gradient_net_mean": "leaving"}
QUANTILES: Final = {"lowest": 0.05, "low": 0.25, "median": 0.5, "high": 0.75, "highest": 0.95}
MASKS: Final = "masks"
"""The phase in which `Recorder.net_variance` records unless told otherwise."""
ONE_MODEL: Final = "model"
"""The condition of what was measured on a model, outside of any run."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Some layers and conditions of a net variance, read once: every function here takes it in place of the source.

    Attributes
    ----------
    source : Run, Runs or NetVariance
    variances, means, masked : DataFrame
        Histograms of the net variance, of the net values' means over masks, and of the net values (mask by mask) whose
        mean is saturated: one row a run and site, columns condition, run, layer, call, histogram among others.
    numbers : DataFrame
        One row a run and site: condition, run, layer, call and a column for each of `MEASURES`, and dropout_masks.
    distances : DataFrame
        The same with two histograms more, saturated and leaving: the means that lie in the saturation area, and each of
        them once for every mask that takes its net value out of it. Missing where the run does not hold them.
    """

    source: Run | Runs | NetVariance
    variances: pd.DataFrame
    means: pd.DataFrame
    masked: pd.DataFrame
    numbers: pd.DataFrame
    distances: pd.DataFrame


Source: TypeAlias = Run | Runs | NetVariance | Measured


def read(source: Source, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None) -> Measured:
    """Read the net variance of some layers and conditions.

    Parameters
    ----------
    source, layers, conditions, phase
        As in `table`; what was read already is returned as it is, whatever the others say.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `table`.

    Examples
    --------
    >>> measured = dd.analysis.net_variance.read(runs, layers=["act2"])
    >>> type(measured).__name__
    'Measured'
    """
    if isinstance(source, Measured):
        return source
    if isinstance(source, NetVariance):
        return _of_model(source, layers, conditions)
    return _of_runs(source, layers, conditions, phase)


def table(
    source: Source, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None
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

    Examples
    --------
    >>> table = dd.analysis.net_variance.table(runs)
    >>> table[["condition", "layer"]]
        condition layer
    0  No dropout  act1
    1  No dropout  act2
    2     Dropout  act1
    3     Dropout  act2
    """
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    return over_seeds(found.numbers, GROUP, MEASURES)


def spread(
    source: Source, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None
) -> pd.DataFrame:
    """Distribution of the net variance over a layer's net values, runs pooled.

    Returns
    -------
    DataFrame
        One row a condition and layer: condition, layer, call, n (net values), lowest, low, median, high, highest
        (quantiles .05, .25, .5, .75, .95), in net-value units squared; to within a bin, 1/64 of the value.

    Examples
    --------
    >>> spread = dd.analysis.net_variance.spread(runs)
    >>> sorted(spread["layer"].unique())
    ['act1', 'act2']
    """
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    rows = [(*key, histogram.n, *histogram.quantile(list(QUANTILES.values())))
            for key, histogram in _pooled(found.variances).items()]  # fmt: skip
    return pd.DataFrame(rows, columns=[*GROUP, "n", *QUANTILES])


def masked_net_values(
    source: Source,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
    limits: Limits = None,
    bins: int = 72,
) -> pd.DataFrame:
    """Distribution over masks of net values whose mean is saturated, runs pooled.

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

    Examples
    --------
    >>> found = dd.analysis.net_variance.masked_net_values(runs, bins=8)
    >>> list(found.columns[:3])
    ['condition', 'layer', 'call']
    """
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    masked, borders = _pooled(found.masked), areas(found)
    window = limits or _limits(masked.values(), borders)
    ends = {key: part[["low", "high"]].to_numpy(np.float64) for key, part in borders.groupby(GROUP, sort=False)}
    parts = []
    for key, means in _pooled(found.means).items():
        area = ends.get(key, np.empty((0, 2)))
        edges, inside = _cut(window, bins, area)
        frame = pd.DataFrame({**dict(zip(GROUP, key, strict=True)), "left": edges[:-1], "right": edges[1:]})
        frame["means"] = _density(np.where(inside, means.rebin(edges), 0.0), edges)
        frame["masks"] = _density(masked[key].rebin(edges) if key in masked else np.zeros(inside.size), edges)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def _cut(window: tuple[float, float], bins: int, area: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Edges of bins that the borders of an area cut, and whether each bin lies in the area."""
    inner = area[np.isfinite(area) & (area > window[0]) & (area < window[1])]
    edges = np.unique(np.concatenate([np.linspace(*window, bins + 1), inner]))
    centre = 0.5 * (edges[1:] + edges[:-1])
    inside = ((centre > area[:, :1]) & (centre < area[:, 1:])).any(axis=0)
    return edges, inside


def areas(
    source: Source, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None
) -> pd.DataFrame:
    """Intervals of the saturation area: condition, layer, call, low, high (infinite at open ends)."""
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    if not isinstance(found.source, NetVariance):
        return areas_of(found.source, found.means)[[*GROUP, "low", "high"]]
    rows = [(ONE_MODEL, a.layer, a.call, low, high) for a in found.source for low, high in (*a.left, *a.right)]
    borders = pd.DataFrame(rows, columns=[*GROUP, "low", "high"])
    return found.means[GROUP].merge(borders, on=GROUP)


def slopes(
    source: Source,
    limits: tuple[float, float],
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """abs(phi') between two net values: condition, layer, call, z, slope; without rows where it is not known."""
    z = line_centres()
    # bins grow ever finer towards 0, far below what a curve can show: one in 64 will do there
    inside = (z >= limits[0]) & (z <= limits[1]) & ((np.abs(z) > 1e-3) | (np.arange(z.size) % 64 == 0))
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    parts = []
    for row in found.means.drop_duplicates(GROUP).to_dict("records"):
        derivative = _derivative(found.source, row)
        if derivative is not None:
            key = {name: row[name] for name in GROUP}
            parts.append(pd.DataFrame({**key, "z": z[inside], "slope": derivative[inside]}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*GROUP, "z", "slope"])


def _derivative(source: Run | Runs | NetVariance, row: dict[Any, Any]) -> Floats | None:
    if isinstance(source, NetVariance):
        return next(a.derivative for a in source if (a.layer, a.call) == (row["layer"], row["call"]))
    run = by_label(source)[row["run"]]
    name = activation_of(run, row["layer"], row["call"])
    return None if name is None else run.derivative(name)[1]


def _of_model(source: NetVariance, layers: Wanted, conditions: Wanted) -> Measured:
    check("condition", conditions, [ONE_MODEL])
    names = check("layer", layers, dict.fromkeys(a.layer for a in source))
    measured = [a for name in names for a in source if a.layer == name]
    keys = pd.DataFrame([(ONE_MODEL, ONE_MODEL, a.layer, a.call) for a in measured], columns=["run", *GROUP])
    held = pd.DataFrame([a.histograms() for a in measured], dtype=object)
    variances, means, masked = (keys.assign(histogram=held[quantity]) for quantity in HISTOGRAMS)
    numbers = keys.assign(dropout_masks=[float(a.masks) for a in measured]).merge(source.table, on=SITE)
    more = held.reindex(columns=list(DISTANCES)).rename(columns=DISTANCES)
    return Measured(source, variances, means, masked, numbers, pd.concat([numbers, more], axis=1))


def _of_runs(source: Run | Runs, layers: Wanted, conditions: Wanted, phase: str | None) -> Measured:
    names = check("condition", conditions, as_runs(source).conditions)
    wanted = [*HISTOGRAMS, *DISTANCES]
    read = read_histograms(source, wanted, conditions=names, phase=phase or MASKS)
    if phase is None and not any(MASKS in phases for phases in read.phases["net_variance"].values()):
        read = read_histograms(source, wanted, conditions=names)  # recorded under another name: the default phase
    else:
        phase = phase or MASKS
    chosen: dict[str, Any] = {"conditions": conditions, "phase": phase}
    variances, means = (of_one_phase(source, read, name, layers=layers, **chosen) for name in HISTOGRAMS[:2])
    try:  # a layer (or all of them) without saturated means is not recorded here, so that none is asked for by name
        masked = of_one_phase(source, read, HISTOGRAMS[2], **chosen)
    except NotRecordedError:
        masked = means[:0]
    numbers = recorded_with(source, variances, (*MEASURES, "dropout_masks"))
    return Measured(source, variances, means, masked, numbers, _with_distances(numbers, read))


def _with_distances(numbers: pd.DataFrame, read: ReadHistograms) -> pd.DataFrame:
    """Rows of the numbers with the histograms that not every run holds, of the same step and phase."""
    frame = numbers.drop(columns="histogram")
    key = [name for name in KEYS if name != "seed"]  # a run may have no seed, and a missing key joins nothing
    for quantity, name in DISTANCES.items():
        held = read.frame[read.frame["quantity"] == quantity].rename(columns={"histogram": name})
        frame = frame.merge(held[[*key, name]], on=key, how="left")
    return frame


def _pooled(frame: pd.DataFrame) -> dict[Any, Histogram]:
    """Histograms summed over runs, by (condition, layer, call)."""
    return pooled(frame).set_index(GROUP)["histogram"].to_dict()


def _limits(masked: Iterable[Histogram], borders: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold nearly all of the masked_net_values net values and the borders of the areas."""
    ends = borders[["low", "high"]].to_numpy(dtype=np.float64)
    # somewhat beyond the borders, so that the area is seen to begin there
    found = [1.3 * end for end in ends[np.isfinite(ends)]]
    for histogram in masked:
        if histogram.n_finite:
            found += list(histogram.quantile([0.002, 0.998]))
    if not found:
        raise ArgumentError("no net value has its mean in a saturation area, so that there is nothing to draw")
    return min(*found, -1.0), max(*found, 1.0)


def _density(counts: Floats, edges: Floats) -> Floats:
    total = counts.sum()  # not the histogram's n: both densities have area 1 within the limits, so that they compare
    return counts / (total * np.diff(edges)) if total else np.full(counts.size, np.nan)


__getattr__ = renamed(__name__, {"wandering": "dropdiag.analysis.net_variance:masked_net_values"})
