"""The top of a report: claims with their verdicts, and each measure's effect in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.report.cells import Table, formatted, integer, number, text

MARKS: Final = {"supported": "✔", "contradicted": "✘", "undecided": "?"}
EFFECTS: Final = (
    "condition", "layer", "call", "measure", "quantity", "scale", "unit", "effect", "low", "high", "interval", "value",
    "baseline_value", "p", "p_attainable", "p_holm", "test", "n", "n_baseline", "paired", "note",
)  # fmt: skip
COUNTERS: Final = frozenset({"epoch"})
"""Scalars of the network that only count: neither a curve nor an effect of them says anything."""
HEADLINES: Final = {
    "gradient_flow": "gradient flow",
    "saturation_share": "saturation share",
    "abs_correlation": "mean |r| of nodes",
    "weight_excess_kurtosis": "excess kurtosis of weights",
}


@dataclass(frozen=True)
class Verdict:
    """One claim for one condition, and what decides it layer by layer."""

    claim: str
    statement: str
    condition: str
    baseline: str
    verdict: str
    mark: str
    reason: str
    n: str
    rule: str
    layers: Table
    anchor: str


@dataclass(frozen=True)
class Headline:
    """An effect over all layers of one condition, in words."""

    condition: str
    measure: str
    effect: str
    detail: str


def verdicts(claims: Any) -> list[Verdict]:
    """Rows of ``Claims.table``, each with its part of ``Claims.layers``."""
    layers = claims.layers
    made: list[Verdict] = []
    for row in claims.table.to_dict("records"):
        same = (layers["claim"] == row["claim"]) & (layers["condition"] == row["condition"]) if len(layers) else []
        part = layers[same] if len(layers) else layers
        made.append(Verdict(
            str(row["claim"]), str(row["statement"]), str(row["condition"]), str(row["baseline"]), str(row["verdict"]),
            MARKS.get(str(row["verdict"]), "?"), str(row["reason"]), integer(row.get("n")).shown,
            str(claims.rules.get(row["claim"], "")), _layers(part), f"claim-{len(made) + 1}",
        ))  # fmt: skip
    return made


def _layers(part: pd.DataFrame) -> Table:
    numbers = ("effect", "low", "high", "threshold", "p", "p_attainable")
    rows = [
        [text(row.get("layer")), text(row.get("measure")), *(number(row.get(name)) for name in numbers),
         text(row.get("verdict"))]
        for row in part.to_dict("records")
    ]  # fmt: skip
    heads = ["Layer", "Measure", "Effect", "Low", "High", "Threshold", "p", "Attainable p", "Verdict"]
    return Table("Layer by layer", heads, rows)


def headlines(table: pd.DataFrame) -> list[Headline]:
    """Describe the main measures: the median effect over layers, its range, and how many intervals exclude none."""
    made: list[Headline] = []
    for (condition, measure), rows in table.groupby(["condition", "measure"], sort=False):
        part = rows[np.isfinite(rows["effect"].astype(float))]
        if measure in HEADLINES and len(part):
            made.append(_headline(str(condition), str(measure), part))
    order = list(HEADLINES)
    place = {name: i for i, name in enumerate(dict.fromkeys(one.condition for one in made))}
    names = {title: key for key, title in HEADLINES.items()}
    return sorted(made, key=lambda one: (place[one.condition], order.index(names[one.measure])))


def _headline(condition: str, measure: str, part: pd.DataFrame) -> Headline:
    effect = part["effect"].astype(float)
    ratio = (part["scale"] == "log ratio").all()
    shown = [shown_effect(value, ratio=bool(ratio)) for value in (effect.median(), effect.min(), effect.max())]
    low, high = part["low"].astype(float), part["high"].astype(float)
    known = int((low.notna() & high.notna()).sum())
    clear = int(((low > 0.0) | (high < 0.0)).sum())
    layers = f"{len(part)} layer" + ("" if len(part) == 1 else "s")
    detail = f"median of {layers}, from {shown[1]} to {shown[2]}"
    seeds = f"n = {int(part['n'].min())} and {int(part['n_baseline'].min())}"
    told = f"; {clear} of {known} intervals exclude no effect" if known else "; no interval with so few seeds"
    return Headline(condition, HEADLINES[measure], shown[0], f"{detail}{told}; {seeds}")


def shown_effect(value: float, *, ratio: bool) -> str:
    """Print an effect: a factor for a log ratio, else a signed difference."""
    if ratio:
        return "× " + formatted(float(np.exp(value)), ".3g")
    return formatted(value, "+.3g")


def effects(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the effects table as JSON, column by column; columns that it lacks are null.

    Measures of scalars that only count (`COUNTERS`) are left out.
    """
    table = table[~table["measure"].map(lambda name: str(name).rpartition(":")[2] in COUNTERS)]
    made: dict[str, list[Any]] = {}
    for name in EFFECTS:
        column = table[name] if name in table else pd.Series([None] * len(table), dtype=object)
        made[name] = [None if pd.isna(value) else value for value in column.tolist()]
    return made
