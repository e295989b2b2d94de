"""What do the weights of a layer look like? Figure 1."""

from __future__ import annotations

import pandas as pd

from dropdiag.analysis import kde
from dropdiag.analysis.kde import Limits, Wanted
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, histograms
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
        For the peak of the density.

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
    """
    frame = histograms(runs, "weight", layers=layers, conditions=conditions, step=step)
    measured = [_measured(histogram, bandwidth) for histogram in frame["histogram"]]
    frame = pd.concat([frame[GROUP], pd.DataFrame(measured)], axis=1)
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
    """Density curves of the weights; see `dropdiag.analysis.kde.curves`."""
    return kde.curves(runs, "weight", layers=layers, conditions=conditions, step=step, bandwidth=bandwidth,
                      limits=limits)  # fmt: skip


def _measured(histogram: Histogram, bandwidth: str | float) -> dict[str, float]:
    return {
        "mean": histogram.mean(),
        "sd": histogram.std(),
        "excess_kurtosis": histogram.excess_kurtosis(),
        "peak_density": histogram.peak_density(bandwidth),
        "weights": histogram.n,
    }
