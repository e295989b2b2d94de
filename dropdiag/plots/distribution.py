"""Figure 1: the distribution of the weights, or of any histogram quantity, a panel a layer."""

from __future__ import annotations

from dropdiag.analysis.kde import Limits
from dropdiag.plots.layered import choose, densities
from dropdiag.plots.layout import finish
from dropdiag.plots.style import Panels, context
from dropdiag.plots.words import Conditions, Layers
from dropdiag.store.reader import Run, Runs


def distribution(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    step: int | None = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
) -> Panels:
    """Draw the distribution of a histogram quantity in each layer.

    Light bars are the normalised histogram, lines its kernel density estimate; the values of all seeds of a condition
    are pooled, and all panels have the same x axis.

    Parameters
    ----------
    runs : Run or Runs
    quantity : str
        E.g. ``"weight"``, ``"net_grad"``, or one of a probe of your own, which gives its label.
    layers : list of str, or mapping of str to str, optional
        All, or these in this order; a mapping also gives the panels their titles.
    conditions : list of str, optional
        All, or these in this order.
    step : int, optional
        None is the last recorded step; 0 is before training.
    phase : str, optional
        One for all runs: None is ``"eval"`` if any of them has it, else the only held-out phase, else ``"train"``. Runs
        that lack it are left out, with a warning.
    bandwidth : {"isj", "silverman", "scott"} or float
        See `dropdiag.histograms.kde.estimate`.
    limits : (float, float), optional
        First and last x, in the quantity's unit.

    Returns
    -------
    Panels
        A matplotlib Figure.

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist (the message lists those that do), or the phase is not clear.
    NotRecordedError
        If the quantity was not recorded as histograms.
    """
    with context():
        drawn = choose(runs, quantity, layers=layers, conditions=conditions, step=step, phase=phase)
        figure, axes, _ = densities(drawn, bandwidth=bandwidth, limits=limits)
        return finish(figure, list(axes.values()), drawn.styles, label="density")


def weights(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    step: int | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
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
