"""What active measurements found, over seeds: curves over a parameter, and single numbers, a mark a condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dropdiag.plots.layout import absent, begin, note
from dropdiag.plots.style import GREY, Styles, styled
from dropdiag.plots.words import names_cut, plain


@styled
def over_x(lines: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, xlabel: str = "") -> Axes:
    """Draw one family of numbers over its parameter.

    Parameters
    ----------
    lines : DataFrame
        Rows of one family of `dropdiag.analysis.measured_curves.over_seeds`.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    xlabel : str

    Returns
    -------
    Axes
        A line and marks a condition, and a band for the 95 % interval over seeds, where there are at least two.
    """
    ax, styles = begin(ax, styles, lines)
    ax.set_xlabel(xlabel)
    opacity = min(0.2, 0.9 / max(lines["condition"].nunique(), 1))  # many bands over each other would hide all
    for name, part in lines.sort_values("x", kind="stable").groupby("condition", sort=False):
        look = styles[str(name)]
        band = part[part["low"].notna()]
        ax.fill_between(band["x"], band["low"], band["high"], color=look.colour, alpha=opacity, lw=0)
        ax.plot(part["x"], part["value"], color=look.colour, linestyle=look.line, marker=look.marker, ms=4.0, lw=1.4,
                label=plain(str(name)))  # fmt: skip
    ax.locator_params(nbins=5)
    return ax


@styled
def by_mark(means: pd.DataFrame, runs: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None) -> Axes:
    """Draw one number, a mark a condition and a small one a run.

    Parameters
    ----------
    means : DataFrame
        Rows of one number of `dropdiag.analysis.measured_curves.over_seeds`.
    runs : DataFrame
        Those of `dropdiag.analysis.measured_curves.per_run` that they are the means of.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
        With the mean and, where there are at least two runs, its 95 % interval; beside them the runs. A condition
        without a value has an empty place.
    """
    ax, styles = begin(ax, styles, means)
    place = {name: i for i, name in enumerate(styles)}
    for row in means.to_dict("records"):
        name = str(row["condition"])
        look, x = styles[name], place[name]
        if np.isnan(row["value"]):
            continue
        ax.vlines(x, row["low"], row["high"], color=look.colour, lw=1.3)
        ax.plot([x], [row["value"]], look.marker, color=look.colour, ms=5.0, zorder=4, label=plain(name))
        values = runs.loc[runs["condition"] == name, "value"].dropna()
        ax.plot(np.full(len(values), x + 0.22), values, ".", color=look.colour, ms=3.5, alpha=0.6)
    ax.axhline(0.0, color=GREY, lw=0.6, zorder=0)
    ax.set_xlim(-0.6, len(place) - 0.4)
    ax.set_xticks([])
    ax.locator_params(axis="y", nbins=5)
    return ax


def say_missing(ax: Axes, rows: pd.DataFrame, styles: Styles, held: Sequence[str]) -> None:
    """Say below a panel which conditions it does not show, and of which some runs have no value."""
    looks = styles or {}
    absent(ax, looks, drawn=set(rows.loc[rows["value"].notna(), "condition"]), held=set(held))
    told = names_cut(looks, 18)
    few = rows[(rows["missing"] > 0) & (rows["seeds"] > 0)].groupby("condition", sort=False)["missing"].max()
    if len(few):
        note(ax, "runs without a value: " + ", ".join(f"{told[str(name)]} {n}" for name, n in few.items()))
