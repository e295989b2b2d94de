"""Where panels, legends and remarks go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine, LayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from dropdiag.errors import ArgumentError
from dropdiag.plots.style import DPI, INK, RC, Look, Panels, Styles, looks
from dropdiag.plots.words import names_cut, width, wrapped

COLUMNS: Final = 4
MANY: Final = 32
"""With more panels than this, twice as many stand in a row and `Cells` places them."""
COARSE: Final = 100
"""Dots per inch of figures of many panels, which are some metres tall."""
LEGEND_LINE: Final = 0.19


def panels(
    count: int,
    *,
    width: float = 3.0,
    height: float = 2.35,
    below: float = 0.0,
    across: int = 0,
    cells: bool = True,
    ax: Axes | None = None,
    advice: str = "choose one layer with layers=[...]",
) -> tuple[Figure, list[Axes]]:
    """Figure with a number of equal panels, wrapped into rows.

    Parameters
    ----------
    count : int
    width, height : float
        Of a panel, in inches.
    below : float
        Height in inches of one more panel at the foot, as wide as the figure; 0 for none.
    across : int
        Panels in a row; 0: as many as look well.
    cells : bool
        Whether `Cells` may place many panels.
    ax : Axes, optional
        The one panel, in place of a figure.
    advice : str
        What to do where ``ax`` is given and more panels are needed.

    Returns
    -------
    figure : Figure
        `Panels`, or that of ``ax``.
    axes : list of Axes
        The ``count`` panels row by row, and the one at the foot. At most 4 stand in a row, or 8 where there are more
        than 32; fewer where that leaves no panel alone in its row.

    Raises
    ------
    ArgumentError
        If ``ax`` is no Axes, or one panel is not enough.
    """
    if ax is not None:
        return one_panel(ax, count + bool(below), advice)
    many = count > MANY and cells
    rows = -(-count // (across or (2 * COLUMNS if many else COLUMNS)))
    across = across or -(-count // rows)
    # one narrow panel still needs the width of a legend, and the one at the foot that of its columns of numbers
    size = (max(across * width, 7.5 if below else 4.0), rows * height + below + 0.35)
    engine = Cells(count, across, below) if many else ConstrainedLayoutEngine()
    figure = Panels(figsize=size, layout=engine, dpi=COARSE if many else DPI)
    parts = figure.add_gridspec(2, 1, height_ratios=[rows * height, below]) if below else figure.add_gridspec(1, 1)
    grid = parts[0].subgridspec(rows, across)
    axes = [figure.add_subplot(grid[place // across, place % across]) for place in range(count)]
    axes += [figure.add_subplot(parts[1].subgridspec(1, 1)[0])] if below else []
    return figure, [dress(ax) for ax in axes]


def one_panel(ax: Axes, count: int, advice: str) -> tuple[Figure, list[Axes]]:
    """Return the axes given as all panels of a figure, where one is enough."""
    if not isinstance(ax, Axes):
        raise ArgumentError(f"ax must be one matplotlib Axes, got {type(ax).__name__}; of an array, give one element")
    if count != 1:
        raise ArgumentError(f"ax holds one panel, and this figure has {count}: {advice}, or leave ax out")
    figure: Any = ax.figure
    return figure, [ax]


class Cells(LayoutEngine):
    """Equal cells for many panels, and what remains of the figure's height for the panel at its foot, if any.

    Constrained layout measures all text of all panels twice before it draws them: half a minute for 400 panels.

    Parameters
    ----------
    count, across : int
        Panels in all and in a row.
    below : float
        Height of the panel at the foot, in inches.
    """

    # matplotlib asks for both when it turns the engine off while a figure is saved
    _adjust_compatible = _colorbar_gridspec = True

    def __init__(self, count: int, across: int, below: float) -> None:
        super().__init__()
        self.count, self.across, self.below = count, across, below

    def execute(self, fig: Figure) -> None:
        """Place the panels, as matplotlib asks for when the figure is drawn."""
        width, height = fig.get_size_inches()
        axes, foot = fig.axes[: self.count], fig.axes[self.count :]
        head = sum(legend.get_window_extent().height / fig.dpi + 0.1 for legend in fig.legends)
        across, down = (width - 0.1) / self.across, (height - head - self.below) / -(-self.count // self.across)
        bottom = 0.46 + 0.17 * max(ax.get_xlabel().count("\n") for ax in axes)
        top = 0.28 + 0.16 * max(ax.get_title().count("\n") for ax in axes)
        for place, ax in enumerate(axes):
            row, column = divmod(place, self.across)
            left, low = column * across + 0.62, height - head - (row + 1) * down + bottom
            ax.set_position((left / width, low / height, (across - 0.62) / width, (down - bottom - top) / height))
        for ax in foot:  # between its layers' names and its columns of numbers
            ax.set_position((2.5 / width, 0.55 / height, (width - 5.8) / width, (self.below - 0.65) / height))


def dress(axes: Axes) -> Axes:
    """Give axes what a late tick would otherwise take from the settings at drawing time."""
    axes.tick_params(labelsize=RC["xtick.labelsize"], colors=RC["xtick.color"], width=0.8, length=3.0)
    axes.tick_params(which="minor", length=1.8)
    return axes


def own_axes(axes: Axes | None) -> Axes:
    """Return the axes given, or those of a new figure."""
    return axes if axes is not None else panels(1)[1][0]


def begin(axes: Axes | None, styles: Styles, frame: pd.DataFrame) -> tuple[Axes, Mapping[str, Look]]:
    """Return the axes given or new ones, and the looks given or those by the conditions' places in a frame."""
    return own_axes(axes), styles or looks(frame["condition"].unique())


def finish(
    figure: Figure,
    axes: Sequence[Axes],
    styles: Mapping[str, Look],
    *,
    label: str = "",
    extra: Sequence[Any] = (),
    ax: Axes | None = None,
    lines: bool = True,
    marks: bool = False,
) -> Figure:
    """Return the figure with room for what its panels say, a y label at each row, and a legend: last in every figure.

    Parameters
    ----------
    figure : Figure
    axes : sequence of Axes
        Its panels, without that at the foot.
    styles : mapping of str to Look
        Conditions in the legend.
    label : str
        Y label of all panels, at the first of each row alone; "" leaves them theirs.
    extra : sequence of Artist
        Further entries of the legend.
    ax : Axes, optional
        The one panel, where it was given: nothing but itself is then changed in its figure, and the legend stands in
        it.
    lines, marks : bool
        Whether the legend shows the conditions' lines, and their marks.
    """
    for one in axes:
        if label and (ax is not None or _leads_row(one)):
            one.set_ylabel(label)
    if ax is not None:
        handles = [*_handles(styles, lines=lines, marks=marks), *extra]
        if handles:
            ax.legend(handles=handles, fontsize=7.5, labelcolor=ink(ax))
        return figure
    make_room(figure, axes)
    legend(figure, styles, extra, lines=lines, marks=marks)
    return figure


def ink(ax: Axes) -> Any:
    """Return the colour of text in a panel: in axes of somebody's own, which may be dark, that of their labels."""
    return INK if isinstance(ax.figure, Panels) else ax.xaxis.label.get_color()


def _handles(wanted: Mapping[str, Look], *, lines: bool, marks: bool) -> list[Any]:
    names = names_cut(wanted, 40)
    return [
        Line2D([], [], color=look.colour, label=names[name], ms=5.0, linestyle=look.line if lines else "none",
               marker=look.marker if marks else "") for name, look in wanted.items()
    ]  # fmt: skip


def legend(
    figure: Figure, wanted: Mapping[str, Look], extra: Sequence[Any] = (), *, lines: bool = True, marks: bool = False
) -> None:
    """Legend of the conditions, and what else is to be in it, above all panels; the figure grows by its rows.

    In a narrow figure one long entry would leave room for a single column: where that makes fewer rows, what else is in
    it stands at the foot.

    Parameters
    ----------
    figure : Figure
    wanted : mapping of str to Look
        Conditions.
    extra : sequence of Artist
        Further entries.
    lines, marks : bool
        As in `finish`.
    """
    names, room = _handles(wanted, lines=lines, marks=marks), figure.get_figwidth() - 0.2
    above, below = [*names, *extra], list[Any]()
    if names and _rows(names, room) + _rows(extra, room) < _rows(above, room):
        above, below = names, [*extra]
    if above:
        rows = _rows(above, room)  # one of them is in every figure's height
        figure.set_figheight(figure.get_figheight() + LEGEND_LINE * (rows - 1))
        figure.legend(handles=above, loc="outside upper center", ncols=-(-len(above) // rows))
    if below:
        rows = _rows(below, room)
        figure.set_figheight(figure.get_figheight() + LEGEND_LINE * rows)
        figure.legend(handles=below, loc="outside lower center", ncols=-(-len(below) // rows))


def _rows(handles: Sequence[Any], room: float) -> int:
    """Rows of a legend that is so many inches wide, at least one for each entry that is wider."""
    widths = [width(str(handle.get_label()), 9.0) + 0.66 for handle in handles]
    fitting = (rows for rows in range(1, len(widths)) if _legend_width(widths, rows) <= room)
    return next(fitting, len(widths))


def _legend_width(widths: Sequence[float], rows: int) -> float:
    """Width in inches of a legend that is filled column by column."""
    return sum(max(widths[i : i + rows]) for i in range(0, len(widths), rows))


def log_axis(ax: Axes, which: str) -> None:
    """Log scale with labels at 1, 2 and 5 where there are less than two decades, else at the decades.

    Numbers from 0.01 to below 10,000 are written in full, as on linear axes.
    """
    axis, limits = (ax.xaxis, ax.get_xlim()) if which == "x" else (ax.yaxis, ax.get_ylim())
    low, high = sorted(limits)  # an axis may be turned round
    decades = np.log10(high / low) if low > 0.0 else 0.0
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2.2 else (1.0, 2.0, 5.0), numticks=12))
    if low >= 0.009 and high <= 10_000.0:
        axis.set_major_formatter(StrMethodFormatter("{x:,.5g}"))
    else:
        axis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf)))
    axis.set_minor_formatter(NullFormatter())


def share_log_y(axes: Sequence[Axes]) -> None:
    """Give all panels the log y axis that holds what each shows, with tick labels at the first of each row alone."""
    # not matplotlib's `sharey`: each panel then asks all others for their limits, the time grows with their square
    limits = np.array([ax.get_ylim() for ax in axes if ax.has_data()])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        log_axis(ax, "y")
        ax.tick_params(axis="y", which="both", labelleft=_leads_row(ax))


def _leads_row(ax: Axes) -> bool:
    spec = ax.get_subplotspec()
    return spec is None or spec.is_first_col()


def note(ax: Axes, text: str) -> None:
    """Add a remark below the x label, in lines that fit a panel."""
    ax.set_xlabel("\n".join([ax.get_xlabel(), *wrapped(text, _room(ax), 9.0)]))


def _room(ax: Axes) -> float:
    """Width in inches of what may be written below a panel without reaching under its neighbours."""
    figure, spec = ax.figure, ax.get_subplotspec()
    if isinstance(figure, Panels) and spec is not None:
        return max(float(figure.get_figwidth()) / spec.get_gridspec().ncols - 0.65, 1.0)
    return float(ax.get_window_extent().width / ax.figure.dpi) + 0.3


def listed(names: Iterable[str], every: Iterable[str]) -> str:
    """Return names of conditions, cut so that they differ from all others' in the figure; at most eight of them."""
    titles, known = names_cut(every, 18), list(names)
    told = ", ".join(titles[name] for name in known[:8])
    return told if len(known) <= 8 else f"{told} and {len(known) - 8} others"


def absent(ax: Axes, styles: Mapping[str, Look], *, drawn: set[str], held: set[str]) -> None:
    """Say which conditions have no curve here, and whether they have the layer (or the scalar) at all."""
    for what, missing in (
        ("no finite value: ", [name for name in styles if name in held - drawn]),
        ("not in ", [name for name in styles if name not in held]),
    ):
        if missing:
            note(ax, what + listed(missing, styles))


def make_room(figure: Figure, axes: Sequence[Axes]) -> None:
    """Let the figure grow by what titles of two lines and remarks below the x labels need in each row."""
    grid = axes[0].get_gridspec()
    rows = grid.nrows if grid is not None else 1
    remarks, titles = np.zeros(rows), np.zeros(rows)
    for ax in axes:
        spec = ax.get_subplotspec()
        row = spec.rowspan.start if spec is not None else 0
        remarks[row] = max(remarks[row], ax.get_xlabel().count("\n"))
        titles[row] = max(titles[row], ax.get_title().count("\n"))
    placed = isinstance(figure.get_layout_engine(), Cells)
    if placed:  # `Cells` gives all rows one height
        remarks[:], titles[:] = remarks.max(), titles.max()
    figure.set_figheight(figure.get_figheight() + float(0.17 * remarks.sum() + 0.16 * titles.sum()))
    if placed:
        for ax in axes:
            _simplify(ax)


def _simplify(ax: Axes) -> None:
    """Make a panel quick to draw: ticks take most of the time."""
    # a title with a given y is not moved out of the way of ticks, to which end all of them would be measured
    ax.set_title(ax.get_title(), y=1.0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        locator = axis.get_major_locator()
        if isinstance(locator, MaxNLocator):
            locator.set_params(nbins=3)
