"""The panel behind Figures 1, 2 and 5: light bars and a density curve for each condition."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import StepPatch

from dropdiag.plots.layout import begin, note
from dropdiag.plots.style import Look, Styles
from dropdiag.plots.words import percent, plain


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
        thin vertical line at 0 and a remark below say so; the curve does not contain them.
    """
    ax, styles = begin(ax, styles, curves)
    if bars is not None:
        _bars(ax, bars, styles)
    shares = curves.groupby("condition", sort=False)["point_mass"].first()
    zeros = {str(name): float(share) for name, share in shares.items() if share > 0.005}
    for name, part in curves.groupby("condition", sort=False):
        look = styles[str(name)]
        ax.plot(part["x"], part["density"], color=look.colour, linestyle=look.line, label=plain(str(name)))
        if name in zeros:
            ax.axvline(0.0, color=look.colour, linestyle=look.line, lw=0.8)
    tallest = 1.1 * curves["density"].max()
    if bars is not None and not zeros:  # the bar of exact zeros would press the curves down: it may reach out
        tallest = 1.05 * max(curves["density"].max(), bars["density"].max())
    ax.set(xlim=(curves["x"].min(), curves["x"].max()), ylim=(0.0, tallest or 1.0), xlabel=xlabel)
    if zeros:
        note(ax, "exact zeros: " + ", ".join(f"{plain(name, 18)} {percent(share)}" for name, share in zeros.items()))
    ax.locator_params(axis="both", nbins=5)
    return ax


def _bars(ax: Axes, bars: pd.DataFrame, styles: Mapping[str, Look]) -> None:
    # Laid over each other, filled bars mix to a colour that is nobody's: the more there are, the fainter.
    fill = 0.15 / bars["condition"].nunique()
    for name, part in bars.groupby("condition", sort=False):
        colour, edges = styles[str(name)].colour, [*part["left"], part["right"].iloc[-1]]
        patch = StepPatch(
            part["density"], edges, facecolor=to_rgba(colour, fill), edgecolor=to_rgba(colour, 0.6), lw=0.6
        )
        # not `Axes.stairs`, which measures every step as a curve to find limits that are set by hand here
        patch.set_clip_path(ax.patch)
        ax.add_artist(patch)
