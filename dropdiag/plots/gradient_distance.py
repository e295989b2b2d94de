"""Of Figure 4: the gradient that masks give to saturated nodes, against where their mean net value lies."""

from __future__ import annotations

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
    found: pd.DataFrame, borders: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None
) -> Axes:
    """Draw the gradient probability of one layer's saturated nodes against their mean net value.

    Parameters
    ----------
    found, borders : DataFrame
        Rows of one layer of `dropdiag.analysis.gradient_distance.gradient_by_distance` and of ``areas`` of
        `dropdiag.analysis.net_variance`.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
        A line for each condition and side, a point a bin: the mean over seeds, at the mean of the bin's net values; a
        band of one standard deviation where there are two seeds or more. Points of fewer than ten means in all, and
        what leads to them, are pale.
    """
    ax, styles = begin(ax, styles, found)
    ax.set(xlabel="mean net value $z$ over masks", ylabel="gradient probability")
    known = found[found["gradient_probability"].notna()]
    if known.empty:
        ax.text(0.5, 0.5, "not recorded" if found.empty else "no mean in the saturation area", transform=ax.transAxes,
                ha="center", va="center", color=GREY)  # fmt: skip
        ax.set(xticks=[], yticks=[])
        return ax
    x = np.where(known["side"] == "left", -1.0, 1.0) * known["distance"]
    margin = 0.06 * max(float(x.max() - x.min()), 0.1 * float(np.abs(x).max()))
    window = float(x.min()) - margin, float(x.max()) + margin
    ends = borders[["low", "high"]].to_numpy(np.float64)
    for border in ends[np.isfinite(ends)]:  # the area is seen to begin where it does, if that is near
        window = min(window[0], border - margin), max(window[1], border + margin)
    shade(ax, borders.drop_duplicates(["low", "high"]), window)
    top = 0.0
    for (name, _), part in known.assign(x=x).sort_values("x").groupby(["condition", "side"], sort=False):
        look = styles[str(name)]
        mean, sd = part["gradient_probability"], part["gradient_probability_sd"].fillna(0.0)
        low, high = (mean - sd).clip(lower=0.0), (mean + sd).clip(upper=1.0)
        many = part["means"] >= FEW
        ax.fill_between(part["x"], low, high, color=look.colour, alpha=0.18, lw=0)
        ax.plot(part["x"], mean, color=look.colour, linestyle=look.line, lw=1.1, alpha=0.35)
        ax.plot(part["x"].where(many), mean, color=look.colour, linestyle=look.line, lw=1.3)
        ax.plot(part["x"][many], mean[many], look.marker, color=look.colour, ms=3.2)
        ax.plot(part["x"][~many], mean[~many], look.marker, color=look.colour, ms=3.2, alpha=0.35)
        top = max(top, float(high.max()))
    ax.set(xlim=window, ylim=(0.0, 1.06 * top if top else 1.0))
    ax.locator_params(axis="x", nbins=6)
    return ax
