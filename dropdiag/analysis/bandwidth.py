"""One bandwidth for all conditions of a layer, from as many values as are independent."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.select import GROUP, pooled
from dropdiag.histograms.total import total

PAIRS: Final = "node_correlation"
"""The quantity whose values are pairs of nodes."""


class Bandwidth(NamedTuple):
    """A bandwidth (or the rule, where there is nothing to smooth), the rule it comes from, and whether it stands in."""

    width: float | str
    rule: str
    fallback: bool


def pooled_groups(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Histograms summed over runs, with how many independent values stand behind each value where that is not one.

    Parameters
    ----------
    frame : DataFrame
        As returned by `dropdiag.analysis.select.histograms`.
    quantity : str

    Returns
    -------
    DataFrame
        As `dropdiag.analysis.select.pooled` returns it; of correlations also the column independent.
    """
    groups = pooled(frame)
    if quantity != PAIRS:
        return groups
    behind = frame.assign(behind=[behind_pairs(h.n_finite) for h in frame["histogram"]])
    return _share(groups, behind.groupby(GROUP, sort=False)["behind"].sum().to_numpy())


def each_run(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the histograms of a frame run by run, as `pooled_groups` does of all runs together."""
    groups = frame.assign(runs=1)
    if quantity != PAIRS:
        return groups
    return _share(groups, np.array([behind_pairs(h.n_finite) for h in frame["histogram"]]))


def _share(groups: pd.DataFrame, behind: np.ndarray) -> pd.DataFrame:
    values = np.array([h.n_finite for h in groups["histogram"]], np.float64)
    return groups.assign(independent=np.where(values > 0, behind / np.maximum(values, 1.0), 1.0).clip(max=1.0))


def behind_pairs(pairs: int) -> float:
    r"""Return as how many independent values the pairs of some nodes count for a bandwidth.

    Parameters
    ----------
    pairs : int
        m (m - 1) / 2 pairs of m nodes.

    Returns
    -------
    float
        :math:`m \sqrt{(m - 1) / 2}`, the geometric mean of the numbers of nodes and of pairs.

    Notes
    -----
    The share of pairs below some r is a U-statistic: its variance is :math:`4 \zeta_1 / m` to first order, as of about
    m independent values, unless a pair's r does not depend on which nodes they are (:math:`\zeta_1 = 0`, as where nodes
    are independent), when it is that of as many values as there are pairs. Histograms do not tell which it is. In a
    simulation (400 samples; 30, 90 and 250 nodes; nodes independent, with one or three common factors, or in five
    clusters; 40 networks each) the mean integrated squared error of the improved Sheather-Jones rule, over that of the
    best bandwidth, was

    ======================== ============= ========= ========
    number of values taken    independent   factors  clusters
    ======================== ============= ========= ========
    pairs                      1.0 to 1.1   1.0-2.1   1.0-1.2
    nodes                      5.3 to 16    1.4-3.7   4.9-6.4
    geometric mean             1.7 to 2.2   1.1-1.4   1.3-1.6
    ======================== ============= ========= ========

    With all pairs, networks that differ in nothing but their seed had bandwidths from .022 to .069 (one factor, 90
    nodes), and ripples with them; the number of nodes makes the peak of independent nodes too wide. The greatest
    factors of the geometric mean stand where the error is least, below 1 % of the integrated squared density.
    """
    nodes = 0.5 * (1.0 + np.sqrt(1.0 + 8.0 * pairs))
    return float(nodes * np.sqrt(max(nodes - 1.0, 0.0) / 2.0))


def of_panel(groups: pd.DataFrame, bandwidth: str | float, support: tuple[float | None, float | None]) -> Bandwidth:
    r"""Return the one bandwidth of all conditions of a layer.

    Parameters
    ----------
    groups : DataFrame
        Rows of one layer: columns histogram and, where values depend on each other, independent.
    bandwidth, support
        As in `dropdiag.histograms.kde.estimate`.

    Returns
    -------
    Bandwidth
        That of a rule of thumb is the one that makes the sum of the conditions' expected errors least,
        :math:`(\mathrm{mean}\, h_i^{-5})^{-1/5}`; ``"isj"`` is asked of all values together, with the harmonic mean
        of the conditions' numbers of values.

    Notes
    -----
    Two conditions that are smoothed differently look different where they are not: of two samples of one distribution
    the improved Sheather-Jones rule may take one's ripples for modes. What both have in common it finds in all values.
    """
    if not isinstance(bandwidth, str):
        return Bandwidth(bandwidth, "given", fallback=False)
    parts = [(h, share) for h, share in zip(groups["histogram"], _shares(groups), strict=True) if h.n_finite > h.zeros]
    if not parts:
        return Bandwidth(bandwidth, bandwidth, fallback=False)
    if bandwidth != "isj":
        widths = [h.kde(bandwidth, points=2, support=support, independent=share).bandwidth for h, share in parts]
        return Bandwidth(float(np.mean(np.array(widths) ** -5.0) ** -0.2), bandwidth, fallback=False)
    sizes = np.array([(h.n_finite - h.zeros) * share for h, share in parts])
    whole = total(h for h, _ in parts)
    share = float(len(parts) / np.sum(1.0 / sizes)) / (whole.n_finite - whole.zeros)
    found = whole.kde(bandwidth, points=2, support=support, independent=min(share, 1.0))
    return Bandwidth(found.bandwidth, found.rule, found.fallback)


def _shares(groups: pd.DataFrame) -> list[float]:
    return list(groups["independent"]) if "independent" in groups else [1.0] * len(groups)
