"""Distributions as curves (kernel density) and as bars (normalised histogram)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from dropdiag.analysis.bandwidth import Bandwidth, each_run, of_panel, pooled_groups
from dropdiag.analysis.limits import of_panel as limits_of_panel
from dropdiag.analysis.limits import widened
from dropdiag.analysis.select import GROUP, SITE, histograms
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.kde import KDE
from dropdiag.histograms.points import points_between
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs

Support: TypeAlias = tuple[float | None, float | None]
Limits: TypeAlias = tuple[float, float] | None
SiteLimits: TypeAlias = Limits | Mapping[Site, tuple[float, float]]
Wanted: TypeAlias = Sequence[str] | None
"""Names of layers or of conditions, in this order; None is all of them."""
OPEN: Final[Support] = (None, None)


def curves(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    step: int | None = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
    support: Support = OPEN,
    points: int = 512,
    limits: Limits = None,
    per_seed: bool = False,
) -> pd.DataFrame:
    """Density curves, seeds pooled by exact addition of their histograms.

    Parameters
    ----------
    runs, quantity, layers, conditions, step, phase
        As in `dropdiag.analysis.select.histograms`.
    bandwidth, support
        As in `dropdiag.histograms.kde.estimate`. A rule gives all conditions of a layer one bandwidth, so that no two
        look different for being smoothed differently; that of correlations knows that pairs share nodes (see
        `dropdiag.analysis.bandwidth`).
    points : int
        Length of a curve.
    limits : (float, float), optional
        First and last x. By default the 0.1 % and 99.9 % quantiles over the conditions of a layer, a little
        widened, so that the conditions of one layer share their x: equal steps, unless a curve's peak would lie between
        two of them. A condition that reaches over eight times the usual range is cut.
    per_seed : bool
        One curve a run in place of the pooled one.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, x, density, bandwidth, point_mass (share of exact zeros, not in the
        curve), n (finite values), dropped (NaN and infinite values), runs, rule, fallback, floored; with
        ``per_seed`` also seed and run. A group without finite values has no rows.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`.

    Examples
    --------
    >>> curves = dd.analysis.kde.curves(runs, "net_value", phase="eval", points=64)
    >>> sorted(curves["layer"].unique())
    ['act1', 'act2']
    """
    groups = _groups(runs, quantity, step, per_seed=per_seed, layers=layers, conditions=conditions, phase=phase)
    return curves_of(groups, bandwidth=bandwidth, support=support, points=points, limits=limits)


def bars(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    step: int | None = None,
    phase: str | None = None,
    support: Support = OPEN,
    bins: int = 48,
    limits: Limits = None,
) -> pd.DataFrame:
    """Bars of normalised histograms, seeds pooled; their area is the share of values within the limits.

    Parameters
    ----------
    runs, quantity, layers, conditions, step, phase, support, limits
        As in `curves`.
    bins : int
        Equal bars between the limits.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, left, right, density. Exact zeros stand in the bar that holds 0.

    Examples
    --------
    >>> bars = dd.analysis.kde.bars(runs, "net_value", layers=["act1"], phase="eval", bins=8)
    >>> bars.groupby("condition", sort=False).size()
    condition
    No dropout    8
    Dropout       8
    dtype: int64
    """
    groups = _groups(runs, quantity, step, layers=layers, conditions=conditions, phase=phase)
    return bars_of(groups, support=support, bins=bins, limits=limits)


def curves_of(
    groups: pd.DataFrame,
    *,
    bandwidth: str | float = "isj",
    support: Support = OPEN,
    points: int = 512,
    limits: SiteLimits = None,
) -> pd.DataFrame:
    """Density curves of histograms at hand.

    Parameters
    ----------
    groups : DataFrame
        As returned by `dropdiag.analysis.bandwidth.pooled_groups`.
    bandwidth, support, points
        As in `curves`.
    limits : (float, float) or mapping of (layer, call) to (float, float), optional
        As in `curves`, of all layers or of each.

    Returns
    -------
    DataFrame
        As returned by `curves`.
    """
    rows: list[dict[str, Any]] = []
    for site, ends in _within(groups, support, limits):
        width = of_panel(site, bandwidth, support)
        made = [row["histogram"].kde(width.width, support=support, x=ends) for row in site.to_dict("records")]
        x = points_between(*ends, points, [one.curve() for one in made])
        rows += [_curve(row, one.at(x), width) for row, one in zip(site.to_dict("records"), made, strict=True)]
    return _long(rows, ["x", "density"], groups)


def bars_of(
    groups: pd.DataFrame, *, support: Support = OPEN, bins: int = 48, limits: SiteLimits = None
) -> pd.DataFrame:
    """Bars of histograms at hand.

    Parameters
    ----------
    groups : DataFrame
        As returned by `dropdiag.analysis.select.pooled`.
    support, bins, limits
        As in `bars`; limits also of each layer.

    Returns
    -------
    DataFrame
        As returned by `bars`.
    """
    rows = [
        {**_key(row), "left": edges[:-1], "right": edges[1:], "density": row["histogram"].density(edges)}
        for site, ends in _within(groups, support, limits)
        for edges in [np.linspace(*ends, bins + 1)]
        for row in site.to_dict("records")
    ]
    return _long(rows, ["left", "right", "density"], groups)


def common_limits(parts: Sequence[Histogram], support: Support = OPEN) -> tuple[float, float]:
    """Limits within which nearly all values of every histogram lie.

    Parameters
    ----------
    parts : sequence of Histogram
    support : (float or None, float or None)
        The limits do not reach over it.

    Returns
    -------
    low, high : float
        From the least 0.1 % to the greatest 99.9 % quantile, widened by 6 % of it at each side; one apart
        where all values are equal, and (-1, 1) where there are none.
    """
    return widened(np.array([part.extent() for part in parts if part.n_finite]), support)


def _groups(
    runs: Run | Runs, quantity: str, step: int | None, *, per_seed: bool = False, **chosen: Any
) -> pd.DataFrame:
    if isinstance(step, str):  # "all" would pool the steps of a run as though they were runs
        raise ArgumentError(f"step must be one step (or None for the last), got {step!r}")
    frame = histograms(runs, quantity, step=step, **chosen)
    return (each_run if per_seed else pooled_groups)(frame, quantity)


def _within(
    groups: pd.DataFrame, support: Support, limits: SiteLimits
) -> Iterator[tuple[pd.DataFrame, tuple[float, float]]]:
    """Rows of each layer whose histogram holds a finite value, and the limits that its conditions share."""
    key: Any
    for key, site in groups.groupby(SITE, sort=False):
        given = limits.get((str(key[0]), int(key[1]))) if isinstance(limits, Mapping) else limits
        known = site[[histogram.n_finite > 0 for histogram in site["histogram"]]]
        if len(known):
            yield known, given or limits_of_panel(list(site["histogram"]), support)


def _key(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in (*GROUP, "seed", "run") if name in row}


def _curve(row: dict[Any, Any], kde: KDE, bandwidth: Bandwidth) -> dict[str, Any]:
    histogram: Histogram = row["histogram"]
    return {
        **_key(row), "x": kde.x, "density": kde.density, "bandwidth": kde.bandwidth, "point_mass": kde.point_mass,
        "n": kde.n, "dropped": histogram.n - kde.n, "runs": row["runs"],
        "rule": bandwidth.rule, "fallback": bandwidth.fallback, "floored": kde.floored,
    }  # fmt: skip


def _long(rows: list[dict[str, Any]], arrays: Sequence[str], groups: pd.DataFrame) -> pd.DataFrame:
    """One frame of rows that hold arrays of one length, conditions first as they were given."""
    if not rows:
        raise ArgumentError(f"no finite value in any of the {len(groups)} histograms: nothing to draw")
    order = list(groups["condition"].unique())
    rows.sort(key=lambda row: order.index(row["condition"]))
    # joined array by array: a frame a curve and `pd.concat` take longer than the density estimates themselves
    whole = {name: np.concatenate([row[name] for row in rows]) for name in arrays}
    frame = pd.DataFrame(rows, columns=[name for name in rows[0] if name not in arrays])
    length = len(rows[0][arrays[0]])
    return frame.loc[frame.index.repeat(length)].reset_index(drop=True).assign(**whole)[list(rows[0])]
