"""Figure 6: the gradient acceleration function and the two shape functions."""

from __future__ import annotations

from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from dropdiag.analysis import gaaf as functions
from dropdiag.plots.layout import own_axes, panels
from dropdiag.plots.style import COLOURS, Panels, context

LINES: Final = (
    ("phi", r"$\phi(x)$", "#000000", "-"),
    ("derivative", r"$\phi'(x)$", COLOURS[0], (0, (1.2, 1.2))),
    ("shape", r"$s(x)$", COLOURS[1], (0, (5, 1.6))),
)


def gaaf(k: float = 10_000.0) -> Panels:
    r"""Draw g, and the shape functions of tanh and ReLU beside the functions themselves (Figure 6).

    Parameters
    ----------
    k : float
        Teeth of g per unit of x.

    Returns
    -------
    Panels
        A matplotlib Figure. The gradient of GAAF is :math:`\phi'(x) + s(x)` almost everywhere.
    """
    with context():
        figure, axes = panels(3)
        saw_tooth(functions.teeth(k), k, ax=axes[0])
        axes[0].set_title("(a) gradient acceleration")
        for ax, name, title in zip(axes[1:], functions.ACTIVATIONS, ("(b) tanh", "(c) ReLU"), strict=True):
            shape(functions.shapes(name), ax=ax)
            ax.set_title(title)
        axes[2].set_ylim(-0.1, 2.2)
        handles = axes[1].get_legend_handles_labels()[0]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


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
