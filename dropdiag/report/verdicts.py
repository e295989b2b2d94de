"""The top of a report: claims with their verdicts, and each measure's effect in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.measures import COUNTERS
from dropdiag.formatting import LOG_RATIO, magnitude, minus, typeset, whole
from dropdiag.report.cells import Table, effect
from dropdiag.report.evidence import evidence, parts_of

MARKS: Final = {"supported": "✔", "contradicted": "✘", "undecided": "?"}
EFFECTS: Final = (
    "condition", "layer", "call", "measure", "quantity", "scale", "unit", "effect", "low", "high", "interval", "value",
    "baseline_value", "p", "p_attainable", "p_holm", "test", "n", "n_baseline", "paired", "note",
)  # fmt: skip
HEADLINES: Final = {
    "gradient_flow": "gradient flow",
    "saturation_share": "saturation share",
    "abs_correlation": "mean |r| of nodes",
    "weight_excess_kurtosis": "excess kurtosis of weights",
}


@dataclass(frozen=True)
class Verdict:
    """One claim for one condition, and what decides it, over all layers and layer by layer.

    ``condition`` is empty where no condition plays the part that the claim speaks of. ``alone`` says that so few
    seeds could give no p that decides: the interval alone does.
    """

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
    alone: bool = False


@dataclass(frozen=True)
class Headline:
    """An effect over all layers of one condition, in words."""

    condition: str
    measure: str
    effect: str
    detail: str


def verdicts(claims: Any, scales: Mapping[str, str], alpha: float) -> list[Verdict]:
    """Rows of ``Claims.table``, each with its parts of ``Claims.overall`` and ``Claims.layers``.

    Parameters
    ----------
    claims : Claims
    scales : mapping of str to str
        Measure -> scale, as in the table of effects.
    alpha : float
        Greatest p of a verdict.
    """
    made: list[Verdict] = []
    for row in claims.table.to_dict("records"):
        claim, verdict = str(row["claim"]), str(row["verdict"])
        overall, layers = (parts_of(claims, claim, row["condition"], name) for name in ("overall", "layers"))
        made.append(Verdict(
            claim, str(row["statement"]), _name(row["condition"]), _name(row["baseline"]), verdict,
            MARKS.get(verdict, "?"), minus(str(row["reason"])), whole(row.get("n")),
            minus(str(claims.rules.get(claim, ""))), evidence(overall, layers, scales), f"claim-{len(made) + 1}",
            verdict != "undecided" and _untestable(overall if len(overall) else layers, alpha),
        ))  # fmt: skip
    return made


def _name(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _untestable(parts: pd.DataFrame, alpha: float) -> bool:
    """Whether the seeds can give no p of at most alpha in some part; a part without any p is not tested by one."""
    return bool("p_attainable" in parts and (parts["p_attainable"].astype(float) > alpha).any())


def headlines(table: pd.DataFrame, claims: Any = None) -> list[Headline]:
    """Describe the main measures: the mean effect over layers and its range.

    The mean is that of claims where they take one, with its interval: on the scale of the effect, so the geometric
    mean of ratios.

    Parameters
    ----------
    table : DataFrame
        Of a comparison.
    claims : Claims, optional
    """
    known = table[np.isfinite(table["effect"].astype(float))]
    made: list[Headline] = []
    for condition, rows in known.groupby("condition", sort=False):
        for measure in HEADLINES:
            part = rows[rows["measure"] == measure]
            if len(part):
                made.append(_headline(str(condition), measure, part, getattr(claims, "overall", None)))
    return made


def _headline(condition: str, measure: str, part: pd.DataFrame, overall: pd.DataFrame | None) -> Headline:
    size = part["effect"].astype(float)
    ratio = bool((part["scale"] == LOG_RATIO).all())
    over_all: Mapping[Any, Any] = {"effect": size.mean()}
    if overall is not None and len(overall):
        base = part["baseline"].iloc[0]
        same = overall[(overall["condition"] == condition) & (overall["measure"] == measure)
                       & (overall["baseline"] == base)]  # fmt: skip
        over_all = same.iloc[0].to_dict() if len(same) else over_all
    least, most = (magnitude(value, ratio=ratio, form=typeset, sign=True) for value in (size.min(), size.max()))
    low, high = part["low"].astype(float), part["high"].astype(float)
    known = int((low.notna() & high.notna()).sum())
    clear = int(((low > 0.0) | (high < 0.0)).sum())
    layers = f"{len(part)} layer" + ("" if len(part) == 1 else "s")
    detail = f"{'geometric mean' if ratio else 'mean'} over {layers}, from {least} to {most}"
    told = f"; {clear} of {known} intervals {'lies' if clear == 1 else 'lie'} wholly on one side of no effect"
    seeds = f"; n = {int(part['n'].min())} and {int(part['n_baseline'].min())}"
    detail += (told if known else "; no interval with so few seeds") + seeds
    return Headline(
        condition,
        HEADLINES[measure],
        effect(over_all, ratio=ratio).shown,
        detail,
    )


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
