"""What do the weights of a layer look like? Figure 1."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dropdiag.analysis import kde
from dropdiag.analysis.bandwidth import of_panel
from dropdiag.analysis.kde import OPEN, Limits, Wanted
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, SITE, histograms
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import Run, Runs

VALUES = ["mean", "sd", "excess_kurtosis", "peak_density"]


def table(
    runs: Run | Runs,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    step: int | None = None,
    bandwidth: str | float = "isj",
) -> pd.DataFrame:
    """Shape of each layer's weights: each number is taken per run, then averaged over runs.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    step : int, optional
        None is the last recorded step; 0 is before training.
    bandwidth : {"isj", "silverman", "scott"} or float
        For the peak of the density: a rule gives all runs of a layer one, as it does all conditions in `curves`.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; mean, sd, excess_kurtosis (0 for a
        normal, -1.2 for a uniform density), peak_density (per weight unit), each with its ``_sd`` over runs;
        seeds; missing (runs in which one of them is undefined, as the shape of equal weights is); weights (in one run).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`.

    Examples
    --------
    >>> table = dd.analysis.weights.table(runs)
    >>> list(table.columns[:3])
    ['condition', 'layer', 'call']
    >>> table["layer"].unique().tolist()
    ['linear1', 'linear2', 'output']
    """
    frame = histograms(runs, "weight", layers=layers, conditions=conditions, step=step)
    measured = frame[GROUP].assign(**pd.DataFrame([_measured(histogram) for histogram in frame["histogram"]]))
    for _, site in frame.groupby(SITE, sort=False):
        measured.loc[site.index, "peak_density"] = peaks(list(site["histogram"]), bandwidth)
    frame = measured
    summary = over_seeds(frame, GROUP, VALUES)
    return summary.merge(frame.groupby(GROUP, sort=False)["weights"].first().reset_index(), on=GROUP)


def curves(
    runs: Run | Runs,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    step: int | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
) -> pd.DataFrame:
    """Density curves of the weights; see `dropdiag.analysis.kde.curves`.

    Examples
    --------
    >>> curves = dd.analysis.weights.curves(runs, layers=["output"])
    >>> curves["condition"].unique().tolist()
    ['No dropout', 'Dropout']
    """
    return kde.curves(runs, "weight", layers=layers, conditions=conditions, step=step, bandwidth=bandwidth,
                      limits=limits)  # fmt: skip


def peaks(histograms: Sequence[Histogram], bandwidth: str | float = "isj") -> list[float]:
    """Greatest densities of one layer's weights in several runs, all with one bandwidth.

    Parameters
    ----------
    histograms : sequence of Histogram
    bandwidth : {"isj", "silverman", "scott"} or float
        A rule is asked of all of them together: smoothed differently, peaks differ where the weights do not.

    Returns
    -------
    list of float
        NaN where a histogram holds no two different values.

    Examples
    --------
    >>> histograms = [one.histogram("weight", "output") for one in runs]
    >>> len(dd.analysis.weights.peaks(histograms))
    6
    """
    # equal weights have no peak, and a spike of them would make that of the others narrow
    spread = [histogram for histogram in histograms if histogram.std() > 0.0]
    width = of_panel(pd.DataFrame({"histogram": spread}), bandwidth, OPEN).width
    return [histogram.peak_density(width) for histogram in histograms]


def _measured(histogram: Histogram) -> dict[str, float]:
    return {
        "mean": histogram.mean(),
        "sd": histogram.std(),
        "excess_kurtosis": histogram.excess_kurtosis(),
        "weights": histogram.n,
    }
