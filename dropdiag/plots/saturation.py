"""Figure 5: the net values of each layer, the saturation area shaded, the share in it written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from dropdiag.analysis.kde import common_limits
from dropdiag.analysis.saturation import areas, table
from dropdiag.analysis.select import histograms
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import Layers, at, densities, one_look
from dropdiag.plots.style import SHADE, Look, Panels, context, layer_names, legend, looks, own_axes
from dropdiag.store.reader import Run, Runs


def saturation(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: list[str] | None = None,
    bandwidth: str | float = "isj",
    limits: tuple[float, float] | None = None,
) -> Panels:
    """Draw the distribution of the net values of each layer, held out where recorded (Figure 5).

    The saturation area is shaded; above it stand, for each condition, the shares of the net values that lie
    in its left and in its right part, as counted exactly while recording (mean over seeds).

    Parameters
    ----------
    runs, layers, conditions, bandwidth
        As in `dropdiag.plots.weights`.
    limits : (float, float), optional
        First and last x, in net-value units.

    Returns
    -------
    Panels
        A matplotlib Figure.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`.
    """
    names, _ = layer_names(layers)
    with context():
        styles = one_look(runs, conditions)
        borders = areas(runs, layers=names, conditions=conditions)
        if limits is None:
            limits = _limits(histograms(runs, "net_value", layers=names, conditions=conditions), borders)
        figure, axes, _ = densities(
            runs, "net_value", layers=layers, conditions=conditions, bandwidth=bandwidth, limits=limits,
            height=0.75 + 0.16 / _line(len(styles)),
        )  # fmt: skip
        shares = _shares(runs, names, conditions)
        for site, ax in axes.items():
            area(at(borders, *site), ax=ax)
            written_shares(at(shares, *site), ax=ax, styles=styles)
        eps = ", ".join(f"{value:g}" for value in sorted(borders["eps"].unique()))
        shaded = Patch(facecolor=SHADE, label=rf"saturation area, $|\phi'| \leq {eps}\,\sup|\phi'|$ (% of $z$ in it)")
        legend(figure, styles, [shaded] if eps else [])
    return figure


def area(intervals: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Shade the saturation area of one layer within the axes' limits.

    Parameters
    ----------
    intervals : DataFrame
        Rows of one layer of `dropdiag.analysis.saturation.areas`. An interval that several conditions share
        is shaded once.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = own_axes(ax)
    first, last = ax.get_xlim()
    for low, high in intervals[["low", "high"]].drop_duplicates().itertuples(index=False):
        start, stop = max(low, first), min(high, last)
        if start < stop:
            ax.axvspan(start, stop, color=SHADE, lw=0, zorder=-1)
    ax.set_xlim(first, last)
    return ax


def written_shares(shares: pd.DataFrame, *, ax: Axes | None = None, styles: Mapping[str, Look] | None = None) -> Axes:
    """Write the left and right saturation shares of one layer into room made above its curves.

    Parameters
    ----------
    shares : DataFrame
        Rows of one layer of `dropdiag.analysis.saturation.table`.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
    """
    ax = own_axes(ax)
    styles = styles or looks(shares["condition"].unique())
    line = _line(len(shares))
    room = 0.96 - line * len(shares)
    ax.set_ylim(top=ax.get_ylim()[1] / max(room, 0.3))
    for place, row in enumerate(shares.to_dict("records")):
        look = styles[row["condition"]]
        y = 0.955 - line * place
        for side, sign, value in (("left", 1, row["left"]), ("right", -1, row["right"])):
            x = 0.5 - 0.485 * sign
            if not np.isfinite(value):
                continue
            ax.plot([x, x + 0.075 * sign], [y, y], transform=ax.transAxes, color=look.colour, ls=look.line, lw=1.5)
            ax.text(x + 0.095 * sign, y, f"{100.0 * value:.1f} %", transform=ax.transAxes, fontsize=8.0,
                    color="#222222", ha=side, va="center_baseline")  # fmt: skip
    return ax


def _line(count: int) -> float:
    """Height of one of so many lines of text, in panels: together at most about two fifths."""
    return min(0.1, 0.42 / max(count, 1))


def _shares(runs: Run | Runs, names: list[str] | None, conditions: list[str] | None) -> pd.DataFrame:
    """Table of shares, empty where no activation of the runs has a saturation area."""
    try:
        return table(runs, layers=names, conditions=conditions)
    except NotRecordedError:
        return pd.DataFrame(columns=["condition", "layer", "call", "left", "right"])


def _limits(frame: pd.DataFrame, borders: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold the values and some of the saturation area at either side."""
    low, high = common_limits(list(frame["histogram"]))
    ends = borders[["low", "high"]].to_numpy(dtype=np.float64)
    ends = ends[np.isfinite(ends)]
    if ends.size:
        low, high = min(low, 1.25 * float(ends.min())), max(high, 1.25 * float(ends.max()))
    return low, high
