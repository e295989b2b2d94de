"""What the layered figures share: one density panel a layer, conditions overlaid, one legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from dropdiag.analysis.kde import Support, bars, common_limits, curves
from dropdiag.analysis.select import SITE, check, histograms
from dropdiag.plots.density import density, note
from dropdiag.plots.style import COLUMNS, Look, Panels, clipped, layer_names, looks, panels, site_title
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import QUANTITIES

Layers = list[str] | Mapping[str, str] | None
Sites = list[tuple[str, int]]
OPEN: Final[Support] = (None, None)


def one_look(runs: Run | Runs, conditions: list[str] | None) -> dict[str, Look]:
    """Look of each chosen condition, by its place among all conditions of the runs."""
    every = looks(as_runs(runs).conditions)
    return {name: every[name] for name in check("condition", conditions, every)}


def densities(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Layers,
    conditions: list[str] | None,
    bandwidth: str | float,
    support: Support = OPEN,
    limits: tuple[float, float] | None = None,
    step: int | None = None,
    height: float = 2.35,
) -> tuple[Panels, dict[tuple[str, int], Axes], pd.DataFrame]:
    """Figure with a density panel for each layer.

    Parameters
    ----------
    runs, quantity, conditions, bandwidth, support, step
        As in `dropdiag.analysis.kde.curves`.
    layers : list of str, mapping of str to str, or None
        Names, or name -> title.
    limits : (float, float), optional
        First and last x of every panel; by default the same for all panels, wide enough for each.
    height : float
        Of a panel, in inches.

    Returns
    -------
    figure : Panels
    axes : dict of (layer, call) to Axes
    curves : DataFrame
        What was drawn.
    """
    names, titles = layer_names(layers)
    frame = histograms(runs, quantity, layers=names, conditions=conditions, step=step)
    if limits is None:
        limits = common_limits(list(frame["histogram"]), support)
    lines = curves(runs, quantity, layers=names, conditions=conditions, bandwidth=bandwidth, support=support,
                   limits=limits, step=step)  # fmt: skip
    boxes = bars(runs, quantity, layers=names, conditions=conditions, support=support, limits=limits, step=step)
    styles = one_look(runs, conditions)
    found = sites(frame)
    figure, grid = panels(len(found), height=height + _extra(found, titles))
    axes = dict(zip(found, grid, strict=True))
    for (layer, call), ax in axes.items():
        here = at(lines, layer, call)
        ax.set_xlabel(QUANTITIES[quantity].label)
        if len(here):
            density(here, at(boxes, layer, call), ax=ax, styles=styles, xlabel=ax.get_xlabel())
        ax.set_title(site_title(layer, call, titles))
        absent = [name for name in styles if name not in set(here["condition"])]
        if absent:
            note(ax, f"no finite value: {', '.join(clipped(name, 18) for name in absent)}")
    _grow(figure, list(axes.values()))
    label_rows(list(axes.values()), "density")
    return figure, axes, lines


def _extra(found: Sites, titles: Mapping[str, str]) -> float:
    """Height in inches that titles of two lines need."""
    return 0.16 if any("\n" in site_title(*site, titles) for site in found) else 0.0


def _grow(figure: Panels, axes: list[Axes]) -> None:
    """Make room for remarks below the x labels."""
    rows = -(-len(axes) // COLUMNS)
    lines = max(ax.get_xlabel().count("\n") for ax in axes)
    figure.set_figheight(figure.get_figheight() + 0.17 * lines * rows)


def sites(frame: pd.DataFrame) -> Sites:
    """Return (layer, call) in the order of first appearance."""
    return [(str(layer), int(call)) for layer, call in frame[SITE].drop_duplicates().itertuples(index=False)]


def at(frame: pd.DataFrame, layer: str, call: int) -> pd.DataFrame:
    """Rows of one site."""
    return frame[(frame["layer"] == layer) & (frame["call"] == call)]


def label_rows(axes: list[Axes], label: str) -> None:
    """Write a y label at the first panel of each row alone."""
    for ax in axes:
        spec = ax.get_subplotspec()
        if spec is None or spec.is_first_col():
            ax.set_ylabel(label)
