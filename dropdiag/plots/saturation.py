"""Figure 5: the net values of each layer, the saturation area shaded, the share in it written."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, StepPatch

from dropdiag.analysis.kde import Limits
from dropdiag.analysis.saturation import areas_of, per_run
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP
from dropdiag.errors import NotRecordedError
from dropdiag.plots.heat import profile
from dropdiag.plots.layered import Chosen, Densities, by_site, choose, densities, finish_densities
from dropdiag.plots.layout import MANY, begin, finish, ink, note
from dropdiag.plots.style import GREY, SHADE, Look, Panels, Styles, context, styled
from dropdiag.plots.words import Conditions, Layers, percent
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs

BAR: Final = 0.025  # height of the bar of one condition's own area, in panels
LINE: Final = 0.135  # height of a line of text, in inches
MOST: Final = 8  # conditions whose shares are written
BORDER_LINE: Final = "#FF7F9E"


def saturation(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the distribution of the net values of each layer, held out where recorded (Figure 5).

    The saturation area is shaded; in the upper corners stand, for each condition, the shares of the net values that lie
    in its left and in its right part, as counted exactly while recording (mean over seeds); of more than 8 conditions a
    remark below gives the least and the greatest. Where the
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
        First and last x, in net-value units; by default wide enough for all values and some of the saturation area. A
        layer that is far wider or narrower than the others has an x axis of its own, and says so.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one layer.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. With more than 32 layers a map for each condition stands in place of a panel
        for each layer, and a further panel shows the shares.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`; also where the phase is not clear.

    Examples
    --------
    >>> figure = dd.plots.saturation(runs, limits=(-4, 4))
    """
    with context():
        drawn = choose(runs, "net_value", layers=layers, conditions=conditions, phase=phase)
        borders = areas_of(runs, drawn.frame)
        many = len(by_site(drawn.frame)) > MANY
        height = 2.35 + LINE * max(min(len(drawn.styles), MOST) - 4, 0)
        made = densities(drawn, bandwidth=bandwidth, limits=limits, holding=_holding(borders), height=height, ax=ax,
                         more=int(many))  # fmt: skip
        if many:
            return _finish_maps(made, drawn, borders, ax)
        areas, shares, curves = by_site(borders), by_site(_shares(drawn)), by_site(made.curves)
        shaded = []
        for site, one in made.by_site.items():
            shown = list(curves[site]["condition"].unique())
            area(areas[site], ax=one, styles=drawn.styles, conditions=shown)
            written_shares(shares[site], ax=one, styles=drawn.styles)
            shaded += [agree(areas[site], shown)] if len(areas[site]) else []
        return finish_densities(made, drawn, ax=ax, extra=_explained(shaded, borders))


def _finish_maps(made: Densities, drawn: Chosen, borders: pd.DataFrame, ax: Axes | None) -> Figure:
    """Draw the borders of the saturation area in maps, and the shares in the panel beside them."""
    edges = np.arange(len(made.rows) + 1) - 0.5
    *grid, beside = made.axes
    for name, one in zip(drawn.styles, grid, strict=True):
        ends = by_site(borders[borders["condition"] == name])
        inside = one.get_xlim()
        for side, other in (("low", "high"), ("high", "low")):
            # the inner end of the part at either side; an end at infinity is none
            at = [ends[site].loc[~np.isfinite(ends[site][other].astype(float)), side] for site in made.rows]
            values = np.array([float(x.iloc[0]) if len(x) else np.nan for x in at])
            one.stairs(values, edges, orientation="horizontal", baseline=None, color=BORDER_LINE, lw=1.0)
        one.set_xlim(inside)
    shares = _shares(drawn)
    shares = shares.assign(share=shares["left"].fillna(0.0) + shares["right"].fillna(0.0))
    profile(beside, made.rows, shares[shares[["left", "right"]].notna().any(axis=1)], "share", drawn.styles)
    beside.set(title="saturated share", xlabel="share of net values", xlim=(0.0, None))
    border = Line2D([], [], color=BORDER_LINE, lw=1.0, label="border of the saturation area")
    return finish(made.figure, made.axes, drawn.styles, extra=[border], ax=ax)


@styled
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
            _own_area(ax, part, styles[str(name)], place, min(BAR, 0.3 / intervals["condition"].nunique()))
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


def _own_area(ax: Axes, part: pd.DataFrame, look: Look, place: int, bar: float) -> None:
    """Mark one condition's area: a bar at the foot, a row for each condition, and lines at its borders."""
    first, last = ax.get_xlim()
    foot = bar * place
    for start, stop in _within(part, first, last):
        ax.axvspan(start, stop, foot + 0.2 * bar, foot + bar, color=look.colour, lw=0, zorder=3)
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


@styled
def written_shares(shares: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None) -> Axes:
    """Write the left and right saturation shares of one layer into the upper corners, with room made above the curves.

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
    shares = shares[shares[["left", "right"]].notna().any(axis=1)]  # a run that diverged has none
    if len(shares) > MOST:
        sides = [f"{side} {percent(shares[side].min())} to {percent(shares[side].max())}" for side in ("left", "right")]
        note(ax, "saturated: " + ", ".join(sides))
        return ax
    width, height = size(ax)
    line, mark = LINE / height, 0.16 / width
    _make_room(ax, 0.98 - line * len(shares), (0.72 / width))
    for place, row in enumerate(shares.to_dict("records")):
        look, y = styles[row["condition"]], 0.98 - line * (place + 0.5)
        for side, sign in (("left", 1), ("right", -1)):
            if not np.isfinite(row[side]):
                continue
            x = 0.5 - 0.485 * sign
            ax.plot([x, x + mark * sign], [y, y], transform=ax.transAxes, color=look.colour, ls=look.line, lw=1.5,
                    marker="")  # fmt: skip
            ax.text(x + (mark + 0.04 / width) * sign, y, percent(row[side]), transform=ax.transAxes, fontsize=7.5,
                    color=ink(ax), ha=side, va="center_baseline")  # fmt: skip
    return ax


def size(ax: Axes) -> tuple[float, float]:
    """Return about the width and height in inches that a panel will have, which is laid out when it is drawn."""
    figure, spec = ax.figure, ax.get_subplotspec()
    if isinstance(figure, Panels) and spec is not None:
        grid = spec.get_gridspec()
        width, height = figure.get_size_inches()
        return float(width) / grid.ncols - 0.6, float(height - 0.35) / grid.nrows - 0.7
    box = ax.get_window_extent()
    return float(box.width / ax.figure.dpi), float(box.height / ax.figure.dpi)


def _make_room(ax: Axes, free: float, corner: float) -> None:
    """Raise the upper limit until nothing in the upper corners, so wide, reaches above a share of the panel."""
    first, last = ax.get_xlim()
    edge = corner * (last - first)
    tops = [0.0]
    for line in ax.get_lines():
        x, y = (np.asarray(one, np.float64) for one in line.get_data())
        if line.get_transform() == ax.transData and x.size > 2:
            tops.append(float(np.max(y[(x <= first + edge) | (x >= last - edge)], initial=0.0)))
    for patch in [*ax.patches, *ax.artists]:
        if isinstance(patch, StepPatch):
            values, edges, _ = patch.get_data()
            near = (edges[:-1] <= first + edge) | (edges[1:] >= last - edge)
            tops.append(float(np.max(values[near], initial=0.0)))
    ax.set_ylim(top=max(ax.get_ylim()[1], max(tops) / max(free - 0.02, 0.3)))


def _shares(drawn: Chosen) -> pd.DataFrame:
    """Mean shares of the conditions drawn, empty where no activation of the runs has a saturation area."""
    try:
        # of all layers: those drawn may have activations without an area, which a choice of layers would refuse
        phase = str(drawn.frame["phase"].iloc[0])
        shares = per_run(drawn.runs, conditions=list(drawn.styles), phase=phase, net_values=drawn.frame)
    except NotRecordedError:
        return pd.DataFrame(columns=["condition", "layer", "call", "left", "right"])
    return over_seeds(shares, GROUP, ["left", "right"])


def _holding(borders: pd.DataFrame) -> dict[Site, tuple[float, float]]:
    """Return what the limits of each layer must hold: some of the saturation area at either side."""
    found: dict[Site, tuple[float, float]] = {}
    for site, part in by_site(borders).items():
        ends = 1.25 * part[["low", "high"]].to_numpy(dtype=np.float64)
        ends = ends[np.isfinite(ends)]
        if ends.size:
            found[site] = float(ends.min()), float(ends.max())
    return found
