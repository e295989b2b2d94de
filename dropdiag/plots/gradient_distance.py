"""Of Figure 4: the gradient that masks give to saturated nodes, against where their mean net value lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dropdiag.plots.layout import begin
from dropdiag.plots.saturation import shade
from dropdiag.plots.style import GREY, Styles

FEW: Final = 10
"""Means in a bin, below which its point is pale."""


def gradient_by_distance(
    found: pd.DataFrame,
    borders: pd.DataFrame,
    numbers: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
) -> Axes:
    """Draw the gradient probability of one layer's saturated nodes against their mean net value.

    Parameters
    ----------
    found, borders, numbers : DataFrame
        Rows of one layer of `dropdiag.analysis.gradient_distance.gradient_by_distance`, and of ``areas`` and
        ``table`` of `dropdiag.analysis.net_variance`.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
        A line for each condition and side, a point a bin: the mean over seeds, at the mean of the bin's net values; a
        band of one standard deviation where there are two seeds or more. Points of fewer than ten means in all, and
        what leads to them, are pale.
    """
    ax, styles = begin(ax, styles, numbers)
    ax.set(xlabel="mean net value $z$ over masks", ylabel="gradient probability")
    known = found[found["gradient_probability"].notna()]
    if known.empty:
        none = (numbers["saturated_mean_share"] == 0.0).all()
        ax.text(0.5, 0.5, "no mean in the saturation area" if none else "not known", transform=ax.transAxes,
                ha="center", va="center", color=GREY)  # fmt: skip
        ax.set(xticks=[], yticks=[])
        return ax
    ends = borders[["low", "high"]].to_numpy(np.float64)
    # what has no mean is kept, so that no line leads over it
    every = found.assign(x=np.where(found["side"] == "left", -1.0, 1.0) * found["distance"])
    x = every.loc[known.index, "x"]
    # with the borders: the area is seen to begin where it does
    shown = np.concatenate([x, ends[np.isfinite(ends)]])
    margin = 0.06 * float(np.ptp(shown)) or 1.0
    window = float(shown.min()) - margin, float(shown.max()) + margin
    shade(ax, borders.drop_duplicates(["low", "high"]), window)
    top = 0.0
    for (name, _), part in every.sort_values("x").groupby(["condition", "side"], sort=False):
        look = styles[str(name)]
        mean, sd = part["gradient_probability"], part["gradient_probability_sd"].fillna(0.0)
        low, high = (mean - sd).clip(lower=0.0), (mean + sd).clip(upper=1.0)
        many, few = (part["means"] >= FEW) & mean.notna(), (part["means"] < FEW) & mean.notna()
        ax.fill_between(part["x"], low, high, color=look.colour, alpha=0.18, lw=0)
        ax.plot(part["x"], mean, color=look.colour, linestyle=look.line, lw=1.1, alpha=0.35)
        ax.plot(part["x"].where(many), mean, color=look.colour, linestyle=look.line, lw=1.3)
        ax.plot(part["x"][many], mean[many], look.marker, color=look.colour, ms=3.2)
        ax.plot(part["x"][few], mean[few], look.marker, color=look.colour, ms=3.2, alpha=0.35)
        top = max(top, float(high.max(skipna=True)))
    ax.set(xlim=window, ylim=(0.0, 1.06 * top if top else 1.0))
    ax.locator_params(axis="x", nbins=6)
    return ax


def share_probabilities(axes: Sequence[Axes]) -> None:
    """Give panels of several layers one scale of probabilities, by which they are compared."""
    # a panel of zeros alone, as of a layer that no mask reaches, has a scale up to 1
    above = [ax for ax in axes if any(np.nanmax(line.get_ydata(), initial=0.0) > 0.0 for line in ax.lines)]
    top = max((ax.get_ylim()[1] for ax in above), default=1.0)
    for ax in axes:
        ax.set_ylim(0.0, top)
