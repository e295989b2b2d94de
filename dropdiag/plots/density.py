"""The panel behind Figures 1, 2 and 5: bars and a density curve for each condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import StepPatch

from dropdiag.plots.layout import begin, note
from dropdiag.plots.style import Look, Styles, styled
from dropdiag.plots.words import names_cut, percent, plain

FILLED: Final = 8
"""With more conditions than this, bars are outlines alone."""
ZEROS: Final = 0.005
"""Share of exact zeros that is told."""
OUTSIDE: Final = 0.01
"""Share of a condition's values beyond the x axis that is told."""


@styled
def density(
    curves: pd.DataFrame,
    bars: pd.DataFrame | None = None,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
    xlabel: str = "",
) -> Axes:
    """Draw the distributions of one layer, conditions overlaid.

    Parameters
    ----------
    curves : DataFrame
        Rows of one layer of `dropdiag.analysis.kde.curves`.
    bars : DataFrame, optional
        Rows of the same layer of `dropdiag.analysis.kde.bars`.
    ax : Axes, optional
        New ones by default.
    styles : mapping of str to Look, optional
        Look of each condition; by default by its place in the frame.
    xlabel : str

    Returns
    -------
    Axes
        One line a condition, labelled with its name. Where exact zeros are more than 0.5 % of the values, a
        thin vertical line at 0 and a remark below say so; the curve does not contain them. So do remarks of values that
        are not finite, and of those beyond the x axis, where they are more than 1 %.
    """
    ax, styles = begin(ax, styles, curves)
    if bars is not None:
        _bars(ax, bars, styles)
    firsts = curves.groupby("condition", sort=False).first()
    zeros = {str(name): float(share) for name, share in firsts["point_mass"].items() if share > ZEROS}
    for name, part in curves.groupby("condition", sort=False):
        look = styles[str(name)]
        ax.plot(part["x"], part["density"], color=look.colour, linestyle=look.line, label=plain(str(name)))
        if name in zeros:
            ax.axvline(0.0, color=look.colour, linestyle=look.line, lw=0.8)
    tallest = 1.1 * curves["density"].max()
    if bars is not None and not zeros:  # the bar of exact zeros would press the curves down: it may reach out
        tallest = 1.05 * max(curves["density"].max(), bars["density"].max())
    ax.set(xlim=(curves["x"].min(), curves["x"].max()), ylim=(0.0, tallest or 1.0), xlabel=xlabel)
    _shares(ax, "exact zeros: ", zeros, styles)
    _shares(ax, "not finite: ", unfinite(firsts), styles)
    if bars is not None:
        _shares(ax, "beyond the x axis: ", _outside(bars), styles)
    ax.locator_params(axis="both", nbins=5)
    return ax


def unfinite(firsts: pd.DataFrame) -> dict[str, float]:
    """Return the share of NaN and infinite values of each condition (the index) that has any."""
    shares = firsts["dropped"] / (firsts["dropped"] + firsts["n"])
    return {str(name): float(share) for name, share in shares.items() if share > 0.0}


def _outside(bars: pd.DataFrame) -> dict[str, float]:
    """Return the share of the finite values of each condition that no bar holds, where it is worth telling."""
    area = bars.assign(area=bars["density"] * (bars["right"] - bars["left"])).groupby("condition", sort=False)["area"]
    return {str(name): 1.0 - float(inside) for name, inside in area.sum().items() if 1.0 - inside > OUTSIDE}


def _shares(ax: Axes, what: str, shares: Mapping[str, float], styles: Mapping[str, Look]) -> None:
    if shares:
        told = names_cut(styles, 18)
        note(ax, what + ", ".join(f"{told[name]} {percent(share)}" for name, share in shares.items()))


def _bars(ax: Axes, bars: pd.DataFrame, styles: Mapping[str, Look]) -> None:
    # Laid over each other, filled bars mix to a colour that is nobody's: the more there are, the fainter. The outline
    # is each one's own, and lighter than its curve.
    many = bars["condition"].nunique()
    fill = 0.3 / many if many <= FILLED else 0.0
    for name, part in bars.groupby("condition", sort=False):
        colour, edges = styles[str(name)].colour, [*part["left"], part["right"].iloc[-1]]
        light = 0.5 + 0.5 * np.array(to_rgba(colour))
        patch = StepPatch(part["density"], edges, facecolor=to_rgba(colour, fill), edgecolor=light, lw=0.8)
        # not `Axes.stairs`, which measures every step as a curve to find limits that are set by hand here
        patch.set_clip_path(ax.patch)
        ax.add_artist(patch)
