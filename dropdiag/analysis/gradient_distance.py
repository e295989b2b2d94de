"""Where do dropout's masks give gradient to saturated nodes? Near the border of the saturation area, or far out too.

Taken from what `dropdiag.analysis.net_variance` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.kde import Wanted
from dropdiag.analysis.net_variance import Measured, Source, areas, read
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, SITE
from dropdiag.errors import ArgumentError
from dropdiag.histograms.grid import NEGATIVE_ZERO, POSITIVE_INFINITY, bin_bounds, bin_magnitude_edges, bin_numbers
from dropdiag.histograms.histogram import Histogram

Floats: TypeAlias = NDArray[np.float64]
Areas: TypeAlias = Sequence[tuple[float, float]]

FAR: Final = 0.1
"""Share of the saturated means that are called far out."""
NEARLY_ALL: Final = 0.98
"""Share of a side's means that the bins of equal width hold; the last bin takes the others."""
A_BIN: Final = 10
"""Means that there are for each bin, of all runs, or there are fewer bins."""
LEFT, RIGHT = "left", "right"
_MAGNITUDE: Final = np.uint16(0x3FFF)


def far_gradient_probability(
    means: Histogram, gradient_means: Histogram | None, areas: Areas, masks: float, share: float = FAR
) -> float:
    """Gradient probability of the saturated means that lie farthest out.

    Parameters
    ----------
    means : Histogram
        Saturated means over masks (recorded as ``saturated_net_mean``). Of means that are not all saturated
        (``masked_net_mean``) those in bins outside the area are left out, but not those of bins that its borders cut.
    gradient_means : Histogram or None
        The same, each once for every mask with gradient (``gradient_net_mean``; where the recorded gradient probability
        is 0 that is not in the run, and an empty one is to be given). None: not known.
    areas : sequence of (low, high)
        The saturation area.
    masks : float
        Over how many masks.
    share : float
        Of the means, by abs(z), both sides together.

    Returns
    -------
    float
        In [0, 1]: exact for whole bins of abs(z); of the bin that `share` cuts (1/64 of abs(z) wide at most) all means
        have the bin's own probability. NaN where no mean is saturated, a mean is NaN, or something is not known.

    Raises
    ------
    ArgumentError
        For a share outside (0, 1], or if there is more gradient than masks times means: the two do not belong together.
    """
    if not 0.0 < share <= 1.0:
        raise ArgumentError(f"share= must lie in (0, 1], got {share!r}")
    if gradient_means is None or not masks >= 1 or not len(areas) or means.nans:
        return float("nan")
    means, gradient_means = (_inside(histogram, areas) for histogram in (means, gradient_means))
    if means.n == 0:
        return float("nan")
    counts, leaving = _by_magnitude(means), _by_magnitude(gradient_means)
    if (leaving > masks * counts).any():
        raise ArgumentError(
            "there are more masks with gradient than masks times means: these are not of one measurement"
        )
    counts, leaving = counts[::-1], leaving[::-1]
    wanted = share * counts.sum()
    part = np.clip((wanted - (np.cumsum(counts) - counts)) / np.maximum(counts, 1), 0.0, 1.0)
    return float(part @ leaving / (masks * wanted))


def _inside(histogram: Histogram, areas: Areas) -> Histogram:
    """Leave out the bins that lie outside some intervals."""
    low, high = np.empty(histogram.bins.size), np.empty(histogram.bins.size)
    finite = (histogram.bins & _MAGNITUDE) < POSITIVE_INFINITY
    low[finite], high[finite] = bin_bounds(histogram.bins[finite])
    low[~finite] = high[~finite] = np.where(histogram.bins[~finite] >= NEGATIVE_ZERO, -np.inf, np.inf)
    kept = np.zeros(low.size, dtype=bool)
    for first, last in areas:
        kept |= (high >= first) & (low <= last)
    return Histogram(histogram.bins[kept], histogram.counts[kept])


def _by_magnitude(histogram: Histogram) -> NDArray[np.int64]:
    """Return counts of both sides together, by magnitude from 0 to infinity: shape (POSITIVE_INFINITY + 1,)."""
    counts = np.zeros(POSITIVE_INFINITY + 1, dtype=np.int64)
    np.add.at(counts, (histogram.bins & _MAGNITUDE).astype(np.int64), histogram.counts)
    return counts


def far_probabilities(
    source: Source,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
    share: float = FAR,
) -> pd.DataFrame:
    """`far_gradient_probability` of each run and layer.

    Parameters
    ----------
    source, layers, conditions, phase
        As in `dropdiag.analysis.net_variance.table`.
    share : float
        Of the saturated means.

    Returns
    -------
    DataFrame
        One row a run and site: condition, run, layer, call; far_gradient_probability (NaN where it is not known, as in
        runs that were recorded before it could be), beside gradient_probability, that of all saturated means.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.net_variance.table`.
    """
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    ends, rows = _areas(found), []
    for row, saturated, leaving, masks in _recorded(found):
        area = ends.get(tuple(row[name] for name in GROUP), ())
        far = far_gradient_probability(saturated, leaving, area, masks, share)
        rows.append((*(row[name] for name in ("run", *GROUP)), far, row["gradient_probability"]))
    return pd.DataFrame(rows, columns=["run", *GROUP, "far_gradient_probability", "gradient_probability"])


def with_gradient(recorded: Any, probability: float) -> Histogram | None:
    """Return the histogram of means with gradient as it was, for one that nothing entered is not written.

    Parameters
    ----------
    recorded : Histogram, or anything else where there is none
    probability : float
        Gradient probability that was recorded beside it: where it is 0 there was nothing to write.

    Returns
    -------
    Histogram or None
        None: not known.
    """
    if isinstance(recorded, Histogram):
        return recorded
    return Histogram.from_values([]) if probability == 0.0 else None


def _areas(found: Measured) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """Saturation areas by condition and site."""
    frame = areas(found)
    return {
        tuple(key): list(part[["low", "high"]].itertuples(index=False, name=None))
        for key, part in frame.groupby(GROUP, sort=False)
    }


def _recorded(found: Measured) -> Iterator[tuple[dict[Any, Any], Histogram, Histogram | None, float]]:
    """Give each run and site: its row of numbers, its saturated means, those with gradient (None: not known), masks."""
    for row in found.distances.to_dict("records"):
        saturated, leaving = (
            row[name] if isinstance(row[name], Histogram) else None for name in ("saturated", "leaving")
        )
        masks = float(row["dropout_masks"])
        if saturated is None:  # nothing is saturated, or the run was recorded before this was
            yield row, Histogram.from_values([]), None, masks
        else:
            yield row, saturated, with_gradient(leaving, row["gradient_probability"]), masks


def gradient_by_distance(
    source: Source,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
    bins: int = 10,
    runs: bool = False,
) -> pd.DataFrame:
    """Gradient probability of saturated nodes against how far out their mean net value lies.

    Parameters
    ----------
    source, layers, conditions, phase
        As in `dropdiag.analysis.net_variance.table`.
    bins : int
        At most so many on each side, fewer where there are not ten means for each: of abs(z), of equal width (but for
        the bounds of the recorded bins, to which they are rounded) up to where 98 % of the side's means lie, and one
        more to the farthest. They are cut where a part of the saturation area ends as well, so that none reaches over
        what lies between two parts (GELU's). All conditions and runs have the same.
    runs : bool
        Whether to return each run by itself.

    Returns
    -------
    DataFrame
        One row a condition, site and bin: condition, layer, call; side ("left": z of at most 0, or "right"); low, high
        (of abs(z)) and distance (mean abs(z) of all means in the bin), in net-value units; means (how many saturated
        ones lie there in all runs); gradient_probability, a mean over runs, with its ``_sd``; seeds, the runs that have
        the site, and missing, those of them without a saturated mean in the bin. With `runs` one row a run as well:
        run, and no sd, seeds and missing. Counts are exact: no recorded bin is cut. The seeds are the unit: a run with
        two means in a bin weighs as much as one with a thousand, so look at ``means`` far out.
        Without rows where nothing is known, as of runs that were recorded before it could be.

    Raises
    ------
    ArgumentError
        For fewer than one bin; and as `dropdiag.analysis.net_variance.table`, with NotRecordedError.
    """
    if bins < 1:
        raise ArgumentError(f"bins= must be at least 1, got {bins!r}")
    found = read(source, layers=layers, conditions=conditions, phase=phase)
    known = [(row, saturated, leaving, masks) for row, saturated, leaving, masks in _recorded(found)
             if leaving is not None and masks >= 1]  # fmt: skip
    cut = _cuts([(row, saturated) for row, saturated, _, _ in known], _areas(found), bins)
    parts = [_of_run(row, saturated, leaving, masks, cut) for row, saturated, leaving, masks in known]
    key = [*GROUP, "side", "low", "high", "distance"]
    columns = ["run", *key, "means", "gradient_probability"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    if runs:
        return frame[columns]
    totals = frame.groupby(key, sort=False)["means"].sum().reset_index()
    return totals.merge(over_seeds(frame, key, ["gradient_probability"]), on=key)


_Cut: TypeAlias = dict[tuple[Any, ...], tuple[NDArray[np.int64], Floats]]
"""Layer, call and side -> magnitudes of bins at which the side is cut, and the mean abs(z) of each part."""


def _cuts(
    known: Sequence[tuple[dict[Any, Any], Histogram]], ends: dict[tuple[Any, ...], list[tuple[float, float]]], bins: int
) -> _Cut:
    """Cut each side of each site by all its means, and at the ends of its areas."""
    sides: dict[tuple[Any, ...], NDArray[np.int64]] = {}
    borders: dict[tuple[Any, ...], set[int]] = {}
    for row, saturated in known:
        site = tuple(row[name] for name in SITE)
        for side, counts in _sides(saturated).items():
            sides[(*site, side)] = sides.get((*site, side), 0) + counts
            at = _ends(ends.get((row["condition"], *site), []), side)
            borders.setdefault((*site, side), set()).update(at)
    return {key: _cut(counts, bins, borders[key]) for key, counts in sides.items() if counts.any()}


def _ends(areas: Areas, side: str) -> set[int]:
    """Return the magnitudes at which one side of an area begins, and those behind which it ends."""
    found = set()
    for low, high in areas if side == RIGHT else [(-high, -low) for low, high in areas]:
        for border, behind in ((low, 0), (high, 1)):
            if np.isfinite(border) and border > 0.0:
                found.add(int(bin_numbers(np.array([border]))[0]) + behind)
    return found


def _sides(histogram: Histogram) -> dict[str, NDArray[np.int64]]:
    """Return counts of each side by magnitude, without infinities; zeros are on the left."""
    counts = {side: np.zeros(POSITIVE_INFINITY, dtype=np.int64) for side in (LEFT, RIGHT)}
    for number, count in zip(histogram.bins.tolist(), histogram.counts.tolist(), strict=True):
        magnitude = number & int(_MAGNITUDE)
        if magnitude < POSITIVE_INFINITY:
            counts[LEFT if number >= NEGATIVE_ZERO or magnitude == 0 else RIGHT][magnitude] += count
    return counts


def _cut(counts: NDArray[np.int64], bins: int, borders: set[int]) -> tuple[NDArray[np.int64], Floats]:
    edges, taken = bin_magnitude_edges(), np.flatnonzero(counts)
    first, last = int(taken[0]), int(taken[-1]) + 1
    bins = max(min(bins, int(counts.sum()) // A_BIN), 1)
    reached = np.cumsum(counts)
    most = int(np.searchsorted(reached, NEARLY_ALL * reached[-1])) + 1
    inner = np.searchsorted(edges, np.linspace(edges[first], edges[most], bins + 1)[1:])
    cut = np.unique(
        np.concatenate([[first], np.minimum(inner, last), [b for b in borders if first < b < last], [last]])
    )
    cut = cut.astype(np.int64)
    centres = 0.5 * (edges[:-1] + edges[1:])
    centres[0] = 0.0  # zeros have the first bin
    weights, totals = (np.add.reduceat(values, cut[:-1]) for values in (counts * centres, counts))
    middle = 0.5 * (edges[cut[:-1]] + edges[cut[1:]])
    return cut, np.where(totals > 0, weights / np.maximum(totals, 1), middle)


def _of_run(row: dict[Any, Any], saturated: Histogram, leaving: Histogram, masks: float, cut: _Cut) -> pd.DataFrame:
    edges, parts = bin_magnitude_edges(), []
    every, gradient = _sides(saturated), _sides(leaving)
    for side in (LEFT, RIGHT):
        key = (*(row[name] for name in SITE), side)
        if key not in cut:
            continue
        at, distance = cut[key]
        means, leave = (np.add.reduceat(counts[side], at[:-1]) for counts in (every, gradient))
        # the last part ends where the last mean of any run does, so nothing is left behind it
        share = np.divide(leave, masks * means, out=np.full(means.size, np.nan), where=means > 0)
        columns = {"side": side, "low": edges[at[:-1]], "high": edges[at[1:]], "distance": distance, "means": means}
        parts.append(pd.DataFrame({**{k: row[k] for k in ("run", *GROUP)}, **columns, "gradient_probability": share}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
