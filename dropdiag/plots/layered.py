"""What the layered figures share: what is drawn is read once, then comes one density panel a layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.bandwidth import pooled_groups
from dropdiag.analysis.kde import OPEN, Limits, Support, bars_of, curves_of
from dropdiag.analysis.limits import of_panels
from dropdiag.analysis.select import SITE, check, chosen, histograms, today
from dropdiag.analysis.select import by_site as rows_by_site
from dropdiag.plots.density import density
from dropdiag.plots.heat import density_maps
from dropdiag.plots.layout import MANY, absent, finish, note, panels
from dropdiag.plots.style import Look, looks
from dropdiag.plots.words import Conditions, Layers, axis_label, layer_names, plain, site_titles
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import Quantity


@dataclass(frozen=True, eq=False)
class Chosen:
    """Histograms that a figure draws, read once, and how their conditions and layers are shown.

    Attributes
    ----------
    runs : Run or Runs
    quantity : str
    label : str
        Of the x axes.
    frame : DataFrame
        As `dropdiag.analysis.select.histograms` returns it.
    styles : dict of str to Look
        Conditions that hold the quantity, whether they have one of the layers or not.
    titles : mapping of str to str
        Layer -> title, where the reader named one.
    """

    runs: Run | Runs
    quantity: str
    label: str
    frame: pd.DataFrame
    styles: dict[str, Look]
    titles: Mapping[str, str]


def choose(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Layers,
    conditions: Conditions,
    step: int | None = None,
    phase: str | None = None,
) -> Chosen:
    """Read the histograms of a figure; raises and warns as `dropdiag.analysis.select.histograms`."""
    names, titles = layer_names(layers)
    frame = histograms(runs, quantity, conditions=conditions, step=step, phase=phase)
    held = set(frame["condition"])
    styles = {name: look for name, look in one_look(runs, conditions).items() if name in held}
    # the layers are chosen last: a condition without any of them keeps its place in the legend
    frame = chosen(
        frame, quantity, layers=today(runs, names), conditions=None, known=styles, places=as_runs(runs).places
    )
    return Chosen(runs, quantity, axis_label(described(runs, quantity).label), frame, styles, titles)


@dataclass(frozen=True, eq=False)
class Densities:
    """A figure of densities, to which `dropdiag.plots.layout.finish` adds the legend.

    Attributes
    ----------
    figure : Figure
    axes : list of Axes
    by_site : dict of (layer, call) to Axes
        Empty where there are too many layers for a panel each: the axes are then maps, one a condition.
    rows : list of (layer, call)
        Layers from top to bottom of a map.
    curves : DataFrame
        What was drawn.
    """

    figure: Figure
    axes: list[Axes]
    by_site: dict[Site, Axes]
    rows: list[Site]
    curves: pd.DataFrame


def densities(
    drawn: Chosen,
    *,
    bandwidth: str | float,
    support: Support = OPEN,
    limits: Limits = None,
    holding: Mapping[Site, tuple[float, float]] | None = None,
    height: float = 2.35,
    ax: Axes | None = None,
    more: int = 0,
) -> Densities:
    """Figure with a density panel for each layer, or with a map for each condition where the layers are many.

    Parameters
    ----------
    drawn : Chosen
    bandwidth, support
        As in `dropdiag.analysis.kde.curves`.
    limits : (float, float), optional
        First and last x of every panel; by default the same for all layers of a like range, wide enough for each.
    holding : mapping of (layer, call) to (float, float), optional
        What the limits of a layer must hold beside its values, where they are not given.
    height : float
        Of a panel, in inches.
    ax : Axes, optional
        In place of a figure, where one panel is enough.
    more : int
        Further panels beside maps.
    """
    frame = pooled_groups(drawn.frame, drawn.quantity)
    within, apart = of_panels(frame, support, holding)
    within = within if limits is None else dict.fromkeys(sites(frame), limits)
    apart = apart if limits is None else set()
    lines = curves_of(frame, bandwidth=bandwidth, support=support, limits=within)
    found = sites(frame)
    if len(found) > MANY:
        figure, grid = density_maps(lines, found, drawn.styles, drawn.titles, label=drawn.label, ax=ax, more=more)
        return Densities(figure, grid, {}, found, lines)
    curves, bars = by_site(lines), by_site(bars_of(frame, support=support, limits=within))
    figure, grid = panels(len(found), height=height, ax=ax)
    axes = dict(zip(found, grid, strict=True))
    titles = site_titles(axes, drawn.titles)
    for site, part in by_site(frame).items():
        one = axes[site]
        one.set(title=titles[site], xlabel=drawn.label)
        if len(curves[site]):
            density(curves[site], bars[site], ax=one, styles=drawn.styles, xlabel=drawn.label)
        if site in apart:
            note(one, "an x axis of its own")
        absent(one, drawn.styles, drawn=set(curves[site]["condition"]), held=set(part["condition"]))
    return Densities(figure, grid, axes, found, lines)


def finish_densities(made: Densities, drawn: Chosen, *, ax: Axes | None = None, extra: Sequence[Any] = ()) -> Figure:
    """Return a figure of densities with its legend; maps name their conditions themselves."""
    if made.by_site:
        return finish(made.figure, made.axes, drawn.styles, label="density", extra=extra, ax=ax)
    return finish(made.figure, made.axes, {}, extra=extra, ax=ax)


def one_look(runs: Run | Runs, conditions: Conditions) -> dict[str, Look]:
    """Look of each chosen condition, by its place among all conditions of the runs."""
    every = looks(as_runs(runs).conditions)
    return {name: every[name] for name in check("condition", conditions, every)}


def described(runs: Run | Runs, name: str) -> Quantity:
    """Label, unit and scale of a quantity, as the first run has it that knows it; else its name is its label."""
    known = (run.quantities[name] for run in as_runs(runs) if name in run.quantities)
    return next(known, Quantity(name, "scalar", "1", plain(name.replace("_", " "))))


def by_panel(runs: Run | Runs, frame: pd.DataFrame, names: list[str] | None) -> pd.DataFrame:
    """Rows site by site in network order, or in that of the layers asked for: also where conditions differ in them."""
    return rows_by_site(frame, as_runs(runs).places, today(runs, names))


def sites(frame: pd.DataFrame) -> list[Site]:
    """Return (layer, call) in the order of first appearance."""
    return [(str(layer), int(call)) for layer, call in frame[SITE].drop_duplicates().itertuples(index=False)]


def by_site(frame: pd.DataFrame) -> Mapping[Site, pd.DataFrame]:
    """Rows of each site, in the order of first appearance; none for a site that the frame does not have."""
    # split once: comparing every row for every panel grows with the square of the layers
    parts = dict(zip(sites(frame), (part for _, part in frame.groupby(SITE, sort=False)), strict=True))
    return defaultdict(lambda: frame[:0], parts)
