"""Figure 4, measured: the net variance of each layer, and how it takes saturated nodes to where gradient is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dropdiag.analysis import net_variance as measured
from dropdiag.analysis.gradient_distance import gradient_by_distance
from dropdiag.analysis.kde import Limits
from dropdiag.analysis.select import GROUP
from dropdiag.errors import NotRecordedError
from dropdiag.plots.gradient_distance import gradient_by_distance as draw_distances
from dropdiag.plots.gradient_distance import share_probabilities
from dropdiag.plots.heat import height, name_rows, profile
from dropdiag.plots.layered import by_panel, by_site, one_look, sites
from dropdiag.plots.layout import COLUMNS, MANY, begin, finish, log_axis, panels
from dropdiag.plots.saturation import LINE, shade, size
from dropdiag.plots.style import GREY, SHADE, Look, Styles, context, looks, styled
from dropdiag.plots.words import Conditions, Layers, Titles, layer_names, site_titles
from dropdiag.store.net_variance import NetVariance
from dropdiag.store.reader import Run, Runs

ADVICE: Final = "draw one with variance() or masked_densities() of dropdiag.plots.net_variance"
SLOPE: Final = "#000000"
DECADES: Final = 100.0
"""Greatest over least mean, above which the axis of many layers is logarithmic."""
ROW: Final = 0.07
"""Height in inches of a mark."""
DOTTED: Final = (0, (1.2, 1.2))


def net_variance(
    source: Run | Runs | NetVariance,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    limits: Limits = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the net variance under dropout, and for each layer what it does to saturated nodes (Figure 4).

    The first panel shows, for each layer, the distribution of the net variance over its net values: a line from the
    5 % to the 95 % quantile, a bar from quartile to quartile, the mean as a dot, and a cross where the closed form says
    that the mean should be (for the dropout right before the layer alone).

    Then come two panels a layer. In the first: abs(phi') dotted; grey, the net values whose mean over masks lies in the
    saturation area (shaded); in colour, where masks take these same nodes. Above it stand the gradient probability
    (share of masks in which they leave the area) and the mean of abs(phi') over masks, beside that at the means. The
    densities have no scale of their own: each has its greatest height at nine tenths of the panel. In the second: the
    gradient probability against the mean net value, a mean over seeds with a band of one standard deviation; pale where
    fewer than ten means lie. It shows whether masks give gradient near the border alone, or far out as well. Of runs
    that were recorded before this could be there is no such panel.

    Parameters
    ----------
    source : Run, Runs or NetVariance
        Runs in which `Recorder.net_variance` was called, or what `dropdiag.measure.net_variance` gave.
    layers : list of str, or mapping of name to title, optional
    conditions : list of str, optional
    phase : str, optional
        As in `dropdiag.analysis.net_variance.table`.
    limits : (float, float), optional
        First and last net value.
    ax : Axes, optional
        Refused, for this figure has a panel for all layers and one for each: `variance` and `masked_densities` in this
        file draw one.

    Returns
    -------
    Figure
        With more than 32 layers the first panel alone, as lines over the layers; so it is, beside the others, where the
        marks of layers and conditions would overlap.

    Raises
    ------
    ArgumentError
        For an unknown layer or condition, or where no mean lies in a saturation area.
    NotRecordedError
        If no run holds a net variance.

    Examples
    --------
    >>> figure = dd.plots.net_variance(runs)
    >>> figure = dd.plots.net_variance(dd.measure.net_variance(model, batch, masks=16))
    """
    names, titles = layer_names(layers)
    with context():
        styles = looks([measured.ONE_MODEL]) if isinstance(source, NetVariance) else one_look(source, conditions)
        found = _read(source, names, list(styles), phase)
        numbers, masked = measured.table(found), measured.masked_net_values(found, limits=limits)
        held = set(numbers["condition"])  # one without dropout has no net variance
        styles = {name: look for name, look in styles.items() if name in held}
        slopes = measured.slopes(found, (float(masked["left"].min()), float(masked["right"].max())))
        if isinstance(source, (Run, Runs)):
            numbers, slopes = (by_panel(source, frame, names) for frame in (numbers, slopes))
        far = gradient_by_distance(found)
        known = list(by_site(slopes))
        if len(sites(numbers)) > MANY:
            figure, axes = panels(1, width=6.0, height=height(len(sites(numbers))), ax=ax, advice=ADVICE)
            variance(measured.spread(found), numbers, ax=axes[0], styles=styles, titles=titles)
            return finish(figure, axes, {} if isinstance(source, NetVariance) else styles)
        tall = 2.5 + 0.12 * len(styles)
        figure, axes = _grid(len(known), height=tall, pairs=bool(len(far)), ax=ax)
        variance(measured.spread(found), numbers, ax=axes[0], styles=styles, titles=titles)
        parts = [by_site(frame) for frame in (masked, slopes, measured.areas(found), numbers)]
        distances = by_site(far)
        for place, (site, title) in enumerate(site_titles(known, titles).items(), start=1):
            masked_densities(*(part[site] for part in parts), ax=axes[place], styles=styles)
            axes[place].set_title(title)
            if len(far):
                below = axes[len(known) + place]
                draw_distances(distances[site], parts[2][site], parts[3][site], ax=below, styles=styles)
                below.set_title(f"{title}, by distance")
        share_probabilities([one for one in axes[1 + len(known) :] if one.lines])
        if isinstance(source, NetVariance):  # one model has no condition to name in the legend
            nodes = Line2D([], [], color=styles[measured.ONE_MODEL].colour, label="the same nodes, mask by mask")
            return finish(figure, figure.axes, {}, extra=[*_explained(axes[0]), nodes])
        return finish(figure, figure.axes, styles, extra=_explained(axes[0]))


def _grid(layers: int, *, height: float, pairs: bool, ax: Axes | None) -> tuple[Figure, list[Axes]]:
    """Figure with a panel for the net variance, one for each layer and, where wanted, another one for each below it.

    Returns
    -------
    figure : Figure
    axes : list of Axes
        The first panel, those of the layers, and those below them.
    """
    if not pairs or layers == 1:  # of one layer, both stand beside each other
        return panels(1 + (layers if not pairs else 2 * layers), height=height, ax=ax, advice=ADVICE)
    across = min(1 + layers, COLUMNS if 2 * (1 + layers) <= MANY else 2 * COLUMNS)
    bands = -(-(1 + layers) // across)
    figure, grid = panels(2 * bands * across, height=height, across=across, ax=ax, advice=ADVICE)
    above = [2 * across * (cell // across) + cell % across for cell in range(1 + layers)]
    chosen = [*above, *(place + across for place in above[1:])]
    for free in set(range(len(grid))) - set(chosen):
        grid[free].set_axis_off()
    return figure, [grid[place] for place in chosen]


def _read(source: Run | Runs | NetVariance, layers: list[str] | None, conditions: list[str],
          phase: str | None) -> measured.Measured:  # fmt: skip
    try:
        return measured.read(source, layers=layers, conditions=conditions, phase=phase)
    except NotRecordedError as error:
        if phase is not None:
            raise
        raise NotRecordedError(
            f"{error}. No probe records the net variance by itself: call rec.net_variance(x) on held-out inputs before "
            "the Recorder is closed, or draw what dropdiag.measure.net_variance(model, x) returns"
        ) from error


def _explained(variances: Axes) -> list[Line2D | Patch]:
    entries: list[Line2D | Patch] = [
        Line2D([], [], color=SLOPE, linestyle=DOTTED, label=r"$|\phi'(z)|$"),
        Patch(facecolor=SHADE, label="saturation area"),
        Patch(facecolor=GREY, alpha=0.55, label="means in it"),
    ]
    if any(line.get_marker() == "x" for line in variances.lines):  # lines over many layers are the means alone
        entries.append(Line2D([], [], color=SLOPE, marker="x", ms=6.0, mew=1.2, linestyle="none", label="closed form"))
    return entries


@styled
def variance(
    spread: pd.DataFrame, numbers: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, titles: Titles = None
) -> Axes:
    """Draw the distribution of the net variance of each layer.

    Parameters
    ----------
    spread, numbers : DataFrame
        As returned by `dropdiag.analysis.net_variance.spread` and ``table``.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    titles : mapping of str to str, optional
        Layer -> what the reader calls it.

    Returns
    -------
    Axes
        Of more than 32 layers, or where their rows would overlap, a line a condition over the layers: the mean alone.
    """
    ax, styles = begin(ax, styles, numbers)
    found, tall = sites(numbers), size(ax)[1]
    if len(found) > MANY or len(numbers) > tall / ROW:
        name_rows(ax, found, titles, tall + 0.7)
        profile(ax, found, numbers, "net_variance_mean", styles)
        ax.set(xlabel="mean net variance", title="Net variance")
        known = numbers["net_variance_mean"][numbers["net_variance_mean"] > 0.0]
        if len(known) and known.max() > DECADES * known.min():  # one layer would leave the others at the border
            ax.set_xscale("log")
            log_axis(ax, "x")
        else:
            ax.set_xlim(left=0.0)
        return ax
    shift = dict(zip(styles, np.linspace(-0.5, 0.5, len(styles) + 2)[1:-1], strict=True))
    for name, part in spread.merge(numbers, on=GROUP).groupby("condition", sort=False):
        look = styles[str(name)]
        y = [found.index(site) + shift[str(name)] for site in sites(part)]
        ax.hlines(y, part["lowest"], part["highest"], color=look.colour, lw=1.0)
        ax.hlines(y, part["low"], part["high"], color=look.colour, lw=5.0, alpha=0.45)
        ax.plot(part["net_variance_mean"], y, look.marker, color=look.colour, ms=4.5, zorder=4,
                clip_on=False)  # fmt: skip
        ax.plot(part["net_variance_closed_form_mean"], y, "x", color=SLOPE, ms=6.0, mew=1.2, zorder=5)
    ax.hlines(np.arange(1, len(found)) - 0.5, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_yticks(range(len(found)), list(site_titles(found, titles, width=18).values()))
    ax.set_xlim(left=0.0)
    ax.set(xlabel="net variance", title="Net variance")
    ax.locator_params(axis="x", nbins=5)
    return ax


@styled
def masked_densities(
    masked: pd.DataFrame,
    slopes: pd.DataFrame,
    borders: pd.DataFrame,
    numbers: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
) -> Axes:
    """Draw abs(phi') of one layer, its saturated means, and where masks take them.

    Parameters
    ----------
    masked, slopes, borders, numbers : DataFrame
        Rows of one layer of ``masked_net_values``, ``slopes``, ``areas`` and ``table`` of
        `dropdiag.analysis.net_variance`.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
    """
    ax, styles = begin(ax, styles, numbers)
    first, last = float(masked["left"].min()), float(masked["right"].max())
    top = float(slopes["slope"].max())
    shade(ax, borders.drop_duplicates(["low", "high"]), (first, last))
    _densities(ax, masked, styles, 0.9 * top)
    # conditions are taken to share the first one's activation: a curve each would hide the densities
    one = slopes[slopes["condition"] == slopes["condition"].iloc[0]]
    ax.plot(one["z"], one["slope"], color=SLOPE, linestyle=DOTTED, lw=1.3, zorder=3)
    line = min(LINE / size(ax)[1], 0.6 / len(numbers))  # height of one of the lines of text, in panels
    ax.set_ylim(0.0, top * 1.1 / (1.0 - line * len(numbers)))
    for place, row in enumerate(numbers.to_dict("records")):
        ax.text(0.5, 0.965 - line * place, _words(row), transform=ax.transAxes, ha="center", va="top", fontsize=8.0,
                color=styles[str(row["condition"])].colour)  # fmt: skip
    ax.set(xlim=(first, last), xlabel="net value $z$", ylabel=r"$|\phi'(z)|$")
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= top * 1.001])
    ax.locator_params(axis="x", nbins=6)
    return ax


def _densities(ax: Axes, masked: pd.DataFrame, styles: Mapping[str, Look], height: float) -> None:
    """Draw the means and where masks take them, each condition's taller one to the height given."""
    for name, part in masked.groupby("condition", sort=False):
        if part["means"].isna().all():  # no mean in the saturation area
            continue
        look, edges = styles[str(name)], [*part["left"], part["right"].iloc[-1]]
        scale = height / np.nanmax(part[["means", "masks"]].to_numpy())
        # grey fills lie over each other: the more conditions, the fainter
        ax.stairs(scale * part["means"], edges, fill=True, color=GREY, alpha=0.55 / len(styles), lw=0)
        ax.stairs(scale * part["masks"], edges, color=look.colour, lw=1.3, linestyle=look.line)


def _words(row: Mapping[Any, Any]) -> str:
    """Return the numbers of a condition in a line."""
    if not np.isfinite(row["gradient_probability"]):
        return "no mean in the saturation area"
    leave, at_mean, over = (row[name] for name in ("gradient_probability", "slope_at_mean", "slope_over_masks"))
    return f"{100 * leave:.0f} % leave it, |φ′| {at_mean:#.2g} → {over:#.2g}"
