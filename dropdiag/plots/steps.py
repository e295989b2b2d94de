"""Curves over training: a line a condition and a band over its seeds, and figures of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.plots.layout import absent, begin, finish, log_axis, note, panels, share_log_y
from dropdiag.plots.style import GREY, Look, Styles, styled
from dropdiag.plots.words import names_cut, percent, plain

PALE: Final = 0.4
"""Opacity of the mean of some of a condition's runs."""


class Part(NamedTuple):
    """What one panel shows: its curves, and the conditions that recorded the scalar, finite or not."""

    title: str
    lines: pd.DataFrame
    held: set[str]
    log: bool


def figure_over_steps(
    parts: Sequence[Part],
    styles: dict[str, Look],
    *,
    width: float = 3.0,
    label: str = "",
    shared: bool = False,
    ax: Axes | None = None,
    advice: str = "choose one layer with layers=[...]",
) -> Figure:
    """Figure with a panel of curves for each part.

    Parameters
    ----------
    parts : sequence of Part
    styles : dict of str to Look
        Conditions of the figure; a panel says which of them it does not show, and why.
    width : float
        Of a panel, in inches.
    label : str
        Y label of all panels.
    shared : bool
        Whether all have one log y axis; their means are then those of logarithms.
    ax, advice
        As in `dropdiag.plots.layout.panels`.

    Returns
    -------
    Figure
    """
    figure, axes = panels(len(parts), width=width, ax=ax, advice=advice)
    for part, one in zip(parts, axes, strict=True):
        over_steps(part.lines, ax=one, styles=styles, log=part.log)
        one.set_title(part.title)
        remarks(one, part, styles, logs=shared)
    if shared:
        share_log_y(axes)
    return finish(figure, axes, styles, label=label, ax=ax)


def remarks(ax: Axes, part: Part, styles: Mapping[str, Look], *, logs: bool) -> None:
    """Say below a panel which conditions it does not show, which means are of fewer runs, and what was left out.

    Parameters
    ----------
    ax : Axes
    part : Part
    styles : mapping of str to Look
        Conditions of the figure.
    logs : bool
        Whether the means are those of logarithms.
    """
    valued = part.lines[part.lines["value"].notna()]
    absent(ax, styles, drawn=set(valued["condition"]), held=part.held)
    told = names_cut(styles, 18)
    fewer = [f"{told[str(name)]} {_counts(rows)}" for name, rows in valued.groupby("condition", sort=False)
             if (rows["seeds"] < rows["runs"]).any()]  # fmt: skip
    if fewer:
        note(ax, "pale: " + "; ".join(fewer))
    groups = part.lines.groupby("condition", sort=False)[["dropped", "recorded"]].sum()
    lost = [f"{told[str(name)]} {percent(row.dropped / row.recorded)}" for name, row in groups.iterrows()
            if row.dropped and str(name) in set(valued["condition"])]  # fmt: skip
    if lost:
        note(ax, f"not finite{' or not positive' if logs else ''}: {', '.join(lost)}")


def _counts(rows: pd.DataFrame) -> str:
    """Say of how many runs the means are: ``"2 of 3 runs after step 500"``."""
    seeds, runs, steps = rows["seeds"].to_numpy(), int(rows["runs"].max()), rows["step"].to_numpy()
    changes = np.flatnonzero(np.diff(seeds))
    if changes.size == 1 and seeds[0] == runs:
        return f"{seeds[-1]} of {runs} runs after step {steps[changes[0]]:,.0f}"
    some = seeds[seeds < runs]
    few = f"{some.min()}" if some.min() == some.max() else f"{some.min()} to {some.max()}"
    return f"{few} of {runs} runs"


@styled
def over_steps(
    lines: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Styles = None,
    log: bool = False,
    empty: str = "no finite value",
) -> Axes:
    """Draw one scalar over training steps.

    Parameters
    ----------
    lines : DataFrame
        Rows of one layer or phase of the ``curves`` of `dropdiag.analysis.scalar`, ``gradient_flow`` or ``learning``:
        columns condition, step, value (NaN where there is none), low, high, and seeds and runs, where the mean may be
        of some runs alone.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    log : bool
        Log y axis.
    empty : str
        Written in a panel without any line.

    Returns
    -------
    Axes
        A line a condition, a mark where it has one step alone; a band where there are at least two seeds. Where the
        mean is of fewer runs than the condition has, both are pale; where their number changes, or there is no value,
        the line is broken, since a step between two means of different runs would look like one of training.
    """
    ax, styles = begin(ax, styles, lines)
    ax.set_yscale("log" if log else "linear")
    ax.set_xlabel("training step")
    valued = lines["value"].notna()
    if not valued.any():
        ax.text(0.5, 0.5, empty, transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_xticks([])
        return ax
    opacity = min(0.2, 0.9 / lines["condition"].nunique())  # many bands over each other would hide all
    for name, part in lines.groupby("condition", sort=False):
        look, label = styles[str(name)], plain(str(name))
        for piece, whole in _pieces(part):
            # one run alone has no band, and a line of one point is not seen
            band = piece[piece["low"].notna()]
            shade = opacity if whole else PALE * opacity
            ax.fill_between(band["step"], band["low"], band["high"], color=look.colour, alpha=shade, lw=0)
            alone = len(piece) == 1
            ax.plot(piece["step"], piece["value"], color=look.colour, linestyle=look.line, lw=1.4, label=label,
                    alpha=1.0 if whole else PALE, marker=look.marker if alone else "",
                    markersize=5.0 if whole else 3.0)  # fmt: skip
            label = f"_{label}"  # one name a condition in a legend
    ax.locator_params(axis="x", nbins=5)
    if log:
        log_axis(ax, "y")
    return ax


def _pieces(part: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, bool]]:
    """Yield stretches of means of equally many runs, those of all runs first, and whether they are of all."""
    valued = part["value"].notna().to_numpy()
    counted = "seeds" in part and "runs" in part
    seeds = part["seeds"].to_numpy() if counted else np.ones(len(part))
    whole = seeds >= part["runs"].to_numpy() if counted else np.ones(len(part), bool)
    number = np.cumsum(np.concatenate([[True], (seeds[1:] != seeds[:-1]) | (valued[1:] != valued[:-1])]))
    found = [(part[number == i], bool(whole[number == i].all())) for i in np.unique(number[valued])]
    yield from sorted(found, key=lambda piece: not piece[1])
