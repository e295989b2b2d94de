"""The figure that Figure 8's page has alone: accuracies as points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dropdiag.experiments.tables import final_accuracy
from dropdiag.plots.layout import own_axes, panels
from dropdiag.plots.style import GREY, Styles, context, looks
from dropdiag.store.reader import Runs

SPREAD: Final = 0.12
"""How far points of different seeds stand apart, in conditions."""


def accuracy(runs: Runs, published: Mapping[str, float]) -> Figure:
    """Draw the final test accuracy of every run, with the published one beside it (Figure 8).

    Parameters
    ----------
    runs : Runs
    published : mapping of str to float
        Per cent by condition; empty where there is no number.

    Returns
    -------
    Figure
    """
    with context():
        styles = looks(runs.conditions)
        figure, (ax,) = panels(1, width=10.0, height=3.0)
        points(final_accuracy(runs), published, ax=ax, styles=styles)
        ax.set_ylabel("test accuracy, %")
        figure.legend(handles=_explained(bool(published)), loc="outside lower center", ncols=3)
    return figure


def points(
    final: pd.DataFrame, published: Mapping[str, float], *, ax: Axes | None = None, styles: Styles = None
) -> Axes:
    """Draw one accuracy a run: a column a condition, a point a seed, a bar at the mean, a star as published.

    Parameters
    ----------
    final : DataFrame
        See `dropdiag.experiments.tables.final_accuracy`.
    published : mapping of str to float
        Per cent by condition; one without a number has no star.
    ax : Axes, optional
    styles : mapping of str to Look, optional
        By default those of the conditions in `final`.

    Returns
    -------
    Axes
    """
    ax = own_axes(ax)
    names = list(final["condition"].unique())
    styles = styles or looks(names)
    for place, name in enumerate(names):
        values = final.loc[final["condition"] == name, "accuracy"].to_numpy(dtype=np.float64)
        # Side by side, since seeds with the same accuracy would hide each other.
        offsets = SPREAD * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else np.zeros(1)
        look = styles[name]
        ax.plot(place + offsets, values, look.marker, color=look.colour, ms=5, alpha=0.75, mew=0)
        ax.hlines(values.mean(), place - 0.25, place + 0.25, color=look.colour, lw=1.8)
        if name in published:
            ax.plot([place + 0.3], [published[name]], "*", color=GREY, ms=9, mew=0)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.margins(y=0.12)
    return ax


def _explained(with_paper: bool) -> list[Line2D]:
    explained = [
        Line2D([], [], ls="", marker="o", color=GREY, ms=5, label="a seed"),
        Line2D([], [], color=GREY, lw=1.8, label="mean over seeds"),
        Line2D([], [], ls="", marker="*", color=GREY, ms=9, mew=0, label="the paper"),
    ]
    return explained if with_paper else explained[:-1]
