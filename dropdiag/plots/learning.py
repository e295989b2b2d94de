"""Learning curves: the scalars of the whole network over training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from dropdiag.analysis.learning import curves
from dropdiag.analysis.learning import quantities as given
from dropdiag.analysis.select import scalars
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import absent, one_look
from dropdiag.plots.style import Look, Panels, context, legend, looks, own_axes, panels, plain
from dropdiag.store.reader import Run, Runs, as_runs

USUAL: Final = ("loss", "test_loss", "accuracy")
PHASES: Final = {"train": "training", "eval": "held out"}


def learning(
    runs: Run | Runs, quantities: Sequence[str] | None = None, *, conditions: list[str] | None = None
) -> Panels:
    """Draw loss, accuracy or any scalar of the network over training, a panel a quantity and phase.

    Parameters
    ----------
    runs : Run or Runs
    quantities : sequence of str, optional
        Names given to ``step`` or ``log``; by default ``"loss"``, ``"test_loss"`` and
        ``"accuracy"``, as far as recorded.
    conditions : list of str, optional
        All, or these in this order.

    Returns
    -------
    Panels
        A matplotlib Figure. Line: mean over seeds; band: one standard deviation over seeds.

    Raises
    ------
    ArgumentError
        For an unknown condition.
    NotRecordedError
        If a quantity asked for, or all of the usual ones, were not recorded; or if none has a finite value.
    """
    with context():
        styles = one_look(runs, None)
        chosen = one_look(runs, conditions)
        parts = [part for name in _names(runs, quantities) for part in _parts(runs, name, list(chosen))]
        if all(part.lines.empty for part in parts):
            names = " or ".join(repr(name) for name in dict.fromkeys(part.quantity for part in parts))
            raise NotRecordedError(f"not one value of {names} is finite: there is nothing to draw")
        figure, axes = panels(len(parts), width=3.4)
        for part, ax in zip(parts, axes, strict=True):
            over_steps(part.lines, ax=ax, styles=styles, log=part.quantity.endswith("loss"))
            ax.set_title(plain(part.title))
            absent(ax, chosen, drawn=set(part.lines["condition"]), held=part.held)
        legend(figure, chosen)
    return figure


@dataclass(frozen=True)
class _Part:
    """What one panel shows, and the conditions that recorded it, finite or not."""

    quantity: str
    title: str
    lines: pd.DataFrame
    held: set[str]


def _parts(runs: Run | Runs, name: str, conditions: list[str]) -> list[_Part]:
    """Panels of a quantity: one a phase in which it was recorded."""
    frame = curves(runs, name, conditions=conditions)
    rows = scalars(runs, name, conditions=conditions)
    rows = rows[rows["layer"].isna()]
    return [
        _Part(
            name,
            f"{name.replace('_', ' ')}, {PHASES.get(str(phase), str(phase))}",
            frame[frame["phase"] == phase],
            set(held),
        )
        for phase, held in rows.groupby("phase", sort=False)["condition"]
    ]


def over_steps(
    lines: pd.DataFrame,
    *,
    ax: Axes | None = None,
    styles: Mapping[str, Look] | None = None,
    log: bool = False,
) -> Axes:
    """Draw one scalar over training steps.

    Parameters
    ----------
    lines : DataFrame
        Rows of one phase of `dropdiag.analysis.learning.curves`.
    ax : Axes, optional
    styles : mapping of str to Look, optional
    log : bool
        Log y axis, where all values are positive and span more than a decade.

    Returns
    -------
    Axes
    """
    ax = own_axes(ax)
    styles = styles or looks(lines["condition"].unique())
    if lines.empty:
        ax.set(xlabel="training step", xticks=[], yticks=[])
        return ax
    least, most = float(lines["value"].min()), float(lines["value"].max())
    logarithmic = log and most > 10.0 * least > 0.0
    for name, part in lines.groupby("condition", sort=False):
        look = styles[str(name)]
        band = part[part["low"].notna()]
        low = band["low"].clip(lower=0.2 * band["value"]) if logarithmic else band["low"]
        ax.fill_between(band["step"], low, band["high"], color=look.colour, alpha=0.2, lw=0)
        mark = look.marker if len(part) == 1 else ""
        ax.plot(
            part["step"], part["value"], color=look.colour, ls=look.line, marker=mark, lw=1.4, label=plain(str(name))
        )
    ax.set_yscale("log" if logarithmic else "linear")
    ax.set_xlabel("training step")
    ax.locator_params(axis="x", nbins=5)
    return ax


def _names(runs: Run | Runs, quantities: Sequence[str] | None) -> list[str]:
    if quantities is not None:
        return [quantities] if isinstance(quantities, str) else list(quantities)
    known = set(as_runs(runs).select(USUAL, layer=[None])["quantity"])
    found = [name for name in USUAL if name in known]
    if not found:
        raise NotRecordedError(
            f"no run holds {' or '.join(map(repr, USUAL))}; give them to step() or log(), "
            f"or ask for one of {', '.join(given(runs)) or 'none recorded'}"
        )
    return found
