"""Figure 1: the distribution of the weights, or of any histogram quantity, a panel a layer."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.kde import Limits
from dropdiag.plots.layered import choose, densities, finish_densities
from dropdiag.plots.style import context
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
    ax: Axes | None = None,
) -> Figure:
    """Draw the distribution of a histogram quantity in each layer.

    Bars are the normalised histogram, lines its kernel density estimate, with one bandwidth for all conditions of a
    panel; the values of all seeds of a condition are pooled.

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
        First and last x, in the quantity's unit; by default wide enough for all values. A layer that is far wider or
        narrower than the others has an x axis of its own, and says so.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one layer.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. With more than 32 layers a map for each condition stands in place of a panel
        for each layer.

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist (the message lists those that do), the phase is not clear, or ``ax`` is
        given and one panel is not enough.
    NotRecordedError
        If the quantity was not recorded as histograms.

    Examples
    --------
    >>> figure = dd.plots.distribution(runs, "net_grad")
    """
    with context():
        drawn = choose(runs, quantity, layers=layers, conditions=conditions, step=step, phase=phase)
        made = densities(drawn, bandwidth=bandwidth, limits=limits, ax=ax)
        return finish_densities(made, drawn, ax=ax)


def weights(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    step: int | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the distribution of the weights of each layer (Figure 1).

    Bars are the normalised histogram, lines its kernel density estimate, with one bandwidth for all conditions of a
    panel; the weights of all seeds of a condition are pooled.

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
        First and last x, in weight units; by default wide enough for all values. A layer that is far wider or narrower
        than the others has an x axis of its own, and says so.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one layer.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. With more than 32 layers a map for each condition stands in place of a panel
        for each layer.

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist (the message lists those that do), or ``ax`` is given and one panel is
        not enough.
    NotRecordedError
        If weights were not recorded.

    Examples
    --------
    >>> figure = dd.plots.weights(runs)
    >>> [ax.get_title() for ax in figure.axes]
    ['linear1', 'linear2', 'output']
    """
    return distribution(
        runs, "weight", layers=layers, conditions=conditions, step=step, bandwidth=bandwidth, limits=limits, ax=ax
    )
