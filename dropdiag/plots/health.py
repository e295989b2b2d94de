"""Norms of health: dead and always-saturated nodes, updates and distances of weights, now and at the start."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dropdiag.analysis.health import QUANTITIES, table
from dropdiag.plots.heat import height, name_rows, profile
from dropdiag.plots.layered import by_panel, one_look, sites
from dropdiag.plots.layout import MANY, begin, finish, log_axis, note, panels
from dropdiag.plots.style import INK, Styles, context, styled
from dropdiag.plots.words import Conditions, Layers, Titles, layer_names, site_titles
from dropdiag.store.reader import Run, Runs

LABELS: Final = {
    "dead_share": "share of dead nodes",
    "always_saturated_share": "share of nodes always saturated",
    "update_to_weight": r"update to weight $|w_t-w_{t-1}|/|w_{t-1}|$",
    "distance_from_start": r"distance from start $|w_t-w_0|/|w_0|$",
}
LOGS: Final = ("update_to_weight",)
ADVICE: Final = "draw one with by_layer() of dropdiag.plots.health"


def health(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw dead and always-saturated nodes, and how far weights move, beside what they were at the start.

    A panel each quantity that was recorded, a row a layer in the order of execution: full marks are means over seeds
    at the last step, bars 95 % intervals over seeds; hollow marks are the same at the first recorded step. More than 32
    layers have lines over the layers in place of marks, without the start.

    Parameters
    ----------
    runs : Run or Runs
    layers : list of str, or mapping of str to str, optional
        All, or these in this order; a mapping also gives them their titles.
    conditions : list of str, optional
        All, or these in this order.
    phase : str, optional
        Of the shares of nodes, as in `dropdiag.analysis.health.table`.
    ax : Axes, optional
        Refused where there are several panels: `by_layer` in this file draws one.

    Returns
    -------
    Figure

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist (the message lists those that do), or the phase is not clear.
    NotRecordedError
        If no run recorded any of it.

    Notes
    -----
    Over few samples more nodes look dead: compare conditions over one held-out set. "–" is missing.

    Examples
    --------
    >>> figure = dd.plots.health(runs)
    """
    names, titles = layer_names(layers)
    with context():
        looks = one_look(runs, conditions)
        found = by_panel(runs, table(runs, layers=names, conditions=conditions, phase=phase), names)
        styles = {name: look for name, look in looks.items() if name in set(found["condition"])}
        parts = {name: found[found["quantity"] == name] for name in QUANTITIES if name in set(found["quantity"])}
        many = max(len(sites(part)) for part in parts.values()) > MANY
        figure, axes = panels(len(parts), width=3.6, height=_height(parts, many=many), across=2, ax=ax, advice=ADVICE)
        for (quantity, part), one in zip(parts.items(), axes, strict=True):
            by_layer(part, ax=one, styles=styles, titles=titles, log=quantity in LOGS)
            one.set_xlabel(LABELS[quantity])
            note(one, _when(part))
        start = Line2D([], [], color=INK, marker="o", ms=6.5, mfc="white", ls="none", label="at the start")
        return finish(figure, axes, styles, lines=many, marks=not many, extra=[] if many else [start], ax=ax)


def _height(parts: dict[str, pd.DataFrame], *, many: bool) -> float:
    most = max(len(sites(part)) for part in parts.values())
    if many:
        return height(most)
    rows = max(part.groupby(["layer", "call"]).size().sum() + len(sites(part)) for part in parts.values())
    return 1.0 + 0.12 * float(rows)


def _when(part: pd.DataFrame) -> str:
    """Say of which steps the numbers are: ``"step 5,000, start: step 1"``."""
    phase = "" if set(part["phase"]) == {"train"} else f"{part['phase'].iloc[0]}, "
    return f"{phase}step {part['step'].max():,}, start: step {part['start_step'].max():,}"


@styled
def by_layer(
    found: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, titles: Titles = None, log: bool = False
) -> Axes:
    """Draw one quantity of each layer, a row a site and a mark a condition, hollow at the start.

    Parameters
    ----------
    found : DataFrame
        Rows of one quantity of `dropdiag.analysis.health.table`; rows from top to bottom in its order of sites.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    titles : mapping of str to str, optional
        Site -> what to call it.
    log : bool
        Whether the x axis is logarithmic; it begins at 0 otherwise.

    Returns
    -------
    Axes
    """
    ax, styles = begin(ax, styles, found)
    known = sites(found)
    if len(known) > MANY:
        name_rows(ax, known, titles)
        profile(ax, known, found, "value", styles)
    else:
        _marks(ax, found, styles, log=log)
        ax.hlines(np.arange(1, len(known)) - 0.5, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7)
        ax.set_ylim(len(known) - 0.4, -0.6)
        ax.set_yticks(range(len(known)), list(site_titles(known, titles, width=22).values()))
    if log:
        ax.set_xscale("log")
        log_axis(ax, "x")
    else:
        ax.set_xlim(0.0, max(1.04 * ax.get_xlim()[1], 1e-9))
        ax.locator_params(axis="x", nbins=5)
    return ax


def _marks(ax: Axes, found: pd.DataFrame, styles: Styles, *, log: bool) -> None:
    known, looks = sites(found), styles or {}
    shift = dict(zip(looks, np.linspace(-0.5, 0.5, len(looks) + 2)[1:-1], strict=True))
    for name, part in found.groupby("condition", sort=False):
        look = looks[str(name)]
        y = np.array([known.index(site) + shift[str(name)] for site in sites(part)])
        # an interval that reaches 0 has no left end on a logarithmic axis
        low = part["low"].where(part["low"] > 0.0, part["value"] if log else 0.0).where(part["low"].notna())
        ax.hlines(y, low, part["high"], color=look.colour, lw=1.3)
        # larger than the full mark, so that it is seen around one in the same place; both whole at 0
        ax.plot(
            part["start"], y, look.marker, color=look.colour, mfc="white", ms=6.5, ls="none", zorder=3, clip_on=False
        )
        ax.plot(part["value"], y, look.marker, color=look.colour, ms=4.0, ls="none", zorder=4, clip_on=False)
        for place in y[part["value"].isna()]:
            ax.text(0.01, place, "–", transform=ax.get_yaxis_transform(), va="center", color=look.colour)
