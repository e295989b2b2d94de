"""Dose and response: each quantity of each layer against the rate, or any other number that runs differ by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from dropdiag.analysis.compare.measures import is_accuracy, less_is_better
from dropdiag.analysis.dose_response.choice import Choice, choice
from dropdiag.analysis.dose_response.held_out import scalar_phases
from dropdiag.analysis.dose_response.lines import line_of, means_of, points_of
from dropdiag.analysis.dose_response.responses import Response, Responses, responses
from dropdiag.errors import NotRecordedError
from dropdiag.plots.layered import described
from dropdiag.plots.layout import finish, log_axis, note, own_axes, panels
from dropdiag.plots.style import COLOURS, GREY, RC, context, styled
from dropdiag.plots.words import Layers, axis_label, in_lines, layer_names, plain, site_titles, width
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import base_and_x, quantity_of

USUAL: Final = ("gradient_flow", "saturation_share", "net_variance_mean")
LABELS: Final = {"saturation_share": "saturation share"}
MEAN, TREND, SET = COLOURS[0], COLOURS[0], COLOURS[2]
WIDE: Final = 10.0
"""Factor between the least and the greatest value beyond which a y axis is logarithmic."""


@dataclass(frozen=True, eq=False)
class _Panel:
    """One panel: what it draws, its title and y label, and the choice of doses that it shows."""

    response: Response
    title: str
    label: str
    choice: Choice | None = None


def dose_response(
    runs: Run | Runs, x: str = "rate", quantities: Sequence[str] | None = None, *, layers: Layers = None,
    alpha: float = 0.05, ax: Axes | None = None,
) -> Figure:  # fmt: skip
    """Draw each quantity of each layer against the dose, a panel each, and the network's held-out scalars.

    Parameters
    ----------
    runs : Runs
    x : str
        Key of the runs' config that holds the dose; see `dropdiag.analysis.dose_response.axis_of`.
    quantities : sequence of str, optional
        As in `dropdiag.analysis.dose_response.table`; by default the gradient flow, the saturation share and the net
        variance, and the network's accuracies and losses of held-out data, as far as they are recorded.
    layers : list of str, or dict of str to str, optional
        All, or these, named as a dict says.
    alpha : float
        Intervals cover 1 - alpha; the true best dose is not among those that are marked with a probability of alpha at
        most.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one quantity of one layer, or one of the network.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. Pale lines join the runs of a seed; large marks: means over seeds; line and
        band: the mean of the seeds' own straight lines with Student's interval, which is no sign that the response is
        straight. Of a scalar of the network the doses that cannot be told from the best are ringed, chosen on
        validation data where there are any. Doses over 100 times apart stand on a log axis.

    Raises
    ------
    ArgumentError
        As `dropdiag.analysis.dose_response.table`, or if ``ax`` is given and one panel is not enough.
    NotRecordedError
        If nothing was measured at two doses.

    Examples
    --------
    >>> figure = dd.plots.dose_response(rates, "rate", ["net_grad_abs_mean"])
    """
    with context():
        names, titles = layer_names(layers)
        found = responses(as_runs(runs), x, layers=names, alpha=alpha)
        drawn = [*_of_layers(found, quantities, titles), *_of_network(found, quantities)]
        if not drawn:
            raise NotRecordedError(f"nothing was measured at two doses of {x!r} that could be drawn")
        figure, axes = panels(len(drawn), ax=ax, advice="choose one quantity and one layer")
        for panel, one in zip(drawn, axes, strict=True):
            _draw(panel, found, one)
        ringed = any(panel.choice is not None for panel in drawn)
        return finish(figure, axes, {}, extra=_legend(alpha, ringed=ringed), ax=ax)


def _of_layers(found: Responses, quantities: Sequence[str] | None, titles: Any) -> Iterator[_Panel]:
    """Yield the panels of layers, quantity by quantity."""
    measured = set(found.measurements.measured["measure"])
    wanted = [name for name in USUAL if name in measured] if quantities is None else quantities
    known = [one for one in found.each(wanted) if one.layer is not None and len(one.doses) > 1]
    told = site_titles({(str(one.layer), one.call): None for one in known}, titles)
    for one in known:
        yield _Panel(one, told[str(one.layer), one.call], _label(found, one))


def _of_network(found: Responses, quantities: Sequence[str] | None) -> Iterator[_Panel]:
    """Yield the panels of the network: of held-out scalars with the set of doses, then of what else was asked for."""
    runs, settings = found.measurements.runs, found.measurements.settings
    held = scalar_phases(runs)
    # what an active measurement gives is drawn where it is asked for
    logged = [name for name in held if quantity_of(name) is None and (is_accuracy(name) or less_is_better(name))]
    wanted = logged if quantities is None else []
    asked = [quantities] if isinstance(quantities, str) else quantities or []
    wanted += [name for name in asked if name in held]
    for name in wanted:
        picked = choice(runs, found.axis.name, name, alpha=settings.alpha)
        for data in dict.fromkeys((picked.chosen_on, picked.reported_on)):
            title = in_lines(f"{data.scalar}, {data.phase}")
            yield _Panel(found.of_scalar(data), title, in_lines(data.scalar), picked)
    for one in found.each([name for name in asked if name not in held]):
        if one.layer is None and len(one.doses) > 1:
            yield _Panel(one, _label(found, one), _label(found, one))


def _label(found: Responses, one: Response) -> str:
    name = one.measure.name
    if name in LABELS:
        return LABELS[name]
    if name in (one.measure.quantity, "gradient_flow"):
        return axis_label(described(found.measurements.runs, one.measure.quantity).label)
    base, size = base_and_x(name)
    return plain(base.replace("_", " ") + (f" {size:g}" if size is not None else ""))


def _draw(panel: _Panel, found: Responses, ax: Axes) -> None:
    one, axis = panel.response, found.axis
    inside = () if panel.choice is None else panel.choice.inside
    alpha = found.measurements.settings.alpha
    over_dose(points_of(one), means_of(one), line_of(one, alpha), ax=ax, log=axis.log, inside=inside)
    ax.set(title=panel.title, ylabel=panel.label, xlabel=plain(axis.name))
    _remark(panel, ax)


def _remark(panel: _Panel, ax: Axes) -> None:
    """Say below a panel what the set of doses is, and what is missing."""
    if panel.choice is not None and not panel.choice.left_out and panel.choice.seeds < 2:
        note(ax, "one seed: no dose can be told from another")
    lost = np.isnan(panel.response.values)
    if lost.any():
        note(ax, f"no value: {int(lost.sum())} of {lost.size} runs")


@styled
def over_dose(
    points: pd.DataFrame, means: pd.DataFrame, line: pd.DataFrame, *, ax: Axes | None = None, log: bool = False,
    inside: Sequence[float] = (),
) -> Axes:  # fmt: skip
    """Draw one response.

    Parameters
    ----------
    points, means, line : DataFrame
        As `dropdiag.analysis.dose_response.lines` makes them.
    ax : Axes, optional
    log : bool
        Log x axis.
    inside : sequence of float
        Doses that are ringed.

    Returns
    -------
    Axes
    """
    ax = own_axes(ax)
    if log:
        ax.set_xscale("log")
    for _, part in points.sort_values("dose", kind="stable").groupby("seed", sort=False):
        ax.plot(part["dose"], part["value"], color=GREY, lw=0.6, alpha=0.55, marker=".", ms=3.5, zorder=2)
    ax.fill_between(line["dose"], line["low"], line["high"], color=TREND, alpha=0.16, lw=0, zorder=1)
    ax.plot(line["dose"], line["value"], color=TREND, lw=1.4, zorder=3)
    ax.plot(means["dose"], means["value"], "o", color=MEAN, ms=4.5, zorder=4)
    ringed = means[means["dose"].isin(inside)]
    ax.plot(ringed["dose"], ringed["value"], "o", mfc="none", mec=SET, ms=9.5, mew=1.6, zorder=5)
    _limits(ax, points["value"].to_numpy(np.float64), line)
    _ticks(ax, means["dose"].tolist(), log=log)
    return ax


def _limits(ax: Axes, values: Any, line: pd.DataFrame) -> None:
    """Hold all points and the line; of its band no more than as much again, for that of two seeds may be endless."""
    known = np.concatenate([values[np.isfinite(values)], line["value"]])
    if not known.size:
        return
    if known.min() > 0.0 and known.max() > WIDE * known.min():
        ax.set_yscale("log")
        ends = np.log(known.min()), np.log(known.max())
        room = 0.12 * (ends[1] - ends[0])
        ax.set_ylim(np.exp(ends[0] - room), np.exp(ends[1] + room))
        log_axis(ax, "y")
        return
    reach = max(known.max() - known.min(), 1e-6 * abs(known).max(), 1e-12)
    band = line[["low", "high"]].to_numpy(np.float64)
    band = band[np.isfinite(band)]
    low = max(min(known.min(), band.min(initial=np.inf)), known.min() - 0.5 * reach)
    high = min(max(known.max(), band.max(initial=-np.inf)), known.max() + 0.5 * reach)
    ax.set_ylim(low - 0.1 * reach, high + 0.1 * reach)
    ax.locator_params(axis="y", nbins=5)


def _ticks(ax: Axes, doses: Sequence[float], *, log: bool) -> None:
    """Put ticks at the doses, and labels at as many of them as there is room for, the outermost first."""
    if not doses:
        return
    at = np.log10(doses) if log else np.array(doses)
    span = max(float(at[-1] - at[0]), 1e-12)
    ax.set_xlim(*(10.0 ** (at[[0, -1]] + [-0.06 * span, 0.06 * span]) if log
                  else at[[0, -1]] + np.array([-0.06, 0.06]) * span))  # fmt: skip
    names = [f"{dose:g}" for dose in doses]
    shown = _labelled((at - at[0]) / span * _inches(ax) / 1.12, [width(name, RC["xtick.labelsize"]) for name in names])
    ax.set_xticks(doses, [name if i in shown else "" for i, name in enumerate(names)])
    ax.xaxis.set_minor_locator(NullLocator())


def _inches(ax: Axes) -> float:
    figure: Any = ax.figure
    return float(ax.get_position().width * figure.get_figwidth())


def _labelled(places: Any, widths: Sequence[float]) -> list[int]:
    """Choose which ticks have a label: each second or third of even ones, else the outermost and what fits between."""

    def fits(i: int, others: Sequence[int]) -> bool:
        return all(abs(places[i] - places[j]) > 0.5 * (widths[i] + widths[j]) + 0.06 for j in others)

    count = len(widths)
    if count > 2 and np.allclose(np.diff(places), places[1] - places[0]):
        evenly = (range(0, count, stride) for stride in range(1, count))
        return list(next((one for one in evenly if all(fits(i, [j for j in one if j < i]) for i in one)), (0,)))
    shown: list[int] = []
    for i in [0, count - 1, *range(1, count - 1)]:
        shown += [i] if fits(i, shown) else []
    return shown


def _legend(alpha: float, *, ringed: bool) -> list[Any]:
    handles: list[Any] = [
        Line2D([], [], color=GREY, lw=0.6, marker=".", ms=4.0, label="runs of a seed"),
        Line2D([], [], color=MEAN, marker="o", ms=4.5, linestyle="none", label="mean over seeds"),
        Line2D([], [], color=TREND, lw=1.4, label="trend"),
        Patch(color=TREND, alpha=0.16, lw=0, label=f"its {100.0 * (1.0 - alpha):g} % interval"),
    ]
    ring = Line2D([], [], mfc="none", mec=SET, marker="o", ms=8.0, mew=1.6, linestyle="none",
                  label="cannot be told from the best")  # fmt: skip
    return [*handles, ring] if ringed else handles
