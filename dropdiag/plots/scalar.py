"""Any scalar quantity over training, a panel a layer: those of dropdiag's probes and of your own."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropdiag.analysis.scalar import binned
from dropdiag.errors import NotRecordedError
from dropdiag.plots.heat import step_maps
from dropdiag.plots.layered import by_panel, by_site, described, one_look
from dropdiag.plots.layout import MANY, finish
from dropdiag.plots.steps import Part, figure_over_steps
from dropdiag.plots.style import context
from dropdiag.plots.words import Conditions, Layers, axis_label, layer_names, plain, site_titles
from dropdiag.store.reader import Run, Runs
from dropdiag.store.schema import LOG_RATIO


def scalar(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Layers = None,
    conditions: Conditions = None,
    phase: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a scalar quantity of each layer over training, conditions overlaid.

    Its label, unit and scale are those that the probe gave which recorded it. Where the scale is ``"log ratio"`` the
    y axis is logarithmic and the same for all layers, the line the geometric mean over seeds and the band the geometric
    standard deviation; else each layer has its own y axis, the line is the mean and the band one standard deviation
    over seeds. Many steps are averaged in bins.

    Parameters
    ----------
    runs : Run or Runs
    quantity : str
        E.g. ``"participation_ratio"``, one of a probe of your own, or a name given to ``step`` or ``log``, which has
        one panel.
    layers : list of str, or mapping of str to str, optional
        All, or these in this order; a mapping also gives the panels their titles.
    conditions : list of str, optional
        All, or these in this order.
    phase : str, optional
        One for all runs: None is ``"eval"`` if any of them has it, else the only held-out phase, else ``"train"``. Runs
        that lack it are left out, with a warning.
    ax : Axes, optional
        Draw there, in place of a figure of its own; for one layer.

    Returns
    -------
    Figure
        That of ``ax``, where it is given. With more than 32 layers a map for each condition stands in place of a panel
        for each layer.

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist (the message lists those that do), the phase is not clear, or ``ax`` is
        given and one panel is not enough.
    NotRecordedError
        If the quantity was not recorded as a scalar, or has no finite value (no positive one for a log axis).

    Notes
    -----
    The band shows how far seeds lie apart, not how well their mean is known: it does not shrink with more seeds.

    Examples
    --------
    >>> figure = dd.plots.scalar(runs, "node_correlation_abs_mean", layers=["act2"])
    """
    names, titles = layer_names(layers)
    with context():
        styles, what = one_look(runs, conditions), described(runs, quantity)
        log = what.scale == LOG_RATIO  # ratios are compared by factors, which a log axis shows as lengths
        lines = binned(runs, quantity, layers=names, conditions=conditions, phase=phase, log=log)
        if lines["value"].isna().all():
            raise NotRecordedError(
                f"no value of {quantity!r} is finite{' and positive, as a log axis needs' if log else ''}"
            )
        parts, found = [], by_site(by_panel(runs, lines, names))
        called = site_titles(found, titles)
        for site, rows in found.items():
            title = called[site] if site[0] else plain(quantity.replace("_", " "))
            parts.append(Part(title, rows, set(rows["condition"]), log))
        label = axis_label(what.label) + ("" if what.unit == "1" else f"\n({plain(what.unit)})")
        if len(found) > MANY:
            figure, axes = step_maps(lines, list(found), styles, titles, scale=label, log=log, ax=ax)
            return finish(figure, axes, {}, ax=ax)
        return figure_over_steps(parts, styles, label=label, shared=log, ax=ax)
