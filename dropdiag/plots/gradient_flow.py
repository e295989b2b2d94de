"""Figure 3 and Table 2: the gradient flow of each layer, over training and on average."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dropdiag.analysis.gradient_flow import curves, table
from dropdiag.analysis.select import GROUP
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import by_panel, by_site, one_look, sites
from dropdiag.plots.layout import begin, finish, log_axis, panels, share_log_y
from dropdiag.plots.steps import over_steps
from dropdiag.plots.style import GREY, Look, Panels, Styles, context
from dropdiag.plots.words import Conditions, Layers, Titles, interval, layer_names, plain, power, site_titles
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs

MEAN, RATIO = 10.0, 80.0  # where the columns of numbers begin, in points from the panel
LABEL = r"mean $|\partial L/\partial z|$"


def gradient_flow(
    runs: Run | Runs, *, layers: Layers = None, conditions: Conditions = None, baseline: str | None = None
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
        means = by_panel(runs, table(runs, layers=names, conditions=conditions, baseline=baseline), names)
        styles = one_look(runs, conditions)
        if lines.empty:
            raise NotRecordedError(_nothing(means))
        parts = by_site(lines)
        figure, axes = panels(len(sites(means)), height=2.3, below=0.85 + 0.2 * len(means))
        *grid, below = axes
        called = site_titles(sites(means), titles)
        for (site, title), ax in zip(called.items(), grid, strict=True):
            over_steps(parts[site], ax=ax, styles=styles, log=True, empty="no gradient")
            ax.set_title(title)
        share_log_y(grid)
        averages(means, ax=below, styles=styles, titles=titles)
        return finish(figure, grid, styles, label=LABEL)


def averages(means: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, titles: Titles = None) -> Axes:
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
    ax, styles = begin(ax, styles, means)
    height = len(styles) + 0.7
    place = {site: height * i for i, site in enumerate(sites(means))}
    rank = {name: i for i, name in enumerate(styles)}
    y = [place[str(layer), int(call)] + rank[name] for name, layer, call in means[GROUP].itertuples(index=False)]
    for name, part in means.assign(y=y).groupby("condition", sort=False):
        _marks(ax, part[part["mean"] > 0.0], styles[str(name)])  # a log axis has no place for 0, or for nothing
        for row in part.itertuples(index=False):
            _numbers(ax, row, styles[str(name)].colour)
    _rows(ax, list(place), height, titles)
    compared = bool((means["baseline"].notna() & (means["condition"] != means["baseline"])).any())
    _head(ax, str(means["baseline"].iloc[0]) if compared else None)
    ax.set_xscale("log")
    _decades(ax, means)
    log_axis(ax, "x")
    ax.set_xlabel(LABEL + " over training (loss units per net-value unit)")
    return ax


def _nothing(means: pd.DataFrame) -> str:
    names = list(site_titles(sites(means)).values())
    layers = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return (f"no gradient flow to draw: not one value of {layers} is finite and positive; "
            "are the layers frozen, or did the gradients overflow?")  # fmt: skip


def _marks(ax: Axes, rows: pd.DataFrame, look: Look) -> None:
    """Draw the means of a condition, with their standard deviations cut before they reach 0."""
    sd = rows["mean_sd"].fillna(0.0)
    bars = [np.minimum(sd, 0.95 * rows["mean"]), sd]
    ax.errorbar(rows["mean"], rows["y"], xerr=bars, color=look.colour, marker=look.marker, ms=5, ls="none",
                elinewidth=1.3, capsize=2)  # fmt: skip


def _numbers(ax: Axes, row: Any, colour: str) -> None:
    """Write the mean, and the ratio to the baseline with its interval, where there are any."""
    _column(ax, MEAN, row.y, power(row.mean) if row.mean > 0.0 else "0" if row.mean == 0.0 else "–", colour)
    if row.condition != row.baseline and np.isfinite(row.ratio):
        _column(ax, RATIO, row.y, interval(row.ratio, row.ratio_low, row.ratio_high), colour)


def _column(ax: Axes, points: float, y: float, text: str, colour: str) -> None:
    """Write at the right of the axes, beside a row."""
    ax.annotate(text, (1.0, y), (points, 0.0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                va="center", fontsize=8.0, color=colour, annotation_clip=False)  # fmt: skip


def _rows(ax: Axes, found: list[Site], height: float, titles: Titles) -> None:
    middle = [place * height + (height - 1.7) / 2 for place in range(len(found))]
    ax.set_yticks(middle, list(site_titles(found, titles).values()))
    ax.tick_params(axis="y", length=0)
    borders = [place * height - 0.85 for place in range(1, len(found))]
    ax.hlines(borders, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7, zorder=0)
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
    # a bar that nearly reaches 0 would take up most of the decades
    low = float((means["mean"] - sd).clip(lower=0.3 * means["mean"]).min())
    high = float((means["mean"] + sd).max())
    if np.isfinite(low) and low > 0.0:
        spare = max(1.25, np.sqrt(max(10.0 * low / high, 1.0)))
        ax.set_xlim(low / spare, high * spare)
