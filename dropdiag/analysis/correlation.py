"""Are the nodes of a layer correlated, and more than by chance? Figure 2.

Chance means column permutation: shuffle each node's values over the samples, independently. Then r has mean
0 and variance 1/(n - 1) exactly, whatever the distributions (Pitman 1937), n being the number of samples. For
normal nodes r has the density (1 - r^2)^((n - 4)/2) / B(1/2, (n - 2)/2), which is close for others when n is
not small.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln, stdtrit

from dropdiag.analysis import kde
from dropdiag.analysis.kde import Wanted
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, KEYS, histograms
from dropdiag.store.reader import Run, Runs, as_runs

SUPPORT = (-1.0, 1.0)
COUNTS = {"node_correlation_nodes": "nodes", "constant_nodes": "constant_nodes", "node_correlation_samples": "samples"}
_RECORD = [name for name in KEYS if name != "seed"]  # a run may have no seed, and a missing key joins nothing


def table(
    runs: Run | Runs, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None
) -> pd.DataFrame:
    """Size and spread of r for each layer: taken per run at its last evaluation, then averaged over runs.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    phase : str, optional
        One for all runs, as in `dropdiag.analysis.select.histograms`.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; mean_abs_r and sd_r (from the histogram
        of r, to a relative 1e-4), each with its ``_sd`` over runs; seeds; missing; pairs, nodes (correlated),
        constant_nodes (left out, they have no r) and samples, of one run on average; null_mean_abs_r and
        null_sd_r, what the permutation gives with that many samples.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`.

    Notes
    -----
    The pairs of a layer share nodes, so they are not independent replicates; the seeds are.

    Examples
    --------
    >>> table = dd.analysis.correlation.table(runs)
    >>> table[["condition", "layer", "seeds"]]
        condition layer  seeds
    0  No dropout  act1      3
    1  No dropout  act2      3
    2     Dropout  act1      3
    3     Dropout  act2      3
    """
    frame = histograms(runs, "node_correlation", layers=layers, conditions=conditions, phase=phase)
    return table_of(runs, frame)


def table_of(runs: Run | Runs, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `table` of the histograms of r in a frame that `dropdiag.analysis.select.histograms` gave."""
    frame = frame.assign(
        mean_abs_r=[mean_abs(*h.bounds()) for h in frame["histogram"]],
        sd_r=[h.std() for h in frame["histogram"]],
        pairs=[h.n_finite for h in frame["histogram"]],
    )
    frame = recorded_with(runs, frame, COUNTS).rename(columns=COUNTS)
    summary = over_seeds(frame, GROUP, ["mean_abs_r", "sd_r"])
    counts = frame.groupby(GROUP, sort=False)[["pairs", *COUNTS.values()]].mean().reset_index()
    summary = summary.merge(counts, on=GROUP)
    summary["null_mean_abs_r"] = [null_mean_abs(n) for n in summary["samples"]]
    summary["null_sd_r"] = [null_sd(n) for n in summary["samples"]]
    return summary


def curves(
    runs: Run | Runs,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
) -> pd.DataFrame:
    """Density curves of r on [-1, 1], reflected at its bounds; see `dropdiag.analysis.kde.curves`.

    Examples
    --------
    >>> curves = dd.analysis.correlation.curves(runs, layers=["act2"])
    >>> bool(curves["x"].between(-1, 1).all())
    True
    """
    return kde.curves(runs, "node_correlation", layers=layers, conditions=conditions, phase=phase,
                      bandwidth=bandwidth, support=SUPPORT, limits=SUPPORT)  # fmt: skip


def null_sd(samples: float) -> float:
    """Return the standard deviation of r under column permutation: ``1 / sqrt(n - 1)``, exactly.

    Examples
    --------
    >>> dd.analysis.correlation.null_sd(101)
    0.1
    """
    return float(1.0 / np.sqrt(samples - 1.0)) if samples >= 2 else float("nan")


def null_mean_abs(samples: float) -> float:
    """Mean of |r| under independence, for normal nodes: ``gamma((n-1)/2) / (sqrt(pi) gamma(n/2))``.

    About ``sqrt(2 / (pi n))`` for large n: finite n alone gives this much.

    Examples
    --------
    >>> round(dd.analysis.correlation.null_mean_abs(1_000), 4)
    0.0253
    """
    if not samples >= 3:
        return float("nan")
    return float(np.exp(gammaln((samples - 1.0) / 2.0) - gammaln(samples / 2.0)) / np.sqrt(np.pi))


def null_limit(samples: float, level: float = 0.95) -> float:
    """Bound on |r| that holds a share ``level`` of the pairs under independence, for normal nodes.

    ``r sqrt((n-2)/(1-r^2))`` has Student's t distribution with n - 2 degrees of freedom.

    Examples
    --------
    >>> round(dd.analysis.correlation.null_limit(1_000), 4)
    0.062
    """
    if not samples >= 3:
        return float("nan")
    t = float(stdtrit(samples - 2.0, 0.5 + level / 2.0))
    return float(t / np.sqrt(samples - 2.0 + t * t))


def null_participation_ratio(nodes: float, samples: float) -> float:
    """Participation ratio under independence: ``m / (1 + (m - 1) / (n - 1))``, for E r^2 is 1 / (n - 1) exactly.

    Examples
    --------
    >>> round(dd.analysis.correlation.null_participation_ratio(nodes=100, samples=1_000), 2)
    90.98
    """
    if not (samples >= 2 and nodes >= 1):
        return float("nan")
    return float(nodes / (1.0 + (nodes - 1.0) / (samples - 1.0)))


def null_effective_rank(nodes: float, samples: float) -> float:
    """Effective rank under independence, for many nodes m and samples n.

    The eigenvalues of such a correlation matrix follow the law of Marchenko and Pastur (Jiang 2004), whose entropy is
    Page's (1993): ``exp(ln a - a / (2 b))``, a being the smaller and b the greater one of m and n - 1.

    Examples
    --------
    >>> round(dd.analysis.correlation.null_effective_rank(nodes=100, samples=1_000), 2)
    95.12
    """
    if not (samples >= 2 and nodes >= 1):
        return float("nan")
    least, most = sorted((nodes, samples - 1.0))
    return float(least * np.exp(-least / (2.0 * most)))


class PairMoments(NamedTuple):
    """Moments of r over the pairs of one layer's nodes.

    Attributes
    ----------
    mean, mean_abs, square : float
        Means of r, |r| and r^2; NaN without a pair.
    """

    mean: float
    mean_abs: float
    square: float

    @classmethod
    def of(cls, low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.int64]) -> PairMoments:
        """Take them from a histogram; each r lies at its bin's centre, within 1/128 of itself."""
        if not counts.size:
            return cls(float("nan"), float("nan"), float("nan"))
        share, r = counts / counts.sum(), 0.5 * (low + high)
        return cls(float(share @ r), float(share @ np.abs(r)), float(share @ (r * r)))

    @property
    def sd(self) -> float:
        """Standard deviation of r over pairs: the width of its distribution."""
        return float(np.sqrt(max(self.square - self.mean**2, 0.0)))

    def corrected_square(self, items: float) -> float:
        """Mean r^2 without what finitely many samples add: ``1 - (1 - r^2) (n - 1) / (n - 2)`` (Ezekiel 1930).

        Parameters
        ----------
        items : float
            Number n of independent samples.

        Returns
        -------
        float
            0 on average for independent nodes, whatever n is, so it may be negative; NaN below 3 samples or where
            their number is not known. Positions of one item count as one sample: where they are in fact independent of
            each other, too much is taken off, the same from all runs of one held-out set.
        """
        return float(1.0 - (1.0 - self.square) * (items - 1.0) / (items - 2.0)) if items >= 3 else float("nan")

    def corrected_variance(self, items: float) -> float:
        """Variance of r over pairs, corrected in the same way: `corrected_square` less the square of the mean."""
        return self.corrected_square(items) - self.mean**2


def mean_abs(low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Mean of |x| of binned values; no bin reaches over 0, so its centre will do."""
    return float(counts @ np.abs(0.5 * (low + high)) / counts.sum()) if counts.size else float("nan")


def recorded_with(runs: Run | Runs, frame: pd.DataFrame, quantities: Collection[str]) -> pd.DataFrame:
    """Scalars that were recorded with the histograms of a frame, a column each beside its own.

    Parameters
    ----------
    runs : Run or Runs
    frame : DataFrame
        As returned by `dropdiag.analysis.select.histograms`, with any further columns.
    quantities : collection of str

    Returns
    -------
    DataFrame
        The rows of the frame; NaN where a scalar is missing at that step.
    """
    names, phases, wanted = list(quantities), frame["phase"].unique().tolist(), frame["condition"].unique().tolist()
    rows = as_runs(runs).select(names, condition=wanted, phase=phases, missing_ok=True)
    # where a step was recorded twice, the later row counts
    wide = rows.pivot_table(index=_RECORD, columns="quantity", values="value", aggfunc="last")
    return frame.merge(wide.reindex(columns=names).reset_index(), on=_RECORD, how="left")
