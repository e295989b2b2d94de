"""Figure 1: the weights of each layer."""

from __future__ import annotations

from dropdiag.plots.distribution import distribution
from dropdiag.plots.style import Panels
from dropdiag.plots.words import Layers
from dropdiag.store.reader import Run, Runs


def weights(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: list[str] | None = None,
    step: int | None = None,
    bandwidth: str | float = "isj",
    limits: tuple[float, float] | None = None,
) -> Panels:
    """Draw the distribution of the weights of each layer (Figure 1).

    Light bars are the normalised histogram, lines its kernel density estimate; the weights of all seeds of a
    condition are pooled, and all panels have the same x axis.

    Parameters
    ----------
    runs : Run or Runs
    layers : list of str, or mapping of str to str, optional
        All, or these in this order; a mapping also gives the panels their titles.
    conditions : list of str, optional
        All, or these in this order.
    step : int, optional
        None is the last recorded step; 0 is before training.
    bandwidth : {"isj", "silverman", "scott"} or float
        See `dropdiag.histograms.kde.estimate`.
    limits : (float, float), optional
        First and last x, in weight units.

    Returns
    -------
    Panels
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist; the message lists those that do.
    NotRecordedError
        If weights were not recorded.
    """
    return distribution(
        runs, "weight", layers=layers, conditions=conditions, step=step, bandwidth=bandwidth, limits=limits
    )
