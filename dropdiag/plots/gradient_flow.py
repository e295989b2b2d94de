"""Figure 3 and Table 2: the gradient flow of each layer, over training and on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dropdiag.analysis.gradient_flow import curves, table
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import Layers, Sites, at, label_rows, one_look, sites
from dropdiag.plots.style import (
    COLUMNS,
    GREY,
    Look,
    Panels,
    context,
    dress,
    layer_names,
    legend,
    log_axis,
    looks,
    own_axes,
    plain,
    site_title,
)
from dropdiag.store.reader import Run, Runs

MEAN, RATIO = 10.0, 80.0  # where the columns of numbers begin, in points from the panel
LABEL = r"mean $|\partial L/\partial z|$"


def gradient_flow(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: list[str] | None = None,
    baseline: str | None = None,
) -> Panels:
    """Draw the gradient flow of each layer over training, and its mean (Figure 3, Table 2).

    Upper panels: geometric mean over seeds (line) and the geometric standard deviation over seeds (band),
    steps averaged in bins, on a log axis. Lower panel: mean over all recorded training steps (mark: over
    seeds; bar: standard deviation over seeds), and the ratio to the baseline, paired by seed, with its 95 %
    interval where there are two pairs or more. A layer without any gradient (it is frozen, say) keeps its
    panel, which says so, and stands with "–" for its mean.

    Parameters
    ----------
    runs, layers, conditions
        As in `dropdiag.plots.weights`.
    baseline : str, optional
        Condition that the ratios refer to; by default as in `dropdiag.analysis.gradient_flow.table`.

    Returns
    -------
    Panels
        A matplotlib Figure.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`; also for an unknown baseline, or where no layer has any gradient.
    """
    names, titles = layer_names(layers)
    with context():
        lines = curves(runs, layers=names, conditions=conditions)
        means = table(runs, layers=names, conditions=conditions, baseline=baseline)
        styles = one_look(runs, conditions)
        if lines.empty:
            raise NotRecordedError(_nothing(means))
        found = sites(means)
        figure, grid, below = _figure(len(found), len(means))
        for (layer, call), ax in zip(found, grid, strict=True):
            over_steps(at(lines, layer, call), ax=ax, styles=styles)
            ax.set_title(site_title(layer, call, titles))
        log_axis(grid[0], "y")
        label_rows(grid, LABEL)
        averages(means, ax=below, styles=styles, titles=titles)
        legend(figure, styles)
    return figure


def over_steps(lines: pd.DataFrame, *, ax: Axes | None = None, styles: Mapping[str, Look] | None = None) -> Axes:
    """Draw the gradient flow of one layer over training steps, on a log axis.

    Parameters
    ----------
    lines : DataFrame
        Rows of one layer of `dropdiag.analysis.gradient_flow.curves`.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
        A line a condition; a band where there are at least two seeds; the words "no gradient" for an empty
        frame.
    """
    ax = own_axes(ax)
    styles = styles or looks(lines["condition"].unique())
    if lines.empty:
        ax.text(0.5, 0.5, "no gradient", transform=ax.transAxes, ha="center", va="center", color=GREY)
    for name, part in lines.groupby("condition", sort=False):
        look = styles[str(name)]
        band = part[part["low"].notna()]
        ax.fill_between(band["step"], band["low"], band["high"], color=look.colour, alpha=0.2, lw=0)
        ax.plot(part["step"], part["value"], color=look.colour, linestyle=look.line, lw=1.4, label=plain(str(name)))
    ax.set_yscale("log")
    ax.set_xlabel("training step")
    if lines.empty:
        ax.set_xticks([])
    else:
        ax.locator_params(axis="x", nbins=5)
    return ax


def averages(
    means: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Mapping[str, Look] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Axes:
    """Draw the mean gradient flow of every layer and condition, with its value and ratio at the right.

    Parameters
    ----------
    means : DataFrame
        As returned by `dropdiag.analysis.gradient_flow.table`.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    titles : mapping of str to str, optional
        Layer -> what to call it.

    Returns
    -------
    Axes
        A log x axis; the layers from top to bottom in the frame's order, a row a condition; "–" in place of a
        mean that is missing.
    """
    ax = own_axes(ax)
    styles = styles or looks(means["condition"].unique())
    found = sites(means)
    height = len(styles) + 0.7
    for place, (layer, call) in enumerate(found):
        for row in at(means, layer, call).itertuples(index=False):
            y = place * height + list(styles).index(str(row.condition))
            _mark(ax, y, row, styles[str(row.condition)])
            _ratio(ax, y, row, styles[str(row.condition)].colour)
    _rows(ax, found, height, titles)
    compared = bool((means["condition"] != means["baseline"]).any())
    _head(ax, str(means["baseline"].iloc[0]) if compared else None)
    ax.set_xscale("log")
    _decades(ax, means)
    log_axis(ax, "x")
    ax.set_xlabel(LABEL + " over training (loss units per net-value unit)")
    return ax


def _figure(count: int, rows: int) -> tuple[Panels, list[Axes], Axes]:
    """Panels above, one panel across below them; each part has margins of its own."""
    lines = -(-count // COLUMNS)
    across = -(-count // lines)
    heights = [2.3 * lines, 0.85 + 0.2 * rows]
    figure = Panels(figsize=(max(3.0 * across, 7.5), sum(heights) + 0.35), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    above, below = parts
    grid = above.subplots(lines, across, squeeze=False, sharey=True).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, [dress(axes) for axes in grid[:count]], dress(below.subplots())


def _nothing(means: pd.DataFrame) -> str:
    layers = ", ".join(site_title(layer, call) for layer, call in sites(means)[:4])
    return (
        f"no gradient flow to draw: not one value of {layers}{', ...' if len(sites(means)) > 4 else ''} is finite "
        "and positive; are the layers frozen, or did the gradients overflow?"
    )


def _mark(ax: Axes, y: float, row: Any, look: Look) -> None:
    if not row.mean > 0.0:  # missing, or 0: a log axis has no place for either
        _column(ax, MEAN, y, "0" if row.mean == 0.0 else "–", look.colour)
        return
    sd = row.mean_sd if np.isfinite(row.mean_sd) else 0.0
    low = min(sd, 0.95 * row.mean)  # a log axis has no place for 0
    ax.errorbar(row.mean, y, xerr=[[low], [sd]], color=look.colour, marker=look.marker, ms=5, lw=1.3, capsize=2)
    _column(ax, MEAN, y, _power(row.mean), look.colour)


def _ratio(ax: Axes, y: float, row: Any, colour: str) -> None:
    """Write the ratio to the baseline and its interval, where there are any."""
    if row.condition != row.baseline and np.isfinite(row.ratio):
        interval = f" [{row.ratio_low:.2f}, {row.ratio_high:.2f}]" if np.isfinite(row.ratio_low) else ""
        _column(ax, RATIO, y, f"{row.ratio:.2f}{interval}", colour)


def _column(ax: Axes, points: float, y: float, text: str, colour: str) -> None:
    """Write at the right of the axes, beside a row."""
    ax.annotate(
        text,
        (1.0, y),
        (points, 0.0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=8.0,
        color=colour,
        annotation_clip=False,
    )


def _power(value: float) -> str:
    """Three digits and a power of ten, as mathtext."""
    digits, exponent = f"{value:.2e}".split("e")
    return rf"${digits} \times 10^{{{int(exponent)}}}$"


def _rows(ax: Axes, found: Sites, height: float, titles: Mapping[str, str] | None) -> None:
    middle = [place * height + (height - 1.7) / 2 for place in range(len(found))]
    ax.set_yticks(middle, [site_title(layer, call, titles) for layer, call in found])
    ax.tick_params(axis="y", length=0)
    for place in range(1, len(found)):
        ax.axhline(place * height - 0.85, color="#DDDDDD", lw=0.7, zorder=0)
    ax.set_ylim(len(found) * height - 0.85, -1.3)
    ax.spines["left"].set_visible(False)


def _head(ax: Axes, baseline: str | None) -> None:
    top = ax.get_ylim()[1] + 0.1
    _column(ax, MEAN, top, "mean", GREY)
    if baseline is not None:
        _column(ax, RATIO, top, f"ratio to {plain(baseline, 16)} [95 %]", GREY)


def _decades(ax: Axes, means: pd.DataFrame) -> None:
    """Limits wide enough for the marks, and at least one decade, so that there are two labelled ticks."""
    means = means[means["mean"] > 0.0]
    sd = means["mean_sd"].fillna(0.0)
    low, high = (
        float((means["mean"] - sd).clip(lower=0.3 * means["mean"]).min()),
        float((means["mean"] + sd).max()),
    )
    if np.isfinite(low) and low > 0.0:
        spare = max(1.25, np.sqrt(max(10.0 * low / high, 1.0)))
        ax.set_xlim(low / spare, high * spare)
