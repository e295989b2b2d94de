"""How flat the loss is around the weights that each condition found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.measured_curves import over_seeds, per_run
from dropdiag.plots.layered import one_look
from dropdiag.plots.layout import finish, panels
from dropdiag.plots.measured import by_mark, over_x, say_missing
from dropdiag.plots.style import context
from dropdiag.plots.words import Conditions
from dropdiag.store.reader import Run, Runs

RISE: Final = "loss_rise"
NUMBERS: Final[Mapping[str, str]] = {
    "hessian_eigenvalue": "largest eigenvalue of the Hessian",
    "hessian_trace": "trace of the Hessian",
    "relative_flatness": "relative flatness",
    "sam_sharpness": "SAM sharpness",
}
ADVICE: Final = "draw one with over_x() or by_mark() of dropdiag.plots.measured"


def flatness(
    runs: Run | Runs, *, conditions: Conditions = None, phase: str = "flatness", ax: Axes | None = None
) -> Figure:
    """Draw what `dropdiag.measure.flatness` found in each run when it was measured last.

    The first panel has the rise of the loss over the size of steps along filter-normalised directions; then come, as
    far as they were recorded, the largest eigenvalue and the trace of the Hessian, the relative flatness (the less, the
    flatter, as of all of them) and the SAM sharpness.

    Parameters
    ----------
    runs : Run or Runs
    conditions : list of str, optional
        All, or these in this order.
    phase : str, default "flatness"
        Of the measurement, where it was given another.
    ax : Axes, optional
        Draw there, in place of a figure of its own, where a single panel is enough.

    Returns
    -------
    Figure
        Lines and marks are means over runs, bands and bars their 95 % intervals; small points are runs.

    Raises
    ------
    ArgumentError
        For an unknown condition, or if ``ax`` is given and one panel is not enough.
    NotRecordedError
        If no run holds any of them.

    Examples
    --------
    >>> figure = dd.plots.flatness(runs)
    """
    with context():
        styles = one_look(runs, conditions)
        found = per_run(runs, [RISE, *NUMBERS], phase=phase, conditions=conditions)
        # of eigenvalues the first is the largest
        found = found[(found["quantity"] != "hessian_eigenvalue") | (found["x"] == 1.0)]
        parts = dict(iter(found.groupby("quantity", sort=False)))
        names = [name for name in (RISE, *NUMBERS) if name in parts]
        figure, axes = panels(len(names), width=3.2, across=min(len(names), 3), ax=ax, advice=ADVICE)
        for name, one in zip(names, axes, strict=True):
            rows = over_seeds(parts[name])
            if name == RISE:
                over_x(rows, ax=one, styles=styles, xlabel="step, in lengths of each row of weights")
                one.set_title("rise of the loss")
            else:
                by_mark(rows, parts[name], ax=one, styles=styles)
                one.set_title(NUMBERS[name])
            say_missing(one, rows, styles, list(parts[name]["condition"]))
        return finish(figure, axes, styles, ax=ax, marks=True)
