"""Figure 3 and Table 2: the gradient flow of each layer, over training and on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.gradient_flow import QUANTITY, table
from dropdiag.analysis.scalar import of_one_phase
from dropdiag.errors import NotRecordedError
from dropdiag.plots.equal_loss import against_loss
from dropdiag.plots.heat import profile, step_maps
from dropdiag.plots.layered import by_panel, by_site, one_look, sites
from dropdiag.plots.layout import MANY, begin, finish, log_axis, panels, share_log_y
from dropdiag.plots.steps import Part, over_steps, remarks
from dropdiag.plots.style import GREY, Look, Styles, context, styled
from dropdiag.plots.words import Conditions, Layers, Titles, interval, layer_names, names_cut, power, site_titles
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs
from dropdiag.store.schema import TRAIN

MEAN, RATIO = 10.0, 80.0  # where the columns of numbers begin, in points from the panel
BINS: Final = 80
NUMBERS: Final = 48
"""Means that are written: more would make the figure metres tall."""
ADVICE: Final = "draw the curves of one layer with plots.scalar(runs, 'net_grad_abs_mean', layers=[...], ax=ax)"
LABEL = r"mean $|\partial L/\partial z|$"


def gradient_flow(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    baseline: str | None = None,
    against: str | None = None,
    loss: str = "loss",
    phase: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the gradient flow of each layer over training, and its mean (Figure 3, Table 2).

    Upper panels: geometric mean over seeds (line) and the geometric standard deviation over seeds (band), steps
    averaged in bins, on a log axis. Lower panel: mean over all recorded training steps (mark: over seeds; bar:
    standard deviation over seeds), and the ratio to the baseline, paired by seed, with its 95 % interval where
    there are two pairs or more; of more than 48 layers and conditions the marks alone. A layer without any gradient
    (it is frozen, say) keeps its panel, which says so, and stands with "–" for its mean.

    Parameters
    ----------
    runs, layers, conditions
        As in `dropdiag.plots.weights`.
    baseline : str, optional
        Condition that the ratios refer to; by default as in `dropdiag.analysis.gradient_flow.table`.
    against : {"loss"}, optional
        Draw the gradient flow of each layer against the smoothed loss, and beside it its ratio to the baseline where
        both had the same loss; see `dropdiag.analysis.gradient_flow.at_equal_loss`.
    loss, phase
        Which loss, as in `dropdiag.analysis.gradient_flow.at_equal_loss`.
    ax : Axes, optional
        Refused, for this figure has a panel of curves and one of means: `dropdiag.plots.scalar` draws the curves alone.

    Returns
    -------
    Figure
        With more than 32 layers a map for each condition stands in place of a panel for each layer, and the means are
        lines over the layers.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`; also for an unknown baseline, or where no layer has any gradient; as in
        `dropdiag.analysis.gradient_flow.at_equal_loss`.

    Examples
    --------
    >>> figure = dd.plots.gradient_flow(runs, baseline="No dropout")
    >>> figure = dd.plots.gradient_flow(runs, against="loss")
    """
    if against is not None:
        asked = {"conditions": conditions, "baseline": baseline, "loss": loss, "phase": phase}
        return against_loss(runs, against, layers, asked, ax)
    names, titles = layer_names(layers)
    with context():
        lines = of_one_phase(runs, QUANTITY, TRAIN, layers=names, conditions=conditions, log=True, bins=BINS)
        means = by_panel(runs, table(runs, layers=names, conditions=conditions, baseline=baseline), names)
        styles = one_look(runs, conditions)
        if lines["value"].isna().all():
            raise NotRecordedError(_nothing(means))
        parts = by_site(lines)
        found, numbers = sites(means), len(means) <= NUMBERS
        if len(found) > MANY and ax is None:
            return _maps(lines, means, styles, titles)
        below = 0.85 + (0.2 * len(means) if numbers else sum(_heights(means, numbers=False)) * 0.075)
        figure, axes = panels(len(found), height=2.3, below=below, ax=ax, advice=ADVICE)
        *grid, foot = axes
        held = {site: set(part["condition"]) for site, part in by_site(means).items()}
        called = site_titles(found, titles)
        for (site, title), one in zip(called.items(), grid, strict=True):
            over_steps(parts[site], ax=one, styles=styles, log=True, empty="no gradient")
            one.set_title(title)
            remarks(one, Part(title, parts[site], held[site], log=True), styles, logs=True)
        share_log_y(grid)
        averages(means, ax=foot, styles=styles, titles=titles, numbers=numbers)
        return finish(figure, grid, styles, label=LABEL, marks=True)


def _maps(lines: pd.DataFrame, means: pd.DataFrame, styles: Mapping[str, Look], titles: Titles) -> Figure:
    """Figure of many layers: a map over training for each condition, and the means over the layers."""
    found = sites(means)
    figure, axes = step_maps(lines, found, styles, titles, scale=LABEL, log=True, more=1)
    profile(axes[-1], found, means.assign(mean=means["mean"].where(means["mean"] > 0.0)), "mean", styles)
    axes[-1].set(title="mean over training", xlabel=LABEL, xscale="log")
    return finish(figure, axes, styles)


@styled
def averages(
    means: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
    titles: Titles = None,
    numbers: bool = True,
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
    numbers : bool
        Whether the numbers stand beside the marks; without them the rows are closer.

    Returns
    -------
    Axes
        A log x axis; the layers from top to bottom in the frame's order, a row a condition; "–" in place of a
        mean that is missing.
    """
    ax, styles = begin(ax, styles, means)
    found, heights = sites(means), _heights(means, numbers=numbers)
    top = dict(zip(found, np.cumsum([0.0, *heights[:-1]]), strict=True))
    rank = {name: i for i, name in enumerate(styles)}
    # a layer has a row for each condition that has it: others would leave holes, or press the rest together
    y = np.empty(len(means))
    for site, rows in by_site(means.reset_index(drop=True)).items():
        y[rows.index[np.argsort(rows["condition"].map(rank))]] = top[site] + np.arange(len(rows))
    for name, part in means.assign(y=y).groupby("condition", sort=False):
        _marks(ax, part[part["mean"] > 0.0], styles[str(name)])  # a log axis has no place for 0, or for nothing
        for row in part.itertuples(index=False) if numbers else ():
            _numbers(ax, row, styles[str(name)].colour)
    _rows(ax, list(top.values()), heights, site_titles(found, titles))
    compared = bool((means["baseline"].notna() & (means["condition"] != means["baseline"])).any())
    if numbers:
        base = str(means["baseline"].iloc[0])
        _head(ax, names_cut([*styles, base], 16)[base] if compared else None)
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


def _heights(means: pd.DataFrame, *, numbers: bool) -> list[float]:
    """Rows that each layer takes, with some between two layers, and at least those that its name needs."""
    least = 1.0 if numbers else 2.0
    return [max(len(part), least) + (0.7 if numbers else 0.8) for part in by_site(means).values()]


def _rows(ax: Axes, tops: list[float], heights: list[float], titles: Mapping[Site, str]) -> None:
    middle = [top + (height - 1.7) / 2 for top, height in zip(tops, heights, strict=True)]
    ax.set_yticks(middle, list(titles.values()))
    ax.tick_params(axis="y", length=0)
    borders = [top - 0.85 for top in tops[1:]]
    ax.hlines(borders, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7, zorder=0)
    ax.set_ylim(tops[-1] + heights[-1] - 0.85, -1.3)
    ax.spines["left"].set_visible(False)


def _head(ax: Axes, baseline: str | None) -> None:
    top = ax.get_ylim()[1] + 0.1
    _column(ax, MEAN, top, "mean", GREY)
    if baseline is not None:
        _column(ax, RATIO, top, f"ratio to {baseline} [95 %]", GREY)


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
