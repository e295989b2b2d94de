"""What a verdict rests on: the number over all layers, then each layer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from dropdiag.formatting import LOG_RATIO, site
from dropdiag.report.cells import Cell, Table, effect, interval, number, text

HEADS: Final = (
    "Layer", "Measure", "Effect [interval]", "Joint interval", "Threshold", "p", "p, Holm", "Attainable p", "Verdict",
)  # fmt: skip
SLOPE: Final = "_slope"


def parts_of(claims: Any, claim: str, condition: Any, name: str) -> pd.DataFrame:
    """Rows of ``Claims.layers`` or ``Claims.overall`` that belong to one claim and condition."""
    frame = getattr(claims, name, None)
    if frame is None or not len(frame):
        return pd.DataFrame()
    own: pd.DataFrame = frame[(frame["claim"] == claim) & (frame["condition"] == condition)]
    return own


def evidence(overall: pd.DataFrame, layers: pd.DataFrame, scales: Mapping[str, str]) -> Table:
    """Return the numbers of one verdict as a table: over all layers first.

    Parameters
    ----------
    overall, layers : DataFrame
        As `parts_of` returns them.
    scales : mapping of str to str
        Measure -> scale. The numbers of a log ratio are shown as factors.
    """
    rows = [_row(row, scales) for frame in (overall, layers) for row in frame.to_dict("records")]
    note = (
        "The joint interval holds for all layers together (Bonferroni); Holm’s p is over layers. What is taken over "
        "all layers is one number, which needs neither."
    )
    return Table("Over all layers, and layer by layer", HEADS, rows, note if len(layers) else "")


def _row(row: Mapping[Any, Any], scales: Mapping[str, str]) -> list[Cell]:
    measure = str(row.get("measure") or "")
    ratio = scales.get(measure) == LOG_RATIO
    # one number over all layers is one test: a joint interval and Holm's p would correct for nothing
    whole = not isinstance(row.get("layer"), str)
    joint = interval(None if whole else row.get("joint_low"), row.get("joint_high"), ratio=ratio)
    return [
        text(_place(row, measure)), text(measure.replace("_", " ")), effect(row, ratio=ratio), joint,
        effect({"effect": row.get("threshold")}, ratio=ratio), number(row.get("p")),
        number(None if whole else row.get("p_holm")), number(row.get("p_attainable")), text(row.get("verdict")),
    ]  # fmt: skip


def _place(row: Mapping[Any, Any], measure: str) -> str:
    """Say what a row is of: a layer, or the whole."""
    layer, call = row.get("layer"), row.get("call")
    if not isinstance(layer, str):
        over = "slope over layers" if measure.endswith(SLOPE) else "mean over layers"
        return "network" if ":" in measure else over
    return site(layer, call)
