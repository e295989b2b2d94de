"""Figures of more layers than have a panel each: a map for each condition, a row a layer, from the first at the top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dropdiag.analysis.select import SITE
from dropdiag.plots.density import ZEROS
from dropdiag.plots.layout import note, panels
from dropdiag.plots.style import SHADE, Look, Panels
from dropdiag.plots.words import Titles, names_cut, percent, plain, site_titles, wrapped
from dropdiag.store.order import Site

ADVICE: Final = "choose one condition with conditions=[...], or at most 32 layers with layers=[...]"
MAP: Final = "viridis"
"""Seen alike with any colour vision, and in grey."""
NARROW: Final = 0.02
"""Part of the x axis below which the shape of a layer's distribution is not seen."""
CROWD: Final = 12
"""With more maps than this they are smaller."""
PAGES: Final = 20.0
"""Height in inches of a figure of many maps."""
NAME: Final = 0.15
"""Height of a layer's name, in inches."""


def height(rows: int) -> float:
    """Height in inches of a panel with so many rows: about a page at most."""
    return float(np.clip(1.0 + 0.045 * rows, 2.6, 8.5))


def density_maps(
    curves: pd.DataFrame,
    rows: Sequence[Site],
    styles: Mapping[str, Look],
    titles: Titles,
    *,
    label: str,
    ax: Axes | None = None,
    more: int = 0,
) -> tuple[Figure, list[Axes]]:
    """Draw the densities of all layers, each in shades of its own maximum.

    Parameters
    ----------
    curves : DataFrame
        As returned by `dropdiag.analysis.kde.curves_of`.
    rows : sequence of (layer, call)
    styles : mapping of str to Look
        Conditions.
    titles : mapping of str to str, optional
        Layer -> what the reader calls it.
    label : str
        Of the x axes.
    ax, more
        As in `maps`.
    """
    # layers that are far wider or narrower than the others have limits of their own: those of most count here
    ends = curves.groupby(SITE, sort=False)["x"].agg(["min", "max"])
    low, high = Counter(ends.itertuples(index=False, name=None)).most_common(1)[0][0]
    wider = int(((ends["min"] < low) | (ends["max"] > high)).sum())
    narrow = int((ends["max"] - ends["min"] < NARROW * (high - low)).sum())

    def matrix(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        part = curves[curves["condition"] == name]
        edges = np.linspace(low, high, 401)
        made = np.full((len(rows), 400), np.nan)
        place = {site: i for i, site in enumerate(rows)}
        key: Any
        for key, line in part.groupby(SITE, sort=False):
            middle = 0.5 * (edges[1:] + edges[:-1])
            x, density = line["x"].to_numpy(np.float64), line["density"].to_numpy(np.float64)
            values = np.interp(middle, x, density, left=0.0, right=0.0)
            # the most in each column: a layer that is narrower than one would leave its row as empty as no layer
            inside = (x >= low) & (x <= high)
            column = np.clip(np.searchsorted(edges, x[inside], side="right") - 1, 0, middle.size - 1)
            np.maximum.at(values, column, density[inside])
            top = float(density.max())
            made[place[str(key[0]), int(key[1])]] = values / top if top > 0.0 else np.nan
        return edges, made

    figure, axes = maps(matrix, rows, styles, titles, label=label, norm=Normalize(0.0, 1.0), ax=ax, more=more,
                        scale="density / its layer's maximum")  # fmt: skip
    for name, one in zip(styles, axes, strict=False):
        _tell(one, curves[curves["condition"] == name].groupby(SITE, sort=False).first())
        if wider:
            note(one, f"beyond the x axis: {wider} of {len(rows)} layers")
        if narrow:
            note(one, f"less wide than {100 * NARROW:.0f} % of it: {narrow} of {len(rows)} layers")
    return figure, axes


def _tell(ax: Axes, firsts: pd.DataFrame) -> None:
    """Say how many layers have more than a few exact zeros, or values that are not finite: a map shows neither."""
    for what, shares in (
        ("exact zeros", firsts["point_mass"].where(firsts["point_mass"] > ZEROS, 0.0)),
        ("not finite", firsts["dropped"] / (firsts["dropped"] + firsts["n"])),
    ):
        some = shares[shares > 0.0]
        if len(some):
            note(
                ax, f"{what}: up to {percent(float(some.max()))} of the values, in {len(some)} of {len(shares)} layers"
            )


def maps(
    matrix: Callable[[str], tuple[NDArray[Any], NDArray[Any]]],
    rows: Sequence[Site],
    styles: Mapping[str, Look],
    titles: Titles,
    *,
    label: str,
    norm: Normalize,
    scale: str,
    ax: Axes | None = None,
    more: int = 0,
) -> tuple[Figure, list[Axes]]:
    """Figure with a map for each condition, on one scale of colours.

    Parameters
    ----------
    matrix : callable
        Condition -> edges of the columns, and values, shape (rows, columns), NaN where there is none.
    rows : sequence of (layer, call)
    styles, titles, label
        As in `density_maps`.
    norm : Normalize
    scale : str
        What the colours show.
    ax : Axes, optional
        In place of a figure, where there is one condition and nothing more.
    more : int
        Further panels of the same height, which are left empty.

    Returns
    -------
    figure : Figure
    axes : list of Axes
        Those of the conditions, then the further ones.
    """
    count, tall = len(styles) + more, height(len(rows))
    across = 6 if count > CROWD else 0
    if across:  # a page or two in all
        tall = max(min(tall, PAGES / -(-count // across)), 2.6)
    figure, axes = panels(count, width=2.5 if across else 3.2, height=tall, across=across, cells=False, ax=ax,
                          advice=ADVICE)  # fmt: skip
    wide = 1.7 if across else 2.3  # letters of titles are bold, a tenth wider than they are measured
    colours = _colours()
    told = names_cut(styles, 60)
    for name, one in zip(styles, axes, strict=False):
        edges, values = matrix(name)
        # as pixels, not as a shape for each cell: files stay small
        one.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, np.ma.masked_invalid(values), norm=norm, cmap=colours,
                       rasterized=True)  # fmt: skip
        one.set(title="\n".join(wrapped(told[name], wide, 10.5)), xlabel=label)
        one.locator_params(axis="x", nbins=5)
        if np.isnan(values).all(axis=1).any():
            empty = int(np.isnan(values).all(axis=1).sum())
            note(one, f"grey: {empty} of {len(rows)} layers, which it does not have, or without values")
    for one in axes:
        name_rows(one, rows, titles, tall)
    if isinstance(figure, Panels):
        shown = figure.colorbar(ScalarMappable(norm, colours), ax=axes, location="right", fraction=0.03, pad=0.01,
                                 aspect=40)  # fmt: skip
        shown.set_label(scale)
    return figure, axes


def name_rows(ax: Axes, rows: Sequence[Site], titles: Titles, tall: float | None = None) -> None:
    """Give a panel a row for each layer from top to bottom, with as many of their names as have room.

    Parameters
    ----------
    ax : Axes
    rows : sequence of (layer, call)
    titles : mapping of str to str, optional
        Layer -> what the reader calls it.
    tall : float, optional
        Height of the panel in inches; by default that for so many rows.
    """
    ax.set_ylim(len(rows) - 0.5, -0.5)
    spec = ax.get_subplotspec()
    if isinstance(ax.figure, Panels) and spec is not None and not spec.is_first_col():
        ax.set_yticks([])
        return
    room = (tall or height(len(rows))) - 0.9
    every = max(int(np.ceil(len(rows) * NAME / room)), 1)
    shown = list(range(0, len(rows), every))
    known = {site: title.replace("\n", "") for site, title in site_titles(rows, titles, width=26).items()}
    ax.set_yticks(shown, [known[rows[i]] for i in shown], fontsize=7.5)
    ax.tick_params(axis="y", length=2.0)
    if every > 1:
        ax.set_ylabel(f"layer (every {every}th named)" if every > 3 else "layer (some named)")


def _colours() -> Colormap:
    from matplotlib import colormaps  # noqa: PLC0415 - beside what uses it

    return colormaps[MAP].with_extremes(bad=SHADE)


def step_maps(
    lines: pd.DataFrame,
    rows: Sequence[Site],
    styles: Mapping[str, Look],
    titles: Titles,
    *,
    scale: str,
    log: bool,
    ax: Axes | None = None,
    more: int = 0,
) -> tuple[Figure, list[Axes]]:
    """Draw a scalar of all layers over training.

    Parameters
    ----------
    lines : DataFrame
        As returned by `dropdiag.analysis.scalar.curves`.
    rows, styles, titles
        As in `density_maps`.
    scale : str
        What the colours show.
    log : bool
        Whether their scale is logarithmic.
    ax, more
        As in `maps`.
    """
    values = lines["value"].to_numpy(np.float64)
    some = values[np.isfinite(values)]
    low, high = (float(some.min()), float(some.max())) if some.size else (1.0, 1.0)
    norm = LogNorm(low, high if high > low else 2.0 * low) if log else Normalize(low, high if high > low else low + 1.0)

    def matrix(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        part = lines[lines["condition"] == name]
        steps = np.unique(part["step"])
        if not steps.size:
            return np.array([0.0, 1.0]), np.full((len(rows), 1), np.nan)
        made = np.full((len(rows), steps.size), np.nan)
        place = {site: i for i, site in enumerate(rows)}
        row = [place[str(layer), int(call)] for layer, call in zip(part["layer"], part["call"], strict=True)]
        made[row, np.searchsorted(steps, part["step"])] = part["value"]
        between = 0.5 * (steps[1:] + steps[:-1])
        first, last = (between[0], between[-1]) if between.size else (steps[0] + 0.5, steps[0] - 0.5)
        return np.array([2 * steps[0] - first, *between, 2 * steps[-1] - last]), made

    figure, axes = maps(matrix, rows, styles, titles, label="training step", norm=norm, scale=scale, ax=ax, more=more)
    for name, one in zip(styles, axes, strict=False):
        _tell_steps(one, lines[lines["condition"] == name], log=log)
    return figure, axes


def _tell_steps(ax: Axes, lines: pd.DataFrame, *, log: bool) -> None:
    if "recorded" in lines and lines["dropped"].sum():
        lost = percent(float(lines["dropped"].sum() / lines["recorded"].sum()))
        note(ax, f"not finite{' or not positive' if log else ''}: {lost}")
    valued = lines[lines["value"].notna()]
    fewer = valued[valued["seeds"] < valued["runs"]]
    if len(fewer):
        note(ax, f"in part of {int(fewer['seeds'].min())} of {int(fewer['runs'].max())} runs")


def profile(ax: Axes, rows: Sequence[Site], frame: pd.DataFrame, column: str, styles: Mapping[str, Look]) -> None:
    """Draw a number of each layer as a line a condition, broken where a condition does not have the layer.

    Parameters
    ----------
    ax : Axes
        With rows as `name_rows` makes them.
    rows : sequence of (layer, call)
    frame : DataFrame
        Columns condition, layer, call and ``column``.
    column : str
    styles : mapping of str to Look
    """
    place = {site: i for i, site in enumerate(rows)}
    for name, part in frame.groupby("condition", sort=False):
        values = np.full(len(rows), np.nan)
        values[[place[str(layer), int(call)] for layer, call in zip(part["layer"], part["call"], strict=True)]] = part[
            column
        ]
        look = styles[str(name)]
        ax.plot(values, np.arange(len(rows)), color=look.colour, linestyle=look.line, lw=1.2, label=plain(str(name)))
        alone = np.isfinite(values) & np.isnan(np.roll(values, 1)) & np.isnan(np.roll(values, -1))
        ax.plot(values[alone], np.flatnonzero(alone), look.marker, color=look.colour, ms=3.5, ls="none")
