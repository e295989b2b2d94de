"""The top of a report: claims with their verdicts and what these rest on, each measure's effect in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.measures import COUNTERS
from dropdiag.formatting import LOG_RATIO, magnitude, minus, site, text, typeset, whole
from dropdiag.report.cells import Cell, Table, effect, interval, number
from dropdiag.report.cells import text as cell

MARKS: Final = {"supported": "✔", "contradicted": "✘", "undecided": "?"}
EFFECTS: Final = (
    "condition", "layer", "call", "measure", "quantity", "scale", "unit", "effect", "low", "high", "interval", "value",
    "baseline_value", "p", "p_attainable", "p_holm", "test", "n", "n_baseline", "paired", "note",
)  # fmt: skip
HEADS: Final = (
    "Layer", "Measure", "Effect [interval]", "Joint interval", "Threshold", "p", "p, Holm", "Attainable p", "Verdict",
)  # fmt: skip
SLOPE: Final = "_slope"
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
        overall, layers = (_parts(claims, claim, row["condition"], name) for name in ("overall", "layers"))
        made.append(Verdict(
            claim, str(row["statement"]), text(row["condition"]), text(row["baseline"]), verdict,
            MARKS.get(verdict, "?"), minus(str(row["reason"])), whole(row.get("n")),
            minus(str(claims.rules.get(claim, ""))), _evidence(overall, layers, scales), f"claim-{len(made) + 1}",
            verdict != "undecided" and _untestable(overall if len(overall) else layers, alpha),
        ))  # fmt: skip
    return made


def _parts(claims: Any, claim: str, condition: Any, name: str) -> pd.DataFrame:
    """Rows of ``Claims.layers`` or ``Claims.overall`` that belong to one claim and condition."""
    frame = getattr(claims, name, None)
    if frame is None or not len(frame):
        return pd.DataFrame()
    own: pd.DataFrame = frame[(frame["claim"] == claim) & (frame["condition"] == condition)]
    return own


def _evidence(overall: pd.DataFrame, layers: pd.DataFrame, scales: Mapping[str, str]) -> Table:
    """Return the numbers of one verdict as a table: over all layers first.

    Parameters
    ----------
    overall, layers : DataFrame
        As `_parts` returns them.
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
        cell(_place(row, measure)), cell(measure.replace("_", " ")), effect(row, ratio=ratio), joint,
        effect({"effect": row.get("threshold")}, ratio=ratio), number(row.get("p")),
        number(None if whole else row.get("p_holm")), number(row.get("p_attainable")), cell(row.get("verdict")),
    ]  # fmt: skip


def _place(row: Mapping[Any, Any], measure: str) -> str:
    """Say what a row is of: a layer, or the whole."""
    if isinstance(row.get("layer"), str):
        return site(row["layer"], row.get("call"))
    if ":" in measure:  # of a scalar, which belongs to the network
        return "network"
    return "slope over layers" if measure.endswith(SLOPE) else "mean over layers"


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
    # the claims' own number has an interval; where they take none, the mean stands alone
    over_all: Mapping[Any, Any] = {"effect": size.mean()}
    if overall is not None and len(overall):
        base = part["baseline"].iloc[0]
        # claim (e) sets GAAF beside dropout: that is no effect against the baseline
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
    return Headline(condition, HEADLINES[measure], effect(over_all, ratio=ratio).shown, detail)


def effects(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the effects table as JSON, column by column; columns that it lacks are null.

    Measures of scalars that only count (`COUNTERS`) are left out.
    """
    table = table[~table["measure"].map(lambda name: str(name).rpartition(":")[2] in COUNTERS)]
    found = table.reindex(columns=list(EFFECTS)).astype(object)
    return {str(name): column for name, column in found.where(found.notna(), None).to_dict("list").items()}
