"""Learning curves: the scalars of the whole network over training steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.learning import binned
from dropdiag.analysis.learning import quantities as given
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import one_look
from dropdiag.plots.steps import Part, figure_over_steps
from dropdiag.plots.style import context
from dropdiag.plots.words import Conditions, plain
from dropdiag.store.reader import Run, Runs, as_runs

USUAL: Final = ("loss", "test_loss", "accuracy")
PHASES: Final = {"train": "training", "eval": "held out"}


def learning(
    runs: Run | Runs,
    quantities: Sequence[str] | None = None,
    *,
    conditions: Conditions = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw loss, accuracy or any scalar of the network over training, a panel a quantity and phase.

    Parameters
    ----------
    runs : Run or Runs
    quantities : sequence of str, optional
        Names given to ``step`` or ``log``; by default ``"loss"``, ``"test_loss"`` and
        ``"accuracy"``, as far as recorded.
    conditions : list of str, optional
        All, or these in this order.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one quantity that was recorded in one phase.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. Line: mean over seeds; band: one standard deviation over seeds. Where the
        mean is of some of a condition's runs, as after one has ended, both are pale.

    Raises
    ------
    ArgumentError
        For an unknown condition, or if ``ax`` is given and one panel is not enough.
    NotRecordedError
        If a quantity asked for, or all of the usual ones, were not recorded; or if none has a finite value.

    Examples
    --------
    >>> figure = dd.plots.learning(runs, ["loss", "accuracy"])
    """
    with context():
        styles = one_look(runs, conditions)
        found = _recorded(runs, quantities, list(styles))
        parts = [part for name, rows in found for part in _parts(runs, name, rows, list(styles))]
        if all(part.lines["value"].isna().all() for part in parts):
            names = " or ".join(map(repr, dict(found)))
            raise NotRecordedError(f"not one value of {names} is finite: there is nothing to draw")
        return figure_over_steps(parts, styles, width=3.4, ax=ax, advice="choose one quantity, such as ['loss']")


def _recorded(
    runs: Run | Runs, quantities: Sequence[str] | None, conditions: list[str]
) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each quantity asked for, or of the usual ones that there are."""
    wanted = [quantities] if isinstance(quantities, str) else list(quantities or USUAL)
    rows = as_runs(runs).select(wanted, condition=conditions, layer=[None], missing_ok=True)
    if quantities is None and rows.empty:
        raise NotRecordedError(
            f"no run holds {' or '.join(map(repr, USUAL))}; give them to step() or log(), "
            f"or ask for one of {', '.join(given(runs)) or 'none recorded'}"
        )
    found = [(name, rows[rows["quantity"] == name]) for name in wanted]
    # one asked for that no run holds is kept: its curves say what is wrong
    return [(name, part) for name, part in found if len(part) or quantities is not None]


def _parts(runs: Run | Runs, name: str, rows: pd.DataFrame, conditions: list[str]) -> Iterator[Part]:
    """Panels of a quantity: one a phase in which it was recorded."""
    lines = binned(runs, name, conditions=conditions)
    for phase, held in rows.groupby("phase", sort=False)["condition"]:
        part = lines[lines["phase"] == phase]
        log = name.endswith("loss") and bool(part["value"].max() > 10.0 * part["value"].min() > 0.0)
        if log:  # a band of a standard deviation may reach to 0, which a log axis does not
            part = part.assign(low=part["low"].clip(lower=0.2 * part["value"]))
        title = plain(f"{name.replace('_', ' ')}, {PHASES.get(str(phase), phase)}")
        yield Part(title, part, set(held), log)
