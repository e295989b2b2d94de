"""The panel behind Figures 1, 2 and 5: light bars and a density curve for each condition."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from dropdiag.plots.style import Look, looks, own_axes, plain


def density(
    curves: pd.DataFrame,
    bars: pd.DataFrame | None = None,
    *,
    ax: Axes | None = None,
    styles: Mapping[str, Look] | None = None,
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
        thin vertical line at 0 and a remark below say so; the curve does not contain them.
    """
    ax = own_axes(ax)
    styles = styles or looks(curves["condition"].unique())
    if bars is not None:
        # Laid over each other, filled bars mix to a colour that is nobody's: the more there are, the fainter.
        fill = 0.15 / bars["condition"].nunique()
        for name, part in bars.groupby("condition", sort=False):
            edges = [*part["left"], part["right"].iloc[-1]]
            colour = styles[str(name)].colour
            ax.stairs(part["density"], edges, fill=True, color=colour, alpha=fill, lw=0)
            ax.stairs(part["density"], edges, color=colour, alpha=0.6, lw=0.6)
    zeros: dict[str, float] = {}
    for name, part in curves.groupby("condition", sort=False):
        look = styles[str(name)]
        ax.plot(part["x"], part["density"], color=look.colour, linestyle=look.line, label=plain(str(name)))
        if float(part["point_mass"].iloc[0]) > 0.005:
            zeros[str(name)] = float(part["point_mass"].iloc[0])
            ax.axvline(0.0, color=look.colour, linestyle=look.line, lw=0.8)
    ax.set_xlim(float(curves["x"].min()), float(curves["x"].max()))
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel(xlabel)
    if zeros:  # their bar would press the curves down; let it reach out of the panel
        ax.set_ylim(top=1.1 * float(curves["density"].max()) or 1.0)
        shares = ", ".join(f"{plain(name, 18)} {100 * share:.1f} %" for name, share in zeros.items())
        note(ax, f"exact zeros: {shares}")
    ax.locator_params(axis="both", nbins=5)
    return ax


def note(ax: Axes, text: str) -> None:
    """Add a remark below the x label, in lines that fit a panel."""
    ax.set_xlabel("\n".join([ax.get_xlabel(), *textwrap.wrap(text, 44)]))
