"""The table of trends: one row a measure and layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.effects import holm
from dropdiag.analysis.dose_response.responses import Response, Responses, responses
from dropdiag.analysis.dose_response.trend import Trend, trend
from dropdiag.errors import NotRecordedError

COLUMNS: Final = [
    "quantity", "measure", "layer", "call", "scale", "unit", "per", "slope", "low", "high", "p", "p_holm", "test",
    "monotone", "lowest", "highest", "bend", "bend_p", "doses", "seeds", "note",
]  # fmt: skip


def table(
    runs: Any, x: str = "rate", quantities: Sequence[str] | None = None, *, layers: Sequence[str] | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:  # fmt: skip
    """How each measure of each layer goes with the dose.

    Parameters
    ----------
    runs : Runs, or what `load` takes
    x : str
        Key of the runs' config that holds the dose; see `dropdiag.analysis.dose_response.axis_of`.
    quantities : sequence of str, optional
        Names of measures as in `dropdiag.compare`, or of the quantities that they are taken from ("accuracy" is the
        final one); all by default.
    layers : sequence of str, optional
        As the runs of the lowest dose call them; all by default.
    alpha : float
        Intervals cover 1 - alpha.

    Returns
    -------
    DataFrame
        Columns quantity, measure; layer (None for the network), call; scale, unit, per (what of the dose a slope is
        taken over: 1 of it, or a factor of 10 where the doses are taken by their logarithms); slope, low, high (of a
        log ratio the slope of the logarithm); p (two-sided), p_holm (over the layers of a measure), test ("Page",
        "paired t", "none"); monotone (whether the means never turn), lowest, highest (doses of the least and greatest
        mean); bend, bend_p (coefficient of the dose squared); doses, seeds (that all numbers rest on); note.

    Raises
    ------
    ArgumentError
        If there are fewer than two doses, or two runs of one dose and seed; for an unknown layer or alpha.
    NotRecordedError
        For a name that nothing was measured of, or if there is nothing at two doses.

    Notes
    -----
    The seed is the unit, and a block: docs/dose-response.md has what each number says and how it misleads.

    Examples
    --------
    >>> table = dd.analysis.dose_response.table(rates, "rate", ["net_grad_abs_mean"])
    >>> table["layer"].unique().tolist()
    ['act1', 'act2']
    """
    return table_of(responses(runs, x, layers=layers, alpha=alpha), quantities)


def table_of(found: Responses, quantities: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the table of what was measured already; see `table`."""
    alpha = found.measurements.settings.alpha
    each = [(one, trend(one.scaled, one.places, alpha=alpha)) for one in found.each(quantities) if len(one.doses) > 1]
    if not each:
        why = "; ".join(found.problems)
        raise NotRecordedError(f"nothing was measured at two doses of {found.axis.name!r}{why and f': {why}'}")
    rows = pd.DataFrame([_row(found, *one) for one in each], columns=COLUMNS)
    # over layers and not over measures: which measures to look at is to be chosen beforehand
    groups = [rows["measure"], rows["layer"].isna()]
    adjusted = rows["p"].groupby(groups, sort=False).transform(lambda p: holm(p.to_numpy()))
    return rows.assign(p_holm=adjusted.astype("float64"))


def _row(found: Responses, one: Response, how: Trend) -> dict[str, Any]:
    measure, known = one.measure, how.blocks > 0
    return {
        "quantity": measure.quantity, "measure": measure.name, "layer": one.layer, "call": one.call,
        "scale": measure.scale, "unit": measure.unit, "per": found.axis.unit, "slope": how.slope, "low": how.low,
        "high": how.high, "p": how.p, "test": how.test, "monotone": how.monotone if known else None,
        "lowest": one.doses[how.lowest] if known else np.nan, "highest": one.doses[how.highest] if known else np.nan,
        "bend": how.bend, "bend_p": how.bend_p, "doses": len(one.doses), "seeds": how.blocks,
        "note": "; ".join(filter(None, [how.note, one.note])),
    }  # fmt: skip
