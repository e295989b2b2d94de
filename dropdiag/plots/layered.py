"""What the layered figures share: one density panel a layer, conditions overlaid, one legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from dropdiag.analysis.kde import Support, bars_of, common_limits, curves_of
from dropdiag.analysis.phases import one_phase
from dropdiag.analysis.select import SITE, check, histograms, pooled
from dropdiag.plots.density import density, note
from dropdiag.plots.style import COLUMNS, Look, Panels, layer_names, looks, panels, plain, site_title
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import QUANTITIES

Layers = list[str] | Mapping[str, str] | None
Sites = list[tuple[str, int]]
OPEN: Final[Support] = (None, None)


def one_look(runs: Run | Runs, conditions: list[str] | None) -> dict[str, Look]:
    """Look of each chosen condition, by its place among all conditions of the runs."""
    every = looks(as_runs(runs).conditions)
    return {name: every[name] for name in check("condition", conditions, every)}


def one_phase_of(
    runs: Run | Runs, quantity: str, conditions: list[str] | None, phase: str | None
) -> tuple[Runs, dict[str, Look], str]:
    """Find the runs of the chosen conditions that hold a quantity in one phase, their looks, the phase.

    Raises and warns as `dropdiag.analysis.phases.one_phase`, once a figure.
    """
    styles = one_look(runs, conditions)
    kept, _, phase = one_phase(as_runs(runs), quantity, phase=phase, conditions=styles)
    return kept, {name: look for name, look in styles.items() if name in kept.conditions}, phase


def densities(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Layers,
    styles: Mapping[str, Look],
    bandwidth: str | float,
    support: Support = OPEN,
    limits: tuple[float, float] | None = None,
    step: int | None = None,
    phase: str | None = None,
    height: float = 2.35,
) -> tuple[Panels, dict[tuple[str, int], Axes], pd.DataFrame]:
    """Figure with a density panel for each layer.

    Parameters
    ----------
    runs, quantity, bandwidth, support, step, phase
        As in `dropdiag.analysis.kde.curves`.
    styles : mapping of str to Look
        Conditions to draw.
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
    frame = pooled(histograms(runs, quantity, layers=names, conditions=list(styles), step=step, phase=phase))
    if limits is None:
        limits = common_limits(list(frame["histogram"]), support)
    lines = curves_of(frame, bandwidth=bandwidth, support=support, limits=limits)
    boxes = bars_of(frame, support=support, limits=limits)
    found = sites(frame)
    figure, grid = panels(len(found), height=height + _extra(found, titles))
    axes = dict(zip(found, grid, strict=True))
    for (layer, call), ax in axes.items():
        here = at(lines, layer, call)
        ax.set_xlabel(QUANTITIES[quantity].label)
        if len(here):
            density(here, at(boxes, layer, call), ax=ax, styles=styles, xlabel=ax.get_xlabel())
        ax.set_title(site_title(layer, call, titles))
        absent(ax, styles, drawn=set(here["condition"]), held=set(at(frame, layer, call)["condition"]))
    _grow(figure, list(axes.values()))
    label_rows(list(axes.values()), "density")
    return figure, axes, lines


def absent(ax: Axes, styles: Mapping[str, Look], *, drawn: set[str], held: set[str]) -> None:
    """Say which conditions have no curve here, and whether they have the layer (or the scalar) at all."""
    for what, missing in (
        ("no finite value", [name for name in styles if name in held - drawn]),
        ("not in", [name for name in styles if name not in held]),
    ):
        if missing:
            names = ", ".join(plain(name, 18) for name in missing)
            note(ax, f"{what}{' ' if what == 'not in' else ': '}{names}")


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
