"""How the loss and the accuracy of each condition bear noise on the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.measured_curves import over_seeds, per_run, rise_from_zero
from dropdiag.plots.layered import one_look
from dropdiag.plots.layout import finish, panels
from dropdiag.plots.measured import over_x, say_missing
from dropdiag.plots.style import context
from dropdiag.plots.words import Conditions
from dropdiag.store.reader import Run, Runs

LOSS: Final = "noisy_loss"
RISE: Final = "rise"
TITLES: Final[Mapping[str, str]] = {
    LOSS: "loss under noise on the inputs",
    RISE: "what noise adds to the loss",
    "noisy_accuracy": "accuracy under noise on the inputs",
}
ADVICE: Final = "draw one with over_x() of dropdiag.plots.measured"


def robustness(
    runs: Run | Runs, *, conditions: Conditions = None, phase: str = "robustness", ax: Axes | None = None
) -> Figure:
    """Draw what `dropdiag.measure.robustness` found in each run when it was measured last.

    Parameters
    ----------
    runs : Run or Runs
    conditions : list of str, optional
        All, or these in this order.
    phase : str, default "robustness"
        Of the measurement, where it was given another.
    ax : Axes, optional
        Refused, for this figure has several panels: `over_x` of `dropdiag.plots.measured` draws one.

    Returns
    -------
    Figure
        Panels for the loss, for what noise adds to that of each run, and for the accuracy, where it was recorded, over
        the standard deviation of the noise. Lines are means over runs, bands their 95 % intervals.

    Raises
    ------
    ArgumentError
        For an unknown condition, or if ``ax`` is given.
    NotRecordedError
        If no run holds either.

    Examples
    --------
    >>> figure = dd.plots.robustness(runs)
    """
    with context():
        styles = one_look(runs, conditions)
        found = per_run(runs, [name for name in TITLES if name != RISE], phase=phase, conditions=conditions)
        parts = dict(iter(found.groupby("quantity", sort=False)))
        if LOSS in parts:
            parts[RISE] = rise_from_zero(parts[LOSS])
        names = [name for name in TITLES if name in parts]
        figure, axes = panels(len(names), width=3.4, ax=ax, advice=ADVICE)
        for name, one in zip(names, axes, strict=True):
            rows = over_seeds(parts[name], ["x"])
            over_x(rows, ax=one, styles=styles, xlabel="sd of the noise, in sds of the inputs")
            one.set_title(TITLES[name])
            say_missing(one, rows, styles, list(parts[name]["condition"]))
        return finish(figure, axes, styles, ax=ax, marks=True)
