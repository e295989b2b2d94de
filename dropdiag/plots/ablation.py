"""Do nodes co-adapt? Three definitions side by side, and what ablating ever more nodes does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dropdiag.analysis import ablation as measured
from dropdiag.plots.layered import by_site, one_look, sites
from dropdiag.plots.layout import COLUMNS, MANY, absent, begin, finish, note, panels
from dropdiag.plots.style import GREY, Styles, context, styled
from dropdiag.plots.words import Conditions, Layers, Titles, layer_names, site_titles
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs

TITLES: Final = {
    measured.INTERACTION: "Interaction when ablated",
    measured.CORRELATION: "Node correlation",
    measured.MULTIPLE: "Multiple correlation",
}
LABELS: Final = {
    measured.INTERACTION: "interaction $I$ of partners",
    measured.CORRELATION: "mean $|r|$ over pairs",
    measured.MULTIPLE: "mean adjusted $R^2$",
}
ADVICE: Final = "draw one with definition() or curve() of dropdiag.plots.ablation"


def ablation(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw co-adaptation by its definitions side by side, and loss or accuracy by the share of nodes ablated.

    The first panels hold one definition each, layer by layer: the interaction of partners when both are ablated
    (`dropdiag.measure.ablation`), mean abs(r), and the multiple correlation where it was recorded. A mark is the mean
    over seeds, a bar one standard deviation; a grey stroke is what there is without co-adaptation: the interaction of
    nodes drawn by lot, or what a finite number of samples gives. Whether dropout prevents co-adaptation may depend on
    which of them is looked at.

    Then a panel a layer: the accuracy (the loss, where there are no classes) when a share of its nodes is set to their
    means, a mean over random orders and seeds, with a band of one standard deviation over seeds.

    Parameters
    ----------
    runs : Run or Runs
        In which ``rec.measure("ablation", ...)`` was called; the last of each counts.
    layers : list of str, or mapping of str to str, optional
    conditions : list of str, optional
    phase : str, optional
        Of the ablation, where it is not "ablation".
    ax : Axes, optional
        Refused, as there are several panels: `definition` and `curve` in this file draw one.

    Returns
    -------
    Figure
        Of more than 32 layers the first panels alone.

    Raises
    ------
    ArgumentError
        For an unknown layer or condition.
    NotRecordedError
        If no run holds an ablation.

    Examples
    --------
    >>> figure = dd.plots.ablation(runs)
    """
    names, titles = layer_names(layers)
    with context():
        styles = one_look(runs, conditions)
        found = measured.table(runs, layers=names, conditions=conditions, phase=phase)
        several = dict(list(found.groupby("definition", sort=False)))
        of, lines = _curves(runs, names, conditions, phase)
        shown = by_site(lines)
        shown = {} if len(shown) > MANY else shown
        figure, above, below = _grid(len(several), len(shown), ax)
        for one, (name, rows) in zip(above, several.items(), strict=True):
            definition(rows, ax=one, styles=styles, titles=titles)
            one.set(title=TITLES[str(name)], ylabel=LABELS[str(name)])
        called = site_titles(shown, titles)
        for one, (site, rows) in zip(below, shown.items(), strict=True):
            curve(rows, ax=one, styles=styles)
            one.set(title=f"{called[site]}: {of}", ylabel=of)
            absent(one, styles, drawn=set(rows["condition"][rows["value"].notna()]), held=set(rows["condition"]))
        null = Line2D([], [], color=GREY, lw=2.0, label="null: groups drawn by lot; finite samples")
        return finish(figure, [*above, *below], styles, extra=[null], ax=ax)


def _grid(definitions: int, layers: int, ax: Axes | None) -> tuple[Figure, list[Axes], list[Axes]]:
    """Figure with a row of panels for the definitions, and others below it for the layers."""
    across = max(definitions, min(layers, COLUMNS))
    figure, grid = panels(across + layers if layers else definitions, across=across, ax=ax, advice=ADVICE)
    for free in grid[definitions:across]:
        free.set_axis_off()
    return figure, grid[:definitions], grid[across:]


def _curves(
    runs: Run | Runs, layers: list[str] | None, conditions: Conditions, phase: str | None
) -> tuple[str, pd.DataFrame]:
    """Return the accuracy or, where no run has one, the loss; neither was measured with ``shares=()``."""
    for of in ("accuracy", "loss"):
        found = measured.curves(runs, of, layers=layers, conditions=conditions, phase=phase, missing_ok=True)
        if len(found):
            return of, found
    return "loss", found


@styled
def definition(rows: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, titles: Titles = None) -> Axes:
    """Draw one definition of co-adaptation, layer by layer.

    Parameters
    ----------
    rows : DataFrame
        Those of one definition of `dropdiag.analysis.ablation.table`.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    titles : mapping of str to str, optional
        Layer -> what the reader calls it.

    Returns
    -------
    Axes
    """
    ax, styles = begin(ax, styles, rows)
    found = sites(rows)
    place = {site: x for x, site in enumerate(found)}
    shift = dict(zip(styles, np.linspace(-0.5, 0.5, len(styles) + 2)[1:-1], strict=True))
    half = 0.35 / (len(styles) + 1)
    for name, part in rows.groupby("condition", sort=False):
        look = styles[str(name)]
        x = np.array([place[site] + shift[str(name)] for site in sites(part)])
        ax.hlines(part["null"], x - half, x + half, color=GREY, lw=2.0, zorder=2)
        ax.errorbar(x, part["value"], part["value_sd"], color=look.colour, marker=look.marker, ms=5.0,
                    linestyle="none", lw=1.2, zorder=3)  # fmt: skip
    if rows["value"].min() < 0 or rows["null"].min() < 0:
        ax.axhline(0.0, color=GREY, lw=0.7, zorder=1)
    else:
        ax.set_ylim(bottom=0.0)
    ax.set_xlim(-0.6, len(found) - 0.4)
    _name_layers(ax, found, titles)
    missing = rows[rows["missing"] > 0]
    if len(missing):
        note(ax, f"missing in {int(missing['missing'].max())} of {int(rows['seeds'].max())} runs or fewer")
    return ax


def _name_layers(ax: Axes, found: Sequence[Site], titles: Titles) -> None:
    step = -(-len(found) // 12)  # of many layers some are named
    called = list(site_titles(found, titles, width=12).values())
    ax.set_xticks(range(0, len(found), step), called[::step])
    if len(found) > 4:
        ax.tick_params(axis="x", labelrotation=60)


@styled
def curve(rows: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None) -> Axes:
    """Draw loss or accuracy of one layer by the share of nodes that is ablated.

    Parameters
    ----------
    rows : DataFrame
        Those of one layer of `dropdiag.analysis.ablation.curves`.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
    """
    ax, styles = begin(ax, styles, rows)
    for name, part in rows.groupby("condition", sort=False):
        look = styles[str(name)]
        band = part[part["low"].notna()]
        ax.fill_between(band["share"], band["low"], band["high"], color=look.colour, alpha=0.2, lw=0)
        ax.plot(
            part["share"], part["value"], color=look.colour, linestyle=look.line, marker=look.marker, ms=3.0, lw=1.4
        )
    ax.set(xlabel="share of nodes at their mean", xlim=(0.0, 1.0))
    return ax
