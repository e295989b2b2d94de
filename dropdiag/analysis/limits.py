"""From where to where panels are drawn, so that they compare and none is ruined by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.select import SITE
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.order import Site

Support: TypeAlias = tuple[float | None, float | None]
Floats: TypeAlias = NDArray[np.float64]
WIDE: Final = 4.0
"""A layer whose values reach over so many times the usual range has axes of its own, as has one ..."""
NARROW: Final = 8.0
"""... whose range is so many times smaller, and one that lies so many usual ranges beside the others (`WIDE`)."""
CUT: Final = 8.0
"""A condition whose values reach over so many times the usual range of its panel is cut."""


def of_panel(parts: Sequence[Histogram], support: Support = (None, None)) -> tuple[float, float]:
    """Limits within which nearly all values of every histogram lie, but for those that are far wider than the others.

    Parameters
    ----------
    parts : sequence of Histogram
        Of the conditions of one layer.
    support : (float or None, float or None)
        The limits do not reach over it.

    Returns
    -------
    low, high : float
        As `dropdiag.analysis.kde.common_limits`; without the histograms that are wider than `CUT` times the (lower)
        median, such as those of a run that diverged.
    """
    ends = np.array([part.extent() for part in parts if part.n_finite]).reshape(-1, 2)
    return widened(ends[~_far_wider(ends, CUT)], support)


def of_panels(
    groups: pd.DataFrame, support: Support = (None, None), holding: Mapping[Site, tuple[float, float]] | None = None
) -> tuple[dict[Site, tuple[float, float]], set[Site]]:
    """Limits of each layer: the same for all that are alike in range.

    Parameters
    ----------
    groups : DataFrame
        As returned by `dropdiag.analysis.select.pooled`.
    support
        As in `of_panel`.
    holding : mapping of (layer, call) to (low, high), optional
        What limits must hold beside the values.

    Returns
    -------
    limits : dict of (layer, call) to (low, high)
    apart : set of (layer, call)
        Those that have limits of their own, since they are far wider or narrower than the median layer, or elsewhere.
    """
    own: dict[Site, tuple[float, float]] = {}
    key: Any
    for key, part in groups.groupby(SITE, sort=False):
        if any(h.n_finite for h in part["histogram"]):
            own[str(key[0]), int(key[1])] = of_panel(list(part["histogram"]), support)
    if not own:
        return {}, set()
    for site, (low, high) in (holding or {}).items():
        if site in own:
            own[site] = min(own[site][0], low), max(own[site][1], high)
    ends = np.array(list(own.values()))
    width, centre = ends[:, 1] - ends[:, 0], ends.mean(axis=1)
    usual = _lower_median(width)
    alike = (width <= WIDE * usual) & (width >= usual / NARROW)
    alike &= np.abs(centre - _lower_median(centre[alike])) <= WIDE * usual
    shared = float(ends[alike, 0].min()), float(ends[alike, 1].max())
    return {site: shared if same else own[site] for site, same in zip(own, alike, strict=True)}, {
        site for site, same in zip(own, alike, strict=True) if not same
    }


def widened(ends: Floats, support: Support = (None, None)) -> tuple[float, float]:
    """Return limits about the quantiles of histograms.

    Parameters
    ----------
    ends : ndarray of float64, shape (m, 2)
        The 0.1 % and the 99.9 % quantile of each; rows of NaN are those of histograms without values.
    support
        As in `of_panel`.

    Returns
    -------
    low, high : float
        From the least to the greatest, widened by 6 % of it at each side; one apart where all values are equal, and
        (-1, 1) where there are none.
    """
    ends = ends[~np.isnan(ends).any(axis=1)] if ends.size else ends
    if ends.size == 0:
        return -1.0, 1.0
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    # where all values are equal the limits must still lie apart
    margin = 0.06 * (high - low) if high > low else 0.5 * (abs(high) or 1.0)
    first, last = -np.inf if support[0] is None else support[0], np.inf if support[1] is None else support[1]
    return max(low - margin, first), min(high + margin, last)


def _far_wider(ends: Floats, times: float) -> NDArray[np.bool_]:
    width = ends[:, 1] - ends[:, 0]
    some = width[width > 0.0]
    return np.asarray(width > times * _lower_median(some)) if some.size else np.zeros(len(ends), bool)


def _lower_median(values: Floats) -> float:
    """Return the median, the lower one of two: what half of the panels share is not stretched for the other half."""
    return float(np.sort(values)[(len(values) - 1) // 2])
