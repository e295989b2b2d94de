"""The figures of Figure 8's page: accuracies as points, and the figures of `dropdiag.plots`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dropdiag import plots
from dropdiag.experiments import paper
from dropdiag.experiments.figures import Drawing
from dropdiag.experiments.images.network import activation_layers, weight_layers
from dropdiag.experiments.images.tables import final_accuracy
from dropdiag.plots.layout import own_axes, panels
from dropdiag.plots.style import GREY, Look, context, looks
from dropdiag.store.reader import Runs

SPREAD: Final = 0.12
"""How far points of different seeds stand apart, in conditions."""


def drawings(dataset: str) -> dict[str, Drawing]:
    """Return the name of each figure and how it is drawn from the runs (and the number of layers, not needed)."""
    return {
        "accuracy": lambda runs, _layers: accuracy(runs, dataset),
        "learning": lambda runs, _layers: plots.learning(runs),
        "gradient_flow": lambda runs, _layers: plots.gradient_flow(runs, layers=activation_layers()),
        "weights": lambda runs, _layers: plots.weights(runs, layers=weight_layers()),
        "correlation": lambda runs, _layers: plots.correlation(runs, layers=activation_layers()),
        "saturation": lambda runs, _layers: plots.saturation(runs, layers=activation_layers()),
        "gaaf": lambda _runs, _layers: plots.gaaf(),
    }


def accuracy(runs: Runs, dataset: str) -> Figure:
    """Draw the final test accuracy of every run, with the published one beside it (Figure 8).

    Parameters
    ----------
    runs : Runs
    dataset : {"cifar10", "cifar100", "svhn"}

    Returns
    -------
    Figure
    """
    with context():
        styles = looks(runs.conditions)
        figure, (ax,) = panels(1, width=10.0, height=3.0)
        points(final_accuracy(runs), paper.IMAGE_ACCURACY[dataset], ax=ax, styles=styles)
        ax.set_ylabel("test accuracy, %")
        figure.legend(handles=_explained(), loc="outside lower center", ncols=3)
    return figure


def points(
    final: pd.DataFrame,
    published: Mapping[str, float],
    *,
    ax: Axes | None = None,
    styles: Mapping[str, Look] | None = None,
) -> Axes:
    """Draw one accuracy a run: a column a condition, a point a seed, a bar at the mean, a star as published.

    Parameters
    ----------
    final : DataFrame
        See `dropdiag.experiments.images.tables.final_accuracy`.
    published : mapping of str to float
        Per cent by condition.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
    """
    ax = own_axes(ax)
    names = list(final["condition"].unique())
    styles = styles or looks(names)
    for place, name in enumerate(names):
        values = final.loc[final["condition"] == name, "accuracy"].to_numpy(dtype=np.float64)
        offsets = SPREAD * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else np.zeros(1)
        look = styles[name]
        ax.plot(place + offsets, values, look.marker, color=look.colour, ms=5, alpha=0.75, mew=0)
        ax.hlines(values.mean(), place - 0.25, place + 0.25, color=look.colour, lw=1.8)
        ax.plot([place + 0.3], [published[name]], "*", color=GREY, ms=9, mew=0)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.margins(y=0.12)
    return ax


def _explained() -> list[Line2D]:
    return [
        Line2D([], [], ls="", marker="o", color=GREY, ms=5, label="a seed"),
        Line2D([], [], color=GREY, lw=1.8, label="mean over seeds"),
        Line2D([], [], ls="", marker="*", color=GREY, ms=9, mew=0, label="the paper"),
    ]
