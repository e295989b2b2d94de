"""What each dropout does: rate, dropped share and noise-to-signal ratio, by site or over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.dropouts import NOISE, QUANTITIES, RATE, SHARE, recorded, table
from dropdiag.analysis.scalar import of_one_phase
from dropdiag.analysis.select import GROUP, SITE
from dropdiag.errors import NotRecordedError
from dropdiag.plots.heat import height, name_rows, profile
from dropdiag.plots.layered import by_panel, by_site, one_look, sites
from dropdiag.plots.layout import MANY, begin, finish, panels
from dropdiag.plots.steps import Part, over_steps, remarks
from dropdiag.plots.style import Look, Styles, context, styled
from dropdiag.plots.words import Conditions, Layers, Titles, layer_names, site_titles
from dropdiag.store.reader import Run, Runs
from dropdiag.store.schema import TRAIN

COLUMNS: Final = {RATE: "rate_last", SHARE: "dropped_share", NOISE: "noise_to_signal"}
ADVICE: Final = "draw one with by_dropout() of dropdiag.plots.dropouts"
ROWS: Final = 40
"""With more rows than this they are closer."""
LABELS: Final = {RATE: "dropout rate", SHARE: "dropped share", NOISE: "noise-to-signal ratio"}


def dropouts(
    runs: Run | Runs, *, layers: Layers = None, conditions: Conditions = None, ax: Axes | None = None
) -> Figure:
    """Draw the rate of each dropout, the share that its masks drop, and the noise that they add beside the signal.

    Where no rate changes in training there are three panels, with a row a dropout in the order of execution: marks are
    means over training and seeds, bars 95 % intervals over seeds. Where one is scheduled, each dropout has a row of
    three panels over training: lines are means over seeds, bands one standard deviation. More than 32 dropouts have
    lines over the dropouts in place of marks, scheduled or not: the rate is then the last one.

    Parameters
    ----------
    runs : Run or Runs
    layers : list of str, or mapping of str to str, optional
        Dropouts, all or these in this order; a mapping also gives them their titles.
    conditions : list of str, optional
        All, or these in this order. Those without dropout have no marks.
    ax : Axes, optional
        Refused, for this figure has three panels: `by_dropout` in this file draws one.

    Returns
    -------
    Figure

    Raises
    ------
    ArgumentError
        If a dropout or a condition does not exist; the message lists those that do.
    NotRecordedError
        If no run has a dropout, or none recorded its rate or what it does.

    Notes
    -----
    A dropped share above the rate is no error of few masks where the share counts few units, as of a dropout of whole
    samples. The noise-to-signal ratio of a kind without a closed form is missing ("–").

    Examples
    --------
    >>> figure = dd.plots.dropouts(runs)
    """
    names, titles = layer_names(layers)
    with context():
        looks = one_look(runs, conditions)
        found = recorded(table(runs, layers=names, conditions=conditions))
        if found.empty:
            raise NotRecordedError("no run recorded the rate of a dropout, or what it does: record with probes='paper'")
        found = by_panel(runs, found, names)
        held = set(found["condition"])
        styles = {name: look for name, look in looks.items() if name in held}
        many = len(sites(found)) > MANY
        if found["scheduled"].any() and not many:
            return _over_training(runs, found, styles, titles, ax)
        rows = found.groupby(SITE, sort=False).size().sum() + len(sites(found))
        tall = height(len(sites(found))) if many else 0.9 + (0.16 if rows <= ROWS else 0.095) * rows
        figure, axes = panels(3, width=3.0, height=tall, ax=ax, advice=ADVICE)
        for (quantity, column), one in zip(COLUMNS.items(), axes, strict=True):
            by_dropout(found, column, ax=one, styles=styles, titles=titles)
            one.set_xlabel(LABELS[quantity])
            one.tick_params(axis="y", labelleft=one is axes[0])
        return finish(figure, axes, styles, lines=many, marks=not many)


@styled
def by_dropout(
    found: pd.DataFrame, column: str, *, ax: Axes | None = None, styles: Styles = None, titles: Titles = None
) -> Axes:
    """Draw one number of each dropout, a row a site and a mark a condition.

    Parameters
    ----------
    found : DataFrame
        As returned by `dropdiag.analysis.dropouts.table`; rows from top to bottom in its order of sites.
    column : {"rate_first", "rate_last", "dropped_share", "noise_to_signal"}
    ax : Axes, optional
    styles : mapping of str to Look, optional
    titles : mapping of str to str, optional
        Site -> what to call it.

    Returns
    -------
    Axes
        The x axis begins at 0; "–" stands in place of a number that is missing. Of more than 32 sites, a line a
        condition over the sites.
    """
    ax, styles = begin(ax, styles, found)
    known = sites(found)
    if len(known) > MANY:
        name_rows(ax, known, titles)
        profile(ax, known, found, column, styles)
        ax.set_xlim(0.0, max(1.04 * ax.get_xlim()[1], 1e-9))
        return ax
    shift = dict(zip(styles, np.linspace(-0.5, 0.5, len(styles) + 2)[1:-1], strict=True))
    for name, part in found.groupby("condition", sort=False):
        look = styles[str(name)]
        y = np.array([known.index(site) + shift[str(name)] for site in sites(part)])
        if f"{column}_low" in part:
            ax.hlines(y, part[f"{column}_low"].clip(lower=0.0), part[f"{column}_high"], color=look.colour, lw=1.3)
        ax.plot(part[column], y, look.marker, color=look.colour, ms=4.5, ls="none", zorder=4)
        for place in y[part[column].isna()]:
            ax.text(0.01, place, "–", transform=ax.get_yaxis_transform(), va="center", color=look.colour)
    ax.hlines(np.arange(1, len(known)) - 0.5, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7)
    ax.set_ylim(len(known) - 0.4, -0.6)
    ax.set_yticks(range(len(known)), list(site_titles(known, titles, width=22).values()))
    ax.set_xlim(0.0, 1.04 * ax.get_xlim()[1])
    ax.locator_params(axis="x", nbins=5)
    return ax


def _over_training(
    runs: Run | Runs, found: pd.DataFrame, styles: Mapping[str, Look], titles: Titles, ax: Axes | None
) -> Figure:
    """Draw each quantity of each dropout over training."""
    called, many = site_titles(sites(found), titles), len(QUANTITIES)
    figure, axes = panels(many * len(called), height=1.9, across=many, ax=ax, advice=ADVICE)
    held = {site: set(part["condition"]) for site, part in by_site(found).items()}
    for column, quantity in enumerate(QUANTITIES):
        lines = by_site(_lines(runs, quantity, list(styles)))
        for (site, title), one in zip(called.items(), axes[column::many], strict=True):
            over_steps(lines[site], ax=one, styles=styles, empty="not recorded")
            one.set(title=title, ylabel=LABELS[quantity])
            one.set_ylim(bottom=0.0)
            remarks(one, Part(title, lines[site], held[site], log=False), styles, logs=False)
    return finish(figure, axes, styles)


def _lines(runs: Run | Runs, quantity: str, conditions: list[str]) -> pd.DataFrame:
    try:
        lines = of_one_phase(runs, quantity, TRAIN, layers=None, conditions=conditions, log=False, bins=80)
    except NotRecordedError:  # panels say so
        return pd.DataFrame(columns=[*GROUP, "step", "value", "low", "high", "seeds", "runs", "recorded", "dropped"])
    return lines
