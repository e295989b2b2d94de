"""Learning curves: the scalars of the whole network over training steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from dropdiag.analysis.learning import curves
from dropdiag.analysis.learning import quantities as given
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import one_look
from dropdiag.plots.layout import absent, legend, make_room, panels
from dropdiag.plots.steps import over_steps
from dropdiag.plots.style import Panels, context
from dropdiag.plots.words import plain
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
        styles = one_look(runs, conditions)
        recorded = _recorded(runs, quantities, list(styles))
        parts = [part for name, rows in recorded for part in _parts(runs, name, rows, list(styles))]
        if all(part.lines.empty for part in parts):
            names = " or ".join(repr(name) for name in dict.fromkeys(part.quantity for part in parts))
            raise NotRecordedError(f"not one value of {names} is finite: there is nothing to draw")
        figure, axes = panels(len(parts), width=3.4)
        for part, ax in zip(parts, axes, strict=True):
            over_steps(part.lines, ax=ax, styles=styles, log=part.log)
            ax.set_title(plain(part.title))
            absent(ax, styles, drawn=set(part.lines["condition"]), held=part.held)
        make_room(figure, axes)
        legend(figure, styles)
    return figure


@dataclass(frozen=True)
class _Part:
    """What one panel shows, and the conditions that recorded it, finite or not."""

    quantity: str
    title: str
    lines: pd.DataFrame
    held: set[str]
    log: bool


def _recorded(
    runs: Run | Runs, quantities: Sequence[str] | None, conditions: list[str]
) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each quantity asked for, or of the usual ones that there are."""
    wanted = [quantities] if isinstance(quantities, str) else list(quantities or USUAL)
    rows = as_runs(runs).select(wanted, condition=conditions, layer=[None])
    found = [(name, rows[rows["quantity"] == name]) for name in wanted]
    if quantities is not None:
        return found
    if rows.empty:
        raise NotRecordedError(
            f"no run holds {' or '.join(map(repr, USUAL))}; give them to step() or log(), "
            f"or ask for one of {', '.join(given(runs)) or 'none recorded'}"
        )
    return [(name, part) for name, part in found if len(part)]


def _parts(runs: Run | Runs, name: str, rows: pd.DataFrame, conditions: list[str]) -> list[_Part]:
    """Panels of a quantity: one a phase in which it was recorded."""
    lines, parts = curves(runs, name, conditions=conditions), []
    for phase, held in rows.groupby("phase", sort=False)["condition"]:
        title = f"{name.replace('_', ' ')}, {PHASES.get(str(phase), str(phase))}"
        part = lines[lines["phase"] == phase]
        log = name.endswith("loss") and bool(part["value"].max() > 10.0 * part["value"].min() > 0.0)
        if log:  # a band of a standard deviation may reach to 0, which a log axis does not
            part = part.assign(low=part["low"].clip(lower=0.2 * part["value"]))
        parts.append(_Part(name, title, part, set(held), log))
    return parts
