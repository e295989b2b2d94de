"""Figure 2: the correlation between the nodes of each layer, with what chance alone gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from dropdiag.analysis.correlation import SUPPORT, null_limit, table_of
from dropdiag.plots.layered import by_site, choose, densities
from dropdiag.plots.layout import finish, own_axes
from dropdiag.plots.style import GREY, Panels, context
from dropdiag.plots.words import Conditions, Layers
from dropdiag.store.reader import Run, Runs

NULL_COLOUR = "#BDBDBD"


def correlation(
    runs: Run | Runs,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
) -> Panels:
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

    Returns
    -------
    Panels
        A matplotlib Figure.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.plots.weights`; also where the phase is not clear.

    Notes
    -----
    Measured in evaluation mode, where no dropout mask lowers r. Constant nodes have no r and are left out.
    """
    with context():
        drawn = choose(runs, "node_correlation", layers=layers, conditions=conditions, phase=phase)
        figure, axes, _ = densities(drawn, bandwidth=bandwidth, support=SUPPORT, limits=SUPPORT)
        counts = by_site(table_of(runs, drawn.frame))
        for site, ax in axes.items():
            null_band(counts[site], ax=ax)
            ax.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
        band = Patch(color=NULL_COLOUR, label="95 % of $r$ under permutation")
        return finish(figure, list(axes.values()), drawn.styles, label="density", extra=[band])


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
