"""Figure 2: the correlation between the nodes of each layer, with what chance alone gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dropdiag.analysis.correlation import SUPPORT, null_limit, table_of
from dropdiag.analysis.select import SITE
from dropdiag.plots.layered import Densities, by_site, choose, densities, finish_densities
from dropdiag.plots.layout import own_axes
from dropdiag.plots.style import GREY, context, styled
from dropdiag.plots.words import Conditions, Layers
from dropdiag.store.reader import Run, Runs

NULL_COLOUR = "#BDBDBD"
NULL_LINE = "#FF7F9E"


def correlation(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
    ax: Axes | None = None,
) -> Figure:
    """Draw the distribution of Pearson's r over the pairs of nodes of each layer (Figure 2).

    The grey band holds 95 % of the pairs when each node's values are shuffled over the samples (column
    permutation): what a finite number of samples gives without any dependence. The x axis is [-1, 1]; curves
    are reflected there.

    Parameters
    ----------
    runs, layers, conditions, bandwidth
        As in `dropdiag.plots.weights`.
    phase : str, optional
        One for all runs: None is ``"eval"`` if any of them has it, else the only held-out phase, else
        ``"train"``. Runs that lack it are left out, with a warning.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one layer.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. With more than 32 layers a map for each condition stands in place of a panel
        for each layer.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`; also where the phase is not clear.

    Notes
    -----
    Measured in evaluation mode, where no dropout mask lowers r. Constant nodes have no r and are left out. The pairs of
    m nodes are not independent: the bandwidth takes them for fewer values (`dropdiag.analysis.bandwidth.behind_pairs`).

    Examples
    --------
    >>> figure = dd.plots.correlation(runs, layers=["act2"])
    >>> [ax.get_title() for ax in figure.axes]
    ['act2']
    """
    with context():
        drawn = choose(runs, "node_correlation", layers=layers, conditions=conditions, phase=phase)
        made = densities(drawn, bandwidth=bandwidth, support=SUPPORT, limits=SUPPORT, ax=ax)
        counts = table_of(runs, drawn.frame)
        for one in made.axes:
            one.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
        for site, one in made.by_site.items():
            null_band(by_site(counts)[site], ax=one)
        if made.by_site:
            band: Patch | Line2D = Patch(color=NULL_COLOUR, label="95 % of $r$ under permutation")
        else:
            _null_lines(made, counts)
            band = Line2D([], [], color=NULL_LINE, lw=1.0, label="95 % of $r$ under permutation lie between")
        return finish_densities(made, drawn, ax=ax, extra=[band])


def _null_lines(made: Densities, counts: pd.DataFrame) -> None:
    """Draw in maps the limits that hold 95 % of r under permutation, row by row."""
    samples = counts.groupby(SITE, sort=False)["samples"].min()
    limits = np.array([null_limit(float(samples.get(site, np.nan))) for site in made.rows])
    edges = np.arange(len(limits) + 1) - 0.5
    for one in made.axes:
        for sign in (-1.0, 1.0):
            one.stairs(sign * limits, edges, orientation="horizontal", baseline=None, color=NULL_LINE, lw=1.0)


@styled
def null_band(counts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the band that holds 95 % of r under column permutation.

    Parameters
    ----------
    counts : DataFrame
        Rows of one layer of `dropdiag.analysis.correlation.table`; the fewest samples count.
    ax : Axes, optional

    Returns
    -------
    Axes
        With nothing added where the number of samples is not known.
    """
    ax = own_axes(ax)
    limit = null_limit(float(counts["samples"].min()))
    if np.isfinite(limit):
        ax.axvspan(-limit, limit, color=NULL_COLOUR, alpha=0.65, lw=0, zorder=0)
        ax.text(limit + 0.03, 0.985, f"±{limit:.2g}", transform=ax.get_xaxis_transform(), fontsize=7.5,
                va="top", color=GREY)  # fmt: skip
        # room for the number above the curves
        ax.set_ylim(top=1.12 * ax.get_ylim()[1])
    return ax
