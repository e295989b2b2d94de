"""Figure 6: the gradient acceleration function and the two shape functions."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis import gaaf as functions
from dropdiag.errors import ArgumentError
from dropdiag.plots.layout import own_axes, panels
from dropdiag.plots.style import COLOURS, context, styled
from dropdiag.store.reader import Run, Runs

LINES: Final = (
    ("phi", r"$\phi(x)$", "#000000", "-"),
    ("derivative", r"$\phi'(x)$", COLOURS[0], (0, (1.2, 1.2))),
    ("shape", r"$s(x)$", COLOURS[1], (0, (5, 1.6))),
)


def gaaf(k: float = 10_000.0, *, ax: Axes | None = None) -> Figure:
    r"""Draw g, and the shape functions of tanh and ReLU beside the functions themselves (Figure 6).

    Parameters
    ----------
    k : float
        Teeth of g per unit of x.
    ax : Axes, optional
        Refused, for this figure has three panels: `saw_tooth` and `shape` in this file draw one each.

    Returns
    -------
    Figure
        The gradient of GAAF is :math:`\phi'(x) + s(x)` almost everywhere.

    Raises
    ------
    ArgumentError
        If k is no positive number, or runs were given: it draws the functions themselves, of which runs know nothing.

    Examples
    --------
    >>> figure = dd.plots.gaaf()
    >>> len(figure.axes)
    3
    """
    given: object = k
    if isinstance(given, (Run, Runs)):
        raise ArgumentError(
            "plots.gaaf() draws the functions themselves and takes no runs; what GAAF did in runs, plots.saturation, "
            "plots.gradient_flow and plots.learning show beside the condition without it"
        )
    if not isinstance(given, (int, float, np.number)) or not 0.0 < float(k) < np.inf:
        raise ArgumentError(f"k must be a positive number (teeth of g per unit of x), got {k!r}")
    with context():
        figure, axes = panels(3, ax=ax, advice="draw one with saw_tooth() or shape() of dropdiag.plots.gaaf")
        saw_tooth(functions.teeth(k), k, ax=axes[0])
        axes[0].set_title("(a) gradient acceleration")
        for one, name, title in zip(axes[1:], functions.ACTIVATIONS, ("(b) tanh", "(c) ReLU"), strict=True):
            shape(functions.shapes(name), ax=one)
            one.set_title(title)
        axes[2].set_ylim(-0.1, 2.2)
        handles = axes[1].get_legend_handles_labels()[0]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


@styled
def saw_tooth(frame: pd.DataFrame, k: float, *, ax: Axes | None = None) -> Axes:
    """Draw g over x in units of 1/k.

    Parameters
    ----------
    frame : DataFrame
        As returned by `dropdiag.analysis.gaaf.teeth`.
    k : float
    ax : Axes, optional

    Returns
    -------
    Axes
        Both axes in units of 1/k.
    """
    ax = own_axes(ax)
    ax.axhline(0.0, color="#BBBBBB", lw=0.7, zorder=0)
    ax.plot(frame["x"] * k, frame["g"] * k, color="#000000")
    # in units of 1/K: on the axes' own scale the teeth are too small to be seen
    ax.set(xlabel=f"$x$  (units of 1/K, K = {k:,.0f})", ylabel="$g(x)$  (units of 1/K)", yticks=[-0.5, 0.0, 0.5])
    return ax


@styled
def shape(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw an activation function, its derivative and its shape function.

    Parameters
    ----------
    frame : DataFrame
        As returned by `dropdiag.analysis.gaaf.shapes`.
    ax : Axes, optional

    Returns
    -------
    Axes
        Three labelled lines.
    """
    ax = own_axes(ax)
    ax.axhline(0.0, color="#BBBBBB", lw=0.7, zorder=0)
    for column, label, colour, line in LINES:
        ax.plot(frame["x"], frame[column], label=label, color=colour, linestyle=line)
    ax.set(xlim=(frame["x"].min(), frame["x"].max()), xlabel="$x$")
    return ax
