"""Whether mini-batches agree on where to go: direction and noise of their gradients over training."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from dropdiag.analysis.scalar import binned
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import one_look
from dropdiag.plots.layout import finish, log_axis, panels
from dropdiag.plots.steps import Part, over_steps, remarks
from dropdiag.plots.style import context
from dropdiag.plots.words import Conditions
from dropdiag.store.reader import Run, Runs

QUANTITIES: Final = {
    "gradient_direction_variance": ("Variance of direction", r"mean $(1-\cos)/2$", False),
    "gradient_direction_error": ("Error of direction", r"mean $(1-\cos)/2$", False),
    "gradient_noise_scale": ("Noise scale", r"$\mathrm{tr}\,\Sigma/|G|^2$ (samples)", True),
}
SWITCHES: Final = {"masks_on": "masks on", "masks_off": "masks off"}
ADVICE: Final = "draw one quantity with dropdiag.plots.scalar"
EARLY: Final = 30.0
"""Last over first step after 0, above which the axis of steps is logarithmic."""


def gradient_direction(
    runs: Run | Runs, *, conditions: Conditions = None, phase: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw variance and error of the gradient's direction and the noise scale over training, masks on and off.

    Above, with masks on, as in training with dropout; below, with masks off: the same weights and mini-batches. A
    network without dropout has no curve above. The two panels of a quantity have one y axis, which for the noise scale
    is logarithmic; lines are means over seeds (geometric there), bands one standard deviation. The axis of steps is
    logarithmic where measurements are spread so, as what is claimed is about the first steps.

    Parameters
    ----------
    runs : Run or Runs
        In which ``rec.measure("gradient_direction", ...)`` was called.
    conditions : list of str, optional
        All, or these in this order.
    phase : str, optional
        Of the measurement, where it is not "gradient_direction".
    ax : Axes, optional
        Refused, as there are several panels.

    Returns
    -------
    Figure

    Raises
    ------
    ArgumentError
        For an unknown condition, or where ``ax`` is given.
    NotRecordedError
        If no run holds the measurement.

    Notes
    -----
    To ask whether dropout makes training steps agree, compare "masks on" of the one condition with "masks off" of the
    other: those are the gradients that each is trained with. Compare at one size of mini-batches only.

    Examples
    --------
    >>> figure = dd.plots.gradient_direction(runs)
    """
    with context():
        styles = one_look(runs, conditions)
        parts = [_part(runs, quantity, switch, conditions, phase) for switch in SWITCHES for quantity in QUANTITIES]
        if all(part.lines["value"].isna().all() for part in parts):
            raise NotRecordedError("no value of gradient_direction is finite; give rec.measure a larger batch")
        figure, axes = panels(len(parts), across=len(QUANTITIES), ax=ax, advice=ADVICE)
        steps = np.concatenate([part.lines["step"].to_numpy() for part in parts])
        for part, one, (_, label, log) in zip(parts, axes, [*QUANTITIES.values()] * len(SWITCHES), strict=True):
            over_steps(part.lines, ax=one, styles=styles, log=log)
            _early(one, steps)
            one.set(title=part.title, ylabel=label)
            remarks(one, part, styles, logs=log)
        for column in range(len(QUANTITIES)):
            _share(axes[column], axes[column + len(QUANTITIES)])
        return finish(figure, axes, styles, ax=ax)


def _part(runs: Run | Runs, quantity: str, switch: str, conditions: Conditions, phase: str | None) -> Part:
    title, _, log = QUANTITIES[quantity]
    lines = binned(runs, f"{quantity}_{switch}", conditions=conditions, phase=phase, log=log)
    return Part(f"{title}, {SWITCHES[switch]}", lines, set(lines["condition"]), log)


def _early(ax: Axes, steps: np.ndarray) -> None:
    """Make the axis of steps logarithmic after the first step that was measured, where the steps ask for it."""
    later = steps[steps > 0]
    if later.size and ax.get_xticks().size and later.max() > EARLY * later.min():
        first, last = float(later.min()), float(later.max())
        ax.set_xscale("symlog", linthresh=first, linscale=0.5)
        decades = np.arange(np.ceil(np.log10(first)), np.floor(np.log10(last)) + 1)
        ax.set_xticks([0.0, *10.0**decades])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(0.0, last * 1.1)


def _share(above: Axes, below: Axes) -> None:
    """Give two panels the limits that hold what both show."""
    shown = [ax for ax in (above, below) if ax.lines]
    if not shown:
        return
    low, high = (
        f(limit) for f, limit in zip((min, max), zip(*(ax.get_ylim() for ax in shown), strict=True), strict=True)
    )
    for ax in shown:
        ax.set_ylim(low, high)
        if ax.get_yscale() == "log":
            log_axis(ax, "y")
