"""Panels of the ensemble of masks: weight scaling beside means over masks, and what masks add to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dropdiag.analysis.ensemble import ALONE, KL, OUTPUTS
from dropdiag.plots.heat import name_rows, profile
from dropdiag.plots.layered import sites
from dropdiag.plots.layout import MANY, begin, log_axis
from dropdiag.plots.style import GREY, Look, Styles, styled
from dropdiag.plots.words import plain, site_titles

CALLED: Final = {"weight_scaled": "weight\nscaling", "geometric": "geometric\nmean", "arithmetic": "arithmetic\nmean"}
SHARES: Final = {"accuracy": "share of cases", "calibration_error": "|accuracy − confidence|"}
"""What is no number of nats, and ends at 1."""
TOGETHER: Final = {ALONE: "all together"}
DECADES: Final = (10.0, 1e6)
"""Greatest by least value from which KL has a log axis, and up to which: beyond, the least is rounding."""
WIDTH: Final = 0.8
"""Part of the room of an output, or a dropout, that the conditions share."""


@styled
def by_output(
    means: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
    bias: pd.DataFrame | None = None,
) -> Axes:
    """Draw one number of weight scaling and of the means over masks side by side.

    Parameters
    ----------
    means : DataFrame
        Rows of one score, or of "ensemble_kl", of `dropdiag.analysis.ensemble.table`.
    runs : DataFrame
        Those of `dropdiag.analysis.ensemble.per_run` that they are the means of.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    bias : DataFrame, optional
        Rows of "ensemble_kl_bias" of `dropdiag.analysis.ensemble.table`: a hollow mark each, but for 0 (all masks).

    Returns
    -------
    Axes
        A divergence whose means and runs are more than a decade apart has a log axis; "–" stands in place of a mean
        that is missing.
    """
    ax, styles = begin(ax, styles, means)
    name, shown = str(means["quantity"].iloc[0]), [of for of in OUTPUTS if of in set(means["output"])]
    place, some = {of: i for i, of in enumerate(shown)}, biases(bias)
    for one, shift in _shifts(styles).items():
        parts = (frame[frame["condition"] == one] for frame in (means, runs, some))
        mean, own, hollow = (part.assign(x=part["output"].map(place).astype(float) + shift) for part in parts)
        if len(mean):
            own["x"] += 0.3 * WIDTH / len(styles)
            _condition(ax, mean, own, styles[one], top=1.0 if name in SHARES else np.inf)
        ax.plot(hollow["x"], hollow["value"], styles[one].marker, color=styles[one].colour, mfc="none", ms=4.5)
    ax.set_xlim(-0.6, len(shown) - 0.4)
    ax.set_xticks(range(len(shown)), [CALLED[of] for of in shown])
    _scale(ax, name, pd.concat([means["value"], runs["value"]]).dropna(), some["value"])
    return ax


def _shifts(styles: Mapping[str, Look]) -> dict[str, float]:
    """Where the marks of each condition stand beside the middle."""
    slot = WIDTH / len(styles)
    return {name: (i - (len(styles) - 1) / 2) * slot for i, name in enumerate(styles)}


def _condition(ax: Axes, means: pd.DataFrame, runs: pd.DataFrame, look: Look, top: float) -> None:
    """Draw the marks of one condition, a thin line from one output to the next, and its runs beside them."""
    rows, label = means.sort_values("x"), plain(str(means["condition"].iloc[0]))
    for x in rows.loc[rows["value"].isna(), "x"]:
        ax.text(x, 0.03, "–", transform=ax.get_xaxis_transform(), ha="center", color=look.colour)
    ax.vlines(rows["x"], rows["low"].clip(lower=0.0), rows["high"].clip(upper=top), color=look.colour, lw=1.3)
    ax.plot(rows["x"], rows["value"], color=look.colour, linestyle=look.line, marker=look.marker, ms=5.0, lw=0.7,
            zorder=4, label=label)  # fmt: skip
    ax.plot(runs["x"], runs["value"], ".", color=look.colour, ms=3.5, alpha=0.6)


def _scale(ax: Axes, name: str, values: pd.Series[float], some: pd.Series[float]) -> None:
    """Give KL a log axis where its values ask for it; let distances from 0 begin there."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    if name == KL and low > 0.0 and DECADES[0] < high / low < DECADES[1]:
        ax.set_yscale("log")
        # an interval may reach down to 0, where the axis does not
        ax.set_ylim(bottom=min([low, *some[some > 0.0]]) / 1.6)
        log_axis(ax, "y")
        return
    if name in (KL, "calibration_error"):
        ax.axhline(0.0, color=GREY, lw=0.6, zorder=0)
    ax.locator_params(axis="y", nbins=5)


def biases(rows: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the bias of KL where there is one: not of ensembles of all masks."""
    if rows is None:
        return pd.DataFrame({"condition": [], "output": [], "value": []})
    return rows[rows["value"].notna() & (rows["value"] != 0.0)]


def hollow(rows: pd.DataFrame) -> list[Line2D]:
    """Entry of the legend for the marks of the bias, where there are any."""
    label = "part of KL due to few masks"
    mark = Line2D([], [], color=GREY, marker="o", mfc="none", ms=4.5, ls="none", label=label)
    return [] if biases(rows).empty else [mark]


@styled
def by_dropout(means: pd.DataFrame, runs: pd.DataFrame, *, ax: Axes | None = None, styles: Styles = None) -> Axes:
    """Draw what masks add to the loss, a row for all dropouts together and one for each alone.

    Parameters
    ----------
    means : DataFrame
        Rows of "regulariser" of `dropdiag.analysis.ensemble.table`.
    runs : DataFrame
        Those of `dropdiag.analysis.ensemble.per_run` that they are the means of.
    ax : Axes, optional
    styles : mapping of str to Look, optional

    Returns
    -------
    Axes
        Of more than 32 rows, a line a condition over them; "–" stands in place of a mean that is missing.
    """
    ax, styles = begin(ax, styles, means)
    known = sites(means)
    ax.axvline(0.0, color=GREY, lw=0.6, zorder=0)
    ax.set_xlabel("loss units")
    if len(known) > MANY:
        name_rows(ax, known, TOGETHER)
        profile(ax, known, means, "value", styles)
        return ax
    place = {layer: i for i, (layer, _) in enumerate(known)}
    for name, shift in _shifts(styles).items():
        parts = (frame[frame["condition"] == name] for frame in (means, runs))
        mean, own = (part.assign(y=part["layer"].map(place).astype(float) + shift) for part in parts)
        own["y"] += 0.45 * WIDTH / len(styles)
        _row_marks(ax, mean, own, styles[name], plain(name))
    ax.hlines(np.arange(1, len(known)) - 0.5, 0.0, 1.0, transform=ax.get_yaxis_transform(), color="#DDDDDD", lw=0.7)
    ax.set_ylim(len(known) - 0.4, -0.6)
    ax.set_yticks(range(len(known)), list(site_titles(known, TOGETHER, width=22).values()))
    return ax


def _row_marks(ax: Axes, means: pd.DataFrame, runs: pd.DataFrame, look: Look, label: str) -> None:
    for y in means.loc[means["value"].isna(), "y"]:
        ax.text(0.01, y, "–", transform=ax.get_yaxis_transform(), va="center", color=look.colour)
    ax.hlines(means["y"], means["low"], means["high"], color=look.colour, lw=1.3)
    ax.plot(means["value"], means["y"], look.marker, color=look.colour, ms=5.0, zorder=4, label=label)
    ax.plot(runs["value"], runs["y"], ".", color=look.colour, ms=3.5, alpha=0.6)
