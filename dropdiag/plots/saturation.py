"""Figure 5: the net values of each layer, the saturation area shaded, the share in it written."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dropdiag.analysis.kde import Limits, common_limits
from dropdiag.analysis.saturation import areas_of, per_run
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import Chosen, by_site, choose, densities
from dropdiag.plots.layout import begin, finish
from dropdiag.plots.style import GREY, SHADE, Look, Panels, Styles, context
from dropdiag.plots.words import Conditions, Layers, percent
from dropdiag.store.reader import Run, Runs

BAR: Final = 0.025  # height of the bar of one condition's own area, in panels


def saturation(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
) -> Panels:
    """Draw the distribution of the net values of each layer, held out where recorded (Figure 5).

    The saturation area is shaded; above it stand, for each condition, the shares of the net values that lie
    in its left and in its right part, as counted exactly while recording (mean over seeds). Where the
    conditions have different activation functions in a layer, nothing is shaded that would hold for one of
    them alone: bars at the foot of the panel and lines at the borders show each condition's own area in its
    colour. Where the derivative of an activation is not known (PReLU's is learned) there is neither an area
    nor a share.

    Parameters
    ----------
    runs, layers, conditions, bandwidth
        As in `dropdiag.plots.weights`.
    phase : str, optional
        One for all runs: None is ``"eval"`` if any of them has it, else the only held-out phase, else
        ``"train"``. Runs that lack it are left out, with a warning.
    limits : (float, float), optional
        First and last x, in net-value units.

    Returns
    -------
    Panels
        A matplotlib Figure.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`; also where the phase is not clear.
    """
    with context():
        drawn = choose(runs, "net_value", layers=layers, conditions=conditions, phase=phase)
        borders = areas_of(runs, drawn.frame)
        limits = limits or _limits(drawn.frame, borders)
        height = 0.75 + 0.16 / _line(len(drawn.styles))
        figure, axes, lines = densities(drawn, bandwidth=bandwidth, limits=limits, height=height)
        areas, shares, curves = by_site(borders), by_site(_shares(drawn)), by_site(lines)
        shaded = []
        for site, ax in axes.items():
            shown = list(curves[site]["condition"].unique())
            area(areas[site], ax=ax, styles=drawn.styles, conditions=shown)
            written_shares(shares[site], ax=ax, styles=drawn.styles)
            shaded += [agree(areas[site], shown)] if len(areas[site]) else []
        extra = _explained(shaded, borders)
        return finish(figure, list(axes.values()), drawn.styles, label="density", extra=extra)


def area(
    intervals: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, conditions: Conditions = None
) -> Axes:
    """Shade the saturation area of one layer within the axes' limits, where all conditions have the same.

    Parameters
    ----------
    intervals : DataFrame
        Rows of one layer of `dropdiag.analysis.saturation.areas`.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    conditions : list of str, optional
        Those drawn in the axes; by default those in the frame. One without any interval differs from one that
        has some.

    Returns
    -------
    Axes
        If the conditions differ, with a bar at the foot for each interval and a line at each border, in the
        colour of the condition, in place of the shade.
    """
    ax, styles = begin(ax, styles, intervals)
    limits = ax.get_xlim()
    if agree(intervals, conditions or []):
        shade(ax, intervals[intervals["condition"] == intervals["condition"].iloc[0]], limits)
    else:
        for place, (name, part) in enumerate(intervals.groupby("condition", sort=False)):
            _own_area(ax, part, styles[str(name)], place)
    ax.set_xlim(limits)
    return ax


def shade(ax: Axes, intervals: pd.DataFrame, limits: tuple[float, float]) -> None:
    """Shade intervals, columns low and high, as far as they lie within limits."""
    for start, stop in _within(intervals, *limits):
        ax.axvspan(start, stop, color=SHADE, lw=0, zorder=-1)


def agree(intervals: pd.DataFrame, conditions: list[str]) -> bool:
    """Whether all conditions have an area at this layer, and the same one (to six digits)."""
    ends = {name: frozenset((f"{low:.6g}", f"{high:.6g}") for low, high in part[["low", "high"]].to_numpy())
            for name, part in intervals.groupby("condition")}  # fmt: skip
    return len(set(ends.values())) == 1 and set(conditions) <= set(ends)


def _own_area(ax: Axes, part: pd.DataFrame, look: Look, place: int) -> None:
    """Mark one condition's area: a bar at the foot, a row for each condition, and lines at its borders."""
    first, last = ax.get_xlim()
    foot = BAR * place
    for start, stop in _within(part, first, last):
        ax.axvspan(start, stop, foot + 0.2 * BAR, foot + BAR, color=look.colour, lw=0, zorder=3)
        for border in (start, stop):
            if first < border < last:
                ax.axvline(border, color=look.colour, linestyle=look.line, lw=0.9, alpha=0.7, zorder=1)


def _within(part: pd.DataFrame, first: float, last: float) -> list[tuple[float, float]]:
    """Intervals cut at the limits, without those beyond them."""
    cut = [(max(low, first), min(high, last)) for low, high in part[["low", "high"]].itertuples(index=False)]
    return [(start, stop) for start, stop in cut if start < stop]


def _explained(shaded: list[bool], borders: pd.DataFrame) -> list[Patch | Line2D]:
    """Return what the legend says of the areas: shaded, in the conditions' colours, or both in different panels."""
    eps = ", ".join(f"{value:g}" for value in sorted(borders["eps"].unique()))
    label = rf"saturation area, $|\phi'| \leq {eps}\,\sup|\phi'|$ (% of $z$ in it)"
    entries: list[Patch | Line2D] = [Patch(facecolor=SHADE, label=label)] if any(shaded) else []
    if not all(shaded):
        own = "bars at the foot: each condition's own" if entries else f"bars at the foot: each condition's {label}"
        entries.append(Line2D([], [], color=GREY, lw=3.5, solid_capstyle="butt", label=own))
    return entries


def written_shares(shares: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None) -> Axes:
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
    ax, styles = begin(ax, styles, shares)
    line = _line(len(shares))
    room = 0.96 - line * len(shares)
    ax.set_ylim(top=ax.get_ylim()[1] / max(room, 0.3))
    for place, row in enumerate(shares.to_dict("records")):
        look, y = styles[row["condition"]], 0.955 - line * place
        for side, sign in (("left", 1), ("right", -1)):
            if not np.isfinite(row[side]):  # the run diverged
                continue
            x = 0.5 - 0.485 * sign
            ax.plot([x, x + 0.075 * sign], [y, y], transform=ax.transAxes, color=look.colour, ls=look.line, lw=1.5)
            ax.text(x + 0.095 * sign, y, percent(row[side]), transform=ax.transAxes, fontsize=8.0,
                    color="#222222", ha=side, va="center_baseline")  # fmt: skip
    return ax


def _line(count: int) -> float:
    """Height of one of so many lines of text, in panels: together at most about two fifths."""
    return min(0.1, 0.42 / max(count, 1))


def _shares(drawn: Chosen) -> pd.DataFrame:
    """Mean shares of the conditions drawn, empty where no activation of the runs has a saturation area."""
    try:
        # of all layers: those drawn may have activations without an area, which a choice of layers would refuse
        phase = str(drawn.frame["phase"].iloc[0])
        shares = per_run(drawn.runs, conditions=list(drawn.styles), phase=phase, net_values=drawn.frame)
    except NotRecordedError:
        return pd.DataFrame(columns=["condition", "layer", "call", "left", "right"])
    return over_seeds(shares, GROUP, ["left", "right"])


def _limits(frame: pd.DataFrame, borders: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold the values and some of the saturation area at either side."""
    low, high = common_limits(list(frame["histogram"]))
    ends = 1.25 * borders[["low", "high"]].to_numpy(dtype=np.float64)
    ends = ends[np.isfinite(ends)]
    return float(ends.min(initial=low)), float(ends.max(initial=high))
