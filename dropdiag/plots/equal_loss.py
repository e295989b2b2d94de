"""The gradient flow against the loss, and its ratio to the baseline at equal loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dropdiag.analysis.gradient_flow import at_equal_loss
from dropdiag.errors import ArgumentError
from dropdiag.plots.factors import factor_axis
from dropdiag.plots.layered import by_panel, by_site, one_look, sites
from dropdiag.plots.layout import MANY, begin, finish, listed, log_axis, note, panels, share_log_y
from dropdiag.plots.steps import over_steps
from dropdiag.plots.style import GREY, INK, Look, Styles, context, styled
from dropdiag.plots.words import Layers, layer_names, names_cut, plain, site_titles
from dropdiag.store.reader import Run, Runs

LABEL: Final = r"mean $|\partial L/\partial z|$"
REFUSED: Final = "draw a panel with equal_loss_ratio() of dropdiag.plots.equal_loss"


def against_loss(runs: Run | Runs, against: str, layers: Layers, asked: Mapping[str, Any], ax: Axes | None) -> Figure:
    """Draw a row of two panels for each layer; see `dropdiag.plots.gradient_flow`."""
    if against != "loss":
        raise ArgumentError(f"against must be 'loss' or left out, got {against!r}; loss= names another loss")
    names, titles = layer_names(layers)
    with context():
        found = by_panel(runs, at_equal_loss(runs, layers=names, **asked), names)
        known, styles = sites(found), one_look(runs, asked["conditions"])
        compared = bool(found["ratio"].notna().any()) and len(set(found["condition"])) > 1
        if len(known) > MANY:
            raise ArgumentError(f"{len(known)} layers are too many for a panel each: choose some with layers=[...]")
        across = 2 if compared else 0
        figure, axes = panels(len(known) * (2 if compared else 1), width=3.6, height=2.2, across=across, ax=ax,
                              advice=REFUSED)  # fmt: skip
        flows = axes[::2] if compared else axes
        called, parts = site_titles(known, titles), by_site(found)
        for site, one in zip(known, flows, strict=True):
            flow_by_loss(parts[site], ax=one, styles=styles, loss=asked["loss"])
            one.set_title(called[site])
        share_log_y(flows)
        for site, one in zip(known, axes[1::2] if compared else (), strict=False):
            equal_loss_ratio(parts[site], ax=one, styles=styles, loss=asked["loss"])
            one.set_title(f"{called[site]}, at equal loss")
        return finish(figure, axes, styles, label=LABEL, ax=ax)


@styled
def flow_by_loss(found: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, loss: str = "loss") -> Axes:
    """Draw the gradient flow of one layer against the loss, which falls to the right, as in training.

    Parameters
    ----------
    found : DataFrame
        Rows of one layer of `dropdiag.analysis.gradient_flow.at_equal_loss`.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    loss : str
        Name of the loss.

    Returns
    -------
    Axes
        Lines and bands as of `dropdiag.plots.steps.over_steps`, on log axes.
    """
    ax = over_steps(found.assign(step=found["loss"]), ax=ax, styles=styles, log=True)
    _loss_axis(ax, loss)
    return ax


@styled
def equal_loss_ratio(found: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None, loss: str = "loss") -> Axes:
    """Draw the ratio of one layer's gradient flow to the baseline's where both had the same loss.

    Parameters
    ----------
    found, ax, styles, loss
        As in `flow_by_loss`.

    Returns
    -------
    Axes
        A line a condition with its 95 % interval over seeds as a band; the y axis is the logarithm of the ratio, its
        ticks the ratios.
    """
    ax, styles = begin(ax, styles, found)
    base = str(found["baseline"].iloc[0])
    ax.axhline(0.0, color=INK, lw=0.8, zorder=1)
    rows = found[(found["condition"] != base) & found["ratio"].notna()]
    for name, part in rows.groupby("condition", sort=False):
        look = styles[str(name)]
        low, high = (np.log(part[end]) for end in ("ratio_low", "ratio_high"))
        ax.fill_between(part["loss"], low, high, color=look.colour, alpha=0.15, lw=0)
        ax.plot(part["loss"], np.log(part["ratio"]), color=look.colour, ls=look.line, lw=1.4, label=plain(str(name)))
    if len(rows):
        _limits(ax, np.log(rows["ratio"].to_numpy(np.float64)))
        _loss_axis(ax, loss)
        ax.set_ylabel(f"ratio to {names_cut([*styles, base], 16)[base]}")
    else:
        ax.text(0.5, 0.5, "nothing to compare", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set(xticks=[], yticks=[])
    _say_apart(ax, set(found["condition"]), set(rows["condition"]), base, styles)
    return ax


def _limits(ax: Axes, values: NDArray[np.float64]) -> None:
    """Show all means; not the band of few seeds, which may reach far."""
    bottom, top = min(0.0, float(values.min())), max(0.0, float(values.max()))
    room = 0.25 * max(top - bottom, 0.05)
    ax.set_ylim(bottom - room, top + room)
    factor_axis(ax, "y")


def _say_apart(ax: Axes, held: set[str], compared: set[str], base: str, styles: Mapping[str, Look]) -> None:
    """Say below a panel what could not be compared in it."""
    if base not in held:
        note(ax, f"not in {plain(base)}")
        return
    apart = [name for name in styles if name in held - {base} - compared]
    lacking = [name for name in styles if name not in held]
    for what, names in (("never at the same loss: ", apart), ("not in ", lacking)):
        if names:
            note(ax, what + listed(names, styles))


def _loss_axis(ax: Axes, loss: str) -> None:
    ax.set_xscale("log")
    low, high = sorted(ax.get_xlim())
    ax.set_xlim(high, low)
    log_axis(ax, "x")
    ax.set_xlabel(f"{plain(loss.replace('_', ' '))}, smoothed (training goes to the right)")
