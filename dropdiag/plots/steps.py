"""The panel behind all curves over training, a line a condition and a band over its seeds, and figures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from dropdiag.plots.layout import absent, begin, finish, panels, share_log_y
from dropdiag.plots.style import GREY, Look, Panels, Styles
from dropdiag.plots.words import plain


class Part(NamedTuple):
    """What one panel shows: its curves, and the conditions that recorded the scalar, finite or not."""

    title: str
    lines: pd.DataFrame
    held: set[str]
    log: bool


def figure_over_steps(
    parts: Sequence[Part], styles: dict[str, Look], *, width: float = 3.0, label: str = "", shared: bool = False
) -> Panels:
    """Figure with a panel of curves for each part.

    Parameters
    ----------
    parts : sequence of Part
    styles : dict of str to Look
        Conditions of the figure; a panel says which of them it does not show, and why.
    width : float
        Of a panel, in inches.
    label : str
        Y label of all panels.
    shared : bool
        Whether all have one log y axis.

    Returns
    -------
    Panels
    """
    figure, axes = panels(len(parts), width=width)
    for part, ax in zip(parts, axes, strict=True):
        over_steps(part.lines, ax=ax, styles=styles, log=part.log)
        ax.set_title(part.title)
        absent(ax, styles, drawn=set(part.lines["condition"]), held=part.held)
    if shared:
        share_log_y(axes)
    return finish(figure, axes, styles, label=label)


def over_steps(
    lines: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
    log: bool = False,
    empty: str = "no finite value",
) -> Axes:
    """Draw one scalar over training steps.

    Parameters
    ----------
    lines : DataFrame
        Rows of one layer or phase of the ``curves`` of `dropdiag.analysis.scalar`, ``gradient_flow`` or ``learning``:
        columns condition, step, value, low, high.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    log : bool
        Log y axis.
    empty : str
        Written in a panel without any line.

    Returns
    -------
    Axes
        A line a condition, a mark where it has one step alone; a band where there are at least two seeds.
    """
    ax, styles = begin(ax, styles, lines)
    ax.set_yscale("log" if log else "linear")
    ax.set_xlabel("training step")
    if lines.empty:
        ax.text(0.5, 0.5, empty, transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_xticks([])
        return ax
    for name, part in lines.groupby("condition", sort=False):
        # one run alone has no band, and a line of one point is not seen
        look = styles[str(name)]
        band = part[part["low"].notna()]
        ax.fill_between(band["step"], band["low"], band["high"], color=look.colour, alpha=0.2, lw=0)
        ax.plot(part["step"], part["value"], color=look.colour, linestyle=look.line, lw=1.4,
                marker=look.marker if len(part) == 1 else "", label=plain(str(name)))  # fmt: skip
    ax.locator_params(axis="x", nbins=5)
    return ax
