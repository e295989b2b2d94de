"""Is it the masks, or the weights that they led to? Effects on gradient flow by layer, and over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from dropdiag.analysis.masks_by_weights import ALL, EFFECTS, LAST, PHASE, table
from dropdiag.plots.heat import height, name_rows, profile
from dropdiag.plots.layered import by_panel, by_site, one_look, sites
from dropdiag.plots.layout import MANY, begin, finish, listed, log_axis, panels
from dropdiag.plots.style import GREY, Look, Styles, context, styled
from dropdiag.plots.words import Conditions, Layers, Titles, layer_names, site_titles, wrapped
from dropdiag.store.reader import Run, Runs

ADVICE: Final = "draw one with by_layer() or over_training() of dropdiag.plots.masks_by_weights"
TITLES: Final = {
    "weights": "Weights", "masks": "Masks", "interaction": "Interaction", "together": "Weights and masks",
}  # fmt: skip
LABELS: Final = {
    "weights": "flow beside {baseline}'s weights",
    "masks": "flow, masks on beside off",
    "interaction": "masks' factor beside {baseline}'s",
    "together": "flow in training beside {baseline}",
}
LINES: Final[dict[str, Any]] = {"weights": "-", "masks": (0, (4, 1.6)), "interaction": (0, (1.2, 1.2))}
"""Over training a colour is a condition, so that the line tells the effect."""
LOWEST, HIGHEST = 1 / 1.25, 1.25
"""What the axis holds at least: a factor near 1 is not to look like one far from it."""


def masks_by_weights(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    baseline: str | None = None,
    phase: str = PHASE,
    ax: Axes | None = None,
) -> Figure:
    """Draw what weights and what masks do to the gradient flow: factors beside a baseline, over seeds.

    Four panels share their axis, a factor on a log scale: the condition's weights beside the baseline's (mean over
    masks off and on), masks on beside off (mean over both weights), the factor by which masks do more under the
    condition's weights, and weights and masks together, which is what training has. Marks are geometric means over
    seeds, bars 95 % intervals. Where there are several measurements in training, a panel a layer shows the first three
    at each of its steps.

    Parameters
    ----------
    runs : Run or Runs
        In which ``rec.measure("masks_by_weights", ...)`` was called.
    layers : list of str, or mapping of str to str, optional
        All, or these in this order; a mapping also gives them their titles.
    conditions : list of str, optional
        All, or these in this order.
    baseline : str, optional
        By default as in `dropdiag.compare`.
    phase : str, default "masks_by_weights"
    ax : Axes, optional
        Refused, for this figure has four panels: `by_layer` and `over_training` in this file draw one.

    Returns
    -------
    Figure
        With more than 32 layers, lines over the layers in place of marks, and no panels over training.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.masks_by_weights.table`.

    Examples
    --------
    >>> figure = dd.plots.masks_by_weights(runs)
    """
    names, titles = layer_names(layers)
    asked: dict[str, Any] = {"layers": names, "conditions": conditions, "baseline": baseline, "phase": phase}
    with context():
        found = by_panel(runs, table(runs, step=LAST, **asked), names)
        styles = {name: look for name, look in one_look(runs, conditions).items() if name in set(found["condition"])}
        curves = by_panel(runs, table(runs, step=ALL, **asked), names)
        known = sites(found)
        many = len(known) > MANY
        training = [] if many or curves["step"].nunique() < 3 else known
        figure, axes = _grid(len(training), _height(len(known), len(styles)), ax)
        for effect, one in zip(EFFECTS, axes[: len(EFFECTS)], strict=True):
            by_layer(found[found["effect"] == effect], ax=one, styles=styles, titles=titles)
            one.tick_params(axis="y", labelleft=one is axes[0])
        _share(axes[: len(EFFECTS)], "x")
        parts = by_site(curves)
        for (site, title), one in zip(site_titles(training, titles).items(), axes[len(EFFECTS) :], strict=True):
            over_training(parts[site], ax=one, styles=styles)
            one.set_title(f"{title}, over training")
        _share(axes[len(EFFECTS) :], "y")
        for place, one in enumerate(axes[len(EFFECTS) :]):
            if place % len(EFFECTS):
                one.tick_params(axis="y", labelleft=False)
                one.set_ylabel("")
        extra = [Line2D([], [], color=GREY, linestyle=line, label=TITLES[name].lower()) for name, line in LINES.items()]
        return finish(figure, axes, styles, extra=extra if training else (), lines=many, marks=not many)


def _height(layers: int, conditions: int) -> float:
    return height(layers) if layers > MANY else 1.25 + 0.2 * layers * max(conditions, 1.4)


def _grid(training: int, tall: float, ax: Axes | None) -> tuple[Figure, list[Axes]]:
    """Figure with a row of panels for the effects and rows below them for layers over training."""
    across = len(EFFECTS)
    rows = 1 + -(-training // across)
    figure, grid = panels(across * rows, height=max(tall, 2.35 if training else 0.0), across=across, cells=False, ax=ax,
                          advice=ADVICE)  # fmt: skip
    for free in grid[across + training :]:
        free.set_axis_off()
    return figure, grid[: across + training]


@styled
def by_layer(found: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, titles: Titles = None) -> Axes:
    """Draw one effect, a row a layer and a mark a condition.

    Parameters
    ----------
    found : DataFrame
        Rows of one effect of `dropdiag.analysis.masks_by_weights.table`, at one step.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    titles : mapping of str to str, optional

    Returns
    -------
    Axes
        A factor, on a log scale; "–" stands in place of one that is missing.
    """
    ax, styles = begin(ax, styles, found)
    effect, known = str(found["effect"].iloc[0]), sites(found)
    factors = found.assign(**{name: np.exp(found[name]) for name in ("value", "low", "high")})
    ax.axvline(1.0, color="#999999", lw=0.8, zorder=0)
    ax.set_xscale("log")
    if len(known) > MANY:
        name_rows(ax, known, titles)
        profile(ax, known, factors, "value", styles)
    else:
        _marks(ax, factors, known, styles)
        ax.set_ylim(len(known) - 0.4, -0.6)
        ax.set_yticks(range(len(known)), list(site_titles(known, titles, width=18).values()))
    ax.set_title(TITLES[effect])
    ax.set_xlabel("\n".join(wrapped(LABELS[effect].format(baseline=_baseline(found)), 2.6, 9.0)))
    _bounded(ax, "x")
    return ax


def _baseline(found: pd.DataFrame) -> str:
    base = str(found["baseline"].iloc[0])
    return listed([base], [base])


def _marks(ax: Axes, factors: pd.DataFrame, known: list[tuple[str, int]], styles: Mapping[str, Look]) -> None:
    shift = dict(zip(styles, np.linspace(-0.5, 0.5, len(styles) + 2)[1:-1], strict=True))
    for name, part in factors.groupby("condition", sort=False):
        look = styles[str(name)]
        y = np.array([known.index(site) + shift[str(name)] for site in sites(part)])
        ax.hlines(y, part["low"], part["high"], color=look.colour, lw=1.4)
        ax.plot(part["value"], y, look.marker, color=look.colour, ms=4.5, ls="none", zorder=4)
        for place in y[part["value"].isna()]:
            ax.text(0.02, place, "–", transform=ax.get_yaxis_transform(), va="center", color=look.colour)
    lines = np.arange(1, len(known)) - 0.5
    ax.hlines(lines, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7)


@styled
def over_training(curves: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None) -> Axes:
    """Draw weights, masks and interaction of one layer at each step of a measurement.

    Parameters
    ----------
    curves : DataFrame
        Rows of one layer of `dropdiag.analysis.masks_by_weights.table` with ``step="all"``.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
        Lines are geometric means over seeds, bands 95 % intervals.
    """
    ax, styles = begin(ax, styles, curves)
    ax.axhline(1.0, color="#999999", lw=0.8, zorder=0)
    ax.set_yscale("log")
    for (name, effect), part in curves.groupby(["condition", "effect"], sort=False):
        if effect not in LINES:
            continue
        rows, colour = part.sort_values("step"), styles[str(name)].colour
        steps = rows["step"].to_numpy(np.float64)
        ax.plot(steps, np.exp(rows["value"]), color=colour, linestyle=LINES[str(effect)], lw=1.5)
        ax.fill_between(steps, np.exp(rows["low"]), np.exp(rows["high"]), color=colour, alpha=0.13, lw=0)
    ax.set(xlabel="step", ylabel="factor of the flow")
    ax.locator_params(axis="x", nbins=5)
    _bounded(ax, "y")
    return ax


def _bounded(ax: Axes, which: str) -> None:
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    _limit(ax, which, min(low, LOWEST), max(high, HIGHEST))


def _share(axes: list[Axes], which: str) -> None:
    """Give panels the axis that holds what each shows."""
    limits = [ax.get_xlim() if which == "x" else ax.get_ylim() for ax in axes]
    for ax in axes:
        _limit(ax, which, min(a for a, _ in limits), max(b for _, b in limits))


def _limit(ax: Axes, which: str, low: float, high: float) -> None:
    (ax.set_xlim if which == "x" else ax.set_ylim)(low, high)
    log_axis(ax, which)
    if high / low < 12.0:  # 1, 2 and 5 alone would leave an axis of two numbers
        ticks = LogLocator(subs=(0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 6.0 else (1.0, 2.0, 3.0, 5.0))
        (ax.xaxis if which == "x" else ax.yaxis).set_major_locator(ticks)
