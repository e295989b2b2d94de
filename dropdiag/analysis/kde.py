"""Distributions as curves (kernel density) and as bars (normalised histogram)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.select import GROUP, SITE, histograms, pooled
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.kde import KDE
from dropdiag.histograms.points import points_between
from dropdiag.store.reader import Run, Runs

Support: TypeAlias = tuple[float | None, float | None]
Limits: TypeAlias = tuple[float, float] | None
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
        As in `dropdiag.histograms.kde.estimate`.
    points : int
        Length of a curve.
    limits : (float, float), optional
        First and last x. By default the 0.1 % and 99.9 % quantiles over the conditions of a layer, a little
        widened, so that the conditions of one layer share their x: equal steps, unless a curve's peak would lie between
        two of them.
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
    """
    groups = _groups(runs, quantity, step, layers=layers, conditions=conditions, phase=phase)
    return bars_of(groups, support=support, bins=bins, limits=limits)


def curves_of(
    groups: pd.DataFrame,
    *,
    bandwidth: str | float = "isj",
    support: Support = OPEN,
    points: int = 512,
    limits: Limits = None,
) -> pd.DataFrame:
    """Density curves of histograms at hand.

    Parameters
    ----------
    groups : DataFrame
        As returned by `dropdiag.analysis.select.pooled`.
    bandwidth, support, points, limits
        As in `curves`.

    Returns
    -------
    DataFrame
        As returned by `curves`.
    """
    rows: list[dict[str, Any]] = []
    for site, ends in _within(groups, support, limits):
        made = [row["histogram"].kde(bandwidth, support=support, x=ends) for row in site]
        x = points_between(*ends, points, [one.curve() for one in made])
        rows += [_curve(row, one.at(x)) for row, one in zip(site, made, strict=True)]
    return _long(rows, ["x", "density"], groups)


def bars_of(groups: pd.DataFrame, *, support: Support = OPEN, bins: int = 48, limits: Limits = None) -> pd.DataFrame:
    """Bars of histograms at hand.

    Parameters
    ----------
    groups : DataFrame
        As returned by `dropdiag.analysis.select.pooled`.
    support, bins, limits
        As in `bars`.

    Returns
    -------
    DataFrame
        As returned by `bars`.
    """
    rows = [
        {**_key(row), "left": edges[:-1], "right": edges[1:], "density": row["histogram"].density(edges)}
        for site, ends in _within(groups, support, limits)
        for edges in [np.linspace(*ends, bins + 1)]
        for row in site
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


def widened(ends: NDArray[np.float64], support: Support = OPEN) -> tuple[float, float]:
    """Return `common_limits` from the histograms' quantiles.

    Parameters
    ----------
    ends : ndarray of float64, shape (m, 2)
        The 0.1 % and the 99.9 % quantile of each; rows of NaN are those of histograms without values.
    support
        As in `common_limits`.
    """
    ends = ends[~np.isnan(ends).any(axis=1)] if ends.size else ends
    if ends.size == 0:
        return -1.0, 1.0
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    # where all values are equal the limits must still lie apart
    margin = 0.06 * (high - low) if high > low else 0.5 * (abs(high) or 1.0)
    first, last = -np.inf if support[0] is None else support[0], np.inf if support[1] is None else support[1]
    return max(low - margin, first), min(high + margin, last)


def _groups(
    runs: Run | Runs, quantity: str, step: int | None, *, per_seed: bool = False, **chosen: Any
) -> pd.DataFrame:
    if isinstance(step, str):  # "all" would pool the steps of a run as though they were runs
        raise ArgumentError(f"step must be one step (or None for the last), got {step!r}")
    frame = histograms(runs, quantity, step=step, **chosen)
    return frame.assign(runs=1) if per_seed else pooled(frame)


def _within(
    groups: pd.DataFrame, support: Support, limits: Limits
) -> Iterator[tuple[list[dict[Any, Any]], tuple[float, float]]]:
    """Rows of each layer whose histogram holds a finite value, and the limits that its conditions share."""
    for _, site in groups.groupby(SITE, sort=False):
        rows = [row for row in site.to_dict("records") if row["histogram"].n_finite]
        if rows:
            yield rows, limits or common_limits(list(site["histogram"]), support)


def _key(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in (*GROUP, "seed", "run") if name in row}


def _curve(row: dict[Any, Any], kde: KDE) -> dict[str, Any]:
    histogram: Histogram = row["histogram"]
    return {
        **_key(row), "x": kde.x, "density": kde.density, "bandwidth": kde.bandwidth, "point_mass": kde.point_mass,
        "n": kde.n, "dropped": histogram.n - kde.n, "runs": row["runs"],
        "rule": kde.rule, "fallback": kde.fallback, "floored": kde.floored,
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
