"""Where the gradient comes from: the terms of each condition's log ratio of the gradient flow to the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dropdiag.analysis.flow.terms import KINDS, TOTAL
from dropdiag.analysis.flow_decomposition import over_training, table
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.plots.factors import factor_axis
from dropdiag.plots.heat import height, name_rows
from dropdiag.plots.layered import by_panel, by_site, sites
from dropdiag.plots.layout import MANY, finish, note, own_axes, panels
from dropdiag.plots.style import GREY, INK, TERMS, context, styled
from dropdiag.plots.words import Conditions, Layers, Titles, interval, layer_names, names_cut, plain, site_titles
from dropdiag.store.reader import Run, Runs

COLOURS: Final = dict(zip(KINDS, TERMS, strict=True))
LINES: Final[Mapping[str, Any]] = dict(zip(KINDS, ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)),
                                                   (0, (2.5, 1.2))), strict=True))  # fmt: skip
TRAINING: Final = "training"
THIN: Final = 1e-4
"""A term whose logarithm is nearer to 0 is a bar without width."""
NUMBERS: Final = 16
"""Rows of a panel beside which the totals are written."""
LABEL: Final = "gradient flow, ratio to {}"
BINS: Final = 40
ADVICE: Final = "choose one condition with conditions=[...]"
ONE: Final = "choose one condition and one layer with conditions=[...] and layers=[...]"


def flow_decomposition(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    baseline: str | None = None,
    until: int | None = None,
    over: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw what each condition's log ratio of the gradient flow to the baseline is made of, layer by layer.

    A panel a condition, a bar a layer: the terms that raise the gradient flow stand at the right of 1 and those that
    lower it at the left; the mark is the total, their sum, with its 95 % interval over seeds. Over training, a panel a
    layer and condition: a line a term, the total in black with its interval as a band.

    Parameters
    ----------
    runs, layers, conditions
        As in `dropdiag.plots.weights`; layers are activations, as the baseline calls them.
    baseline, until
        As in `dropdiag.analysis.flow_decomposition.table`.
    over : {"training"}, optional
        Draw the terms over training steps, in bins of scheduled steps.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one panel.

    Returns
    -------
    Figure
        That of ``ax``, where it is given.

    Raises
    ------
    ArgumentError
        As in `dropdiag.analysis.flow_decomposition.table`; if ``over`` is none of these, or there are more than 32
        layers over training.
    NotRecordedError
        If the decomposition was not recorded, or no term is known; the message says why.

    Examples
    --------
    >>> figure = dd.plots.flow_decomposition(runs, over="training")
    """
    if over not in (None, TRAINING):
        raise ArgumentError(f"over must be {TRAINING!r} or left out, got {over!r}")
    names, titles = layer_names(layers)
    given: dict[str, Any] = {"layers": names, "conditions": conditions, "baseline": baseline, "until": until}
    with context():
        found = over_training(runs, **given, bins=BINS) if over else table(runs, **given)
        if found["effect"].isna().all():
            raise NotRecordedError(_nothing(found))
        found = by_panel(runs, found, names)
        return _lines(found, titles, ax) if over else _bars(found, titles, ax)


def _nothing(found: pd.DataFrame) -> str:
    reasons = [one for one in dict.fromkeys(found["why"].dropna()) if one]
    return f"no term of the gradient flow is known: {'; '.join(reasons[:3]) or 'no layer was decomposed'}"


def _bars(found: pd.DataFrame, titles: Titles, ax: Axes | None) -> Figure:
    parts = {str(name): part for name, part in found.groupby("condition", sort=False)}
    rows = len(sites(found))
    tall = height(rows) if rows > MANY else 0.85 + 0.32 * rows
    figure, axes = panels(len(parts), width=3.9, height=tall, across=min(len(parts), 2), ax=ax, advice=ADVICE)
    called = names_cut(parts, 40)
    for (name, part), one in zip(parts.items(), axes, strict=True):
        bars(part, ax=one, titles=titles)
        one.set_title(called[name])
        one.tick_params(axis="y", labelleft=one is axes[0] or len(axes) > 2)
    _share(axes)
    mark = Line2D([], [], color=INK, marker="D", mfc="white", ms=4.5, lw=1.2, label=TOTAL)
    extra = [*(Patch(color=COLOURS[kind], label=kind) for kind in _shown(found)), mark]
    return finish(figure, axes, {}, extra=extra, ax=ax)


def _lines(found: pd.DataFrame, titles: Titles, ax: Axes | None) -> Figure:
    conditions, layers = list(found["condition"].unique()), sites(found)
    if len(layers) > MANY:
        raise ArgumentError(f"{len(layers)} layers are too many for a panel each: choose some with layers=[...]")
    figure, axes = panels(len(layers) * len(conditions), width=3.2, height=2.2, ax=ax, advice=ONE,
                          across=len(conditions) if 1 < len(conditions) <= 4 else 0)  # fmt: skip
    called, cut = site_titles(layers, titles), names_cut(conditions, 24)
    places = [(site, name) for site in layers for name in conditions]
    parts = by_site(found)
    for (site, name), one in zip(places, axes, strict=True):
        rows = parts[site]
        lines(rows[rows["condition"] == name], ax=one)
        one.set_title(called[site] if len(conditions) == 1 else f"{called[site]}, {cut[name]}")
    handles = [Line2D([], [], color=COLOURS[kind], ls=LINES[kind], label=kind) for kind in _shown(found)]
    label = LABEL.format(plain(str(found["baseline"].iloc[0]))).removeprefix("gradient flow, ")
    extra = [*handles, Line2D([], [], color=INK, lw=1.8, label=TOTAL)]
    return finish(figure, axes, {}, extra=extra, label=label, ax=ax)


def _shown(found: pd.DataFrame) -> list[str]:
    # nobody looks for the colour of a bar that has no width
    drawn = found[~(found["effect"].abs() < THIN)]
    return [kind for kind in KINDS if (drawn["term"] == kind).any()]


@styled
def bars(found: pd.DataFrame, *, ax: Axes | None = None, titles: Titles = None) -> Axes:
    """Draw the terms of one condition as bars, a row a layer.

    Parameters
    ----------
    found : DataFrame
        Rows of one condition of `dropdiag.analysis.flow_decomposition.table`, by kind; layers from top to bottom in
        its order.
    ax : Axes, optional
    titles : mapping of str to str, optional
        Layer -> what to call it.

    Returns
    -------
    Axes
        The x axis is the natural logarithm of the factor, its ticks the factors. "–" stands where no term is known,
        and a remark below says why.
    """
    ax = own_axes(ax)
    known = sites(found)
    ends = {False: np.zeros(len(known)), True: np.zeros(len(known))}
    place = {site: row for row, site in enumerate(known)}
    at = np.array([place[str(layer), int(call)] for layer, call in zip(found["layer"], found["call"], strict=True)])
    for kind in KINDS:
        part = ((found["term"] == kind) & found["effect"].notna()).to_numpy()
        for row, effect in zip(at[part], found["effect"].to_numpy()[part], strict=True):
            side = ends[bool(effect > 0.0)]
            ax.barh(row, effect, left=side[row], height=0.62, color=COLOURS[kind], edgecolor="white", lw=0.4)
            side[row] += effect
    ax.axvline(0.0, color=INK, lw=0.8, zorder=3)
    _totals(ax, found, at, ends)
    _limits(ax, found, ends)
    if len(known) > MANY:
        name_rows(ax, known, titles)
    else:
        ax.set_yticks(range(len(known)), list(site_titles(known, titles, width=22).values()))
        ax.set_ylim(len(known) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    factor_axis(ax, "x")
    ax.set_xlabel(LABEL.format(plain(str(found["baseline"].iloc[0]))))
    _unknown(ax, found, titles)
    return ax


def _totals(ax: Axes, found: pd.DataFrame, at: np.ndarray[Any, Any], ends: Mapping[bool, np.ndarray[Any, Any]]) -> None:
    """Draw the totals with their intervals, and write them beside the bars where there is room."""
    part = (found["term"] == TOTAL).to_numpy()
    for row, one in zip(at[part], found.loc[part, ["effect", "low", "high"]].to_numpy(np.float64), strict=True):
        effect, low, high = (float(value) for value in one)
        if not np.isfinite(effect):
            ax.text(0.0, row, " –", va="center", color=GREY)
            continue
        ax.plot([low, high], [row, row], color=INK, lw=1.2, zorder=4)
        ax.plot([effect], [row], "D", color=INK, mfc="white", ms=4.5, zorder=5)
        if len(ends[True]) <= NUMBERS:
            told = "×" + interval(*map(math.exp, (effect, low, high)))
            ax.annotate(told, (1.0, row), (4.0, 0.0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                        va="center", fontsize=8.0, annotation_clip=False)  # fmt: skip


def _limits(ax: Axes, found: pd.DataFrame, ends: Mapping[bool, np.ndarray[Any, Any]]) -> None:
    """Limits that hold the bars; an interval of few seeds may reach beyond them."""
    low, high = float(ends[False].min()), float(ends[True].max())
    totals = found[found["term"] == TOTAL]
    spare = 0.6 * max(high - low, 0.02)
    low = min(low, max(float(totals["low"].min()), low - spare)) if totals["low"].notna().any() else low
    high = max(high, min(float(totals["high"].max()), high + spare)) if totals["high"].notna().any() else high
    room = 0.06 * max(high - low, 0.02)
    ax.set_xlim(low - room, high + room)


def _share(axes: Sequence[Axes]) -> None:
    """Give all panels the limits that hold what each shows."""
    limits = np.array([ax.get_xlim() for ax in axes])
    for ax in axes:
        ax.set_xlim(limits[:, 0].min(), limits[:, 1].max())
        factor_axis(ax, "x")


def _unknown(ax: Axes, found: pd.DataFrame, titles: Titles) -> None:
    """Say below a panel which terms are not known, and why."""
    lost = found[found["effect"].isna() & (found["why"].fillna("") != "")]
    called = site_titles(sites(found), titles, width=22)
    for why, part in lost.groupby("why", sort=False):
        terms = ", ".join(dict.fromkeys(part["term"]))
        names = list(dict.fromkeys(called[site] for site in sites(part)))
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        note(ax, f"no {terms} of {where}: {plain(str(why))}")


@styled
def lines(found: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the terms of one condition and layer over training.

    Parameters
    ----------
    found : DataFrame
        Rows of one condition and layer of `dropdiag.analysis.flow_decomposition.over_training`, by kind.
    ax : Axes, optional

    Returns
    -------
    Axes
        The y axis is the natural logarithm of the factor, its ticks the factors.
    """
    ax = own_axes(ax)
    ax.axhline(0.0, color=INK, lw=0.8, zorder=1)
    for kind, part in found.groupby("term", sort=False):
        if kind == TOTAL:
            ax.fill_between(part["step"], part["low"], part["high"], color=INK, alpha=0.12, lw=0)
            ax.plot(part["step"], part["effect"], color=INK, lw=1.8, label=TOTAL, zorder=4)
        else:
            ax.plot(
                part["step"], part["effect"], color=COLOURS[str(kind)], ls=LINES[str(kind)], lw=1.4, label=str(kind)
            )
    values = found["effect"].dropna()
    if values.empty:
        ax.text(0.5, 0.5, "not known", transform=ax.transAxes, ha="center", va="center", color=GREY)
    else:  # not the band of few seeds, which may reach far
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        room = 0.1 * max(high - low, 0.02)
        ax.set_ylim(low - room, high + room)
        factor_axis(ax, "y")
    ax.set_xlabel("training step")
    ax.locator_params(axis="x", nbins=5)
    _unknown(ax, found, None)
    return ax
