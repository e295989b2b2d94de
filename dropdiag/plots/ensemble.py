"""Weight scaling beside the geometric and the arithmetic mean over masks, and what masks add to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.ensemble import BIAS, KL, PHASE, REGULARISER, SCORES, means, per_run
from dropdiag.errors import NotRecordedError
from dropdiag.plots.ensemble_panels import SHARES, by_dropout, by_output, hollow
from dropdiag.plots.heat import height
from dropdiag.plots.layered import one_look
from dropdiag.plots.layout import MANY, finish, listed, note, panels
from dropdiag.plots.measured import by_mark, say_missing
from dropdiag.plots.style import Look, context
from dropdiag.plots.words import Conditions
from dropdiag.store.reader import Run, Runs

ADVICE: Final = "draw one with by_output() or by_dropout() of dropdiag.plots.ensemble_panels"
TITLES: Final[Mapping[str, str]] = {
    "nll": "NLL",
    "accuracy": "accuracy",
    "calibration_error": "calibration error",
    KL: "KL(mean ‖ weight scaling)",
    "predictive_entropy": "predictive entropy",
    "mutual_information": "mutual information",
    REGULARISER: "regulariser: what masks add to the loss",
}
ROWS: Final = 12
"""With more dropouts than this their rows are closer."""
TALLEST: Final = 8.5
"""Height of the panel at the foot, in inches: about a page at most."""


def ensemble(runs: Run | Runs, *, conditions: Conditions = None, phase: str = PHASE, ax: Axes | None = None) -> Figure:
    """Draw what `dropdiag.measure.ensemble` found in each run when it was measured last.

    With targets, NLL, accuracy and calibration error of the output without masks ("weight scaling") and of the
    geometric and the arithmetic mean over masks; then the divergence of both means from weight scaling, the predictive
    entropy, and the mutual information of output and mask. At the foot stands what masks add to the loss, all dropouts
    together and each alone.

    Parameters
    ----------
    runs : Run or Runs
    conditions : list of str, optional
        All, or these in this order. Those without an ensemble are named below the last panel.
    phase : str, default "ensemble"
        Of the measurement, where it was given another.
    ax : Axes, optional
        Draw there, in place of a figure of its own, where a single panel is enough.

    Returns
    -------
    Figure
        Marks are means over runs, bars their 95 % intervals, cut where the number cannot be (below 0, a share above 1);
        small points are runs. A hollow mark in the panel of KL is how much of it comes of the number of masks: where a
        mark is hardly above its hollow one, more masks are needed. "–" stands in place of a mean that is missing. With
        more than 32 rows of dropouts, lines without intervals take the place of marks.

    Raises
    ------
    ArgumentError
        For an unknown condition, or if ``ax`` is given and one panel is not enough.
    NotRecordedError
        If no run holds an ensemble, or none has a value.

    Examples
    --------
    >>> figure = dd.plots.ensemble(runs)
    """
    with context():
        looks = one_look(runs, conditions)
        found = per_run(runs, conditions=conditions, phase=phase)
        rows = means(runs, found)
        styles = {name: look for name, look in looks.items() if name in set(found["condition"])}
        names = _valued(found, phase)
        figure, axes = _grid(names, rows, len(styles), ax)
        for name, one in zip(names, axes, strict=True):
            _panel(name, rows, found, one, styles)
        if apart := [name for name in looks if name not in styles]:
            note(axes[-1], "no ensemble in " + listed(apart, looks))
        if lost := [title for name, title in TITLES.items() if name in set(found["quantity"]) - set(names)]:
            note(axes[-1], f"without a value in any run, as their warnings say: {', '.join(lost)}")
        above = axes[:-1] if len(axes) > 1 and names[-1] == REGULARISER else axes
        return finish(figure, above, styles, extra=hollow(rows[rows["quantity"] == BIAS]), ax=ax, marks=True)


def _valued(found: pd.DataFrame, phase: str) -> list[str]:
    """Return which panels have something to show."""
    held = set(found.loc[found["value"].notna(), "quantity"])
    names = [name for name in TITLES if name in held]
    if not names:
        raise NotRecordedError(
            f"all numbers of the ensemble in the phase {phase!r} are missing; the runs' warnings say why "
            f"(`run.meta['warnings']`)"
        )
    return names


def _grid(names: list[str], rows: pd.DataFrame, conditions: int, ax: Axes | None) -> tuple[Figure, list[Axes]]:
    """Figure with equal panels, and one at the foot for the regulariser with a row for each dropout."""
    count = rows.loc[rows["quantity"] == REGULARISER, "layer"].nunique()
    row = max((0.17 if count <= ROWS else 0.11) * conditions, 0.24)
    tall = height(count) if count > MANY else min(0.85 + count * row, TALLEST)
    if len(names) == 1:
        return panels(1, width=5.0, height=max(tall, 2.35) if names == [REGULARISER] else 2.35, ax=ax, advice=ADVICE)
    above = [name for name in names if name != REGULARISER]
    return panels(len(above), width=3.4, below=tall if REGULARISER in names else 0.0, across=min(len(above), 3), ax=ax,
                  advice=ADVICE)  # fmt: skip


def _panel(name: str, rows: pd.DataFrame, found: pd.DataFrame, ax: Axes, styles: Mapping[str, Look]) -> None:
    mean, values = rows[rows["quantity"] == name], found[found["quantity"] == name]
    if name == REGULARISER:
        by_dropout(mean, values, ax=ax, styles=styles)
    elif name in (*SCORES, KL):
        by_output(mean, values, ax=ax, styles=styles, bias=rows[rows["quantity"] == BIAS] if name == KL else None)
    else:
        by_mark(mean, values, ax=ax, styles=styles)
    ax.set_title(TITLES[name])
    if name != REGULARISER:
        ax.set_ylabel(SHARES.get(name, "nats per case"))
    say_missing(ax, mean, styles, list(values["condition"]))
