"""The summary's cards and its first sentence: who is compared with whom, and each measure's effect in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.formatting import LOG_RATIO, magnitude, typeset
from dropdiag.report.cells import effect
from dropdiag.report.outcomes import is_score

MEASURES: Final = {
    "gradient_flow": "gradient flow",
    "saturation_share": "saturation share",
    "abs_correlation": "mean |r| of nodes",
    "weight_excess_kurtosis": "excess kurtosis of weights",
}
LISTED: Final = 4
"""So many conditions are named one by one."""
FINAL, HELD_OUT = "final:", "epochs_to_best:"


@dataclass(frozen=True)
class Headline:
    """An effect over all layers of one condition, or on the network's score, in words."""

    condition: str
    measure: str
    effect: str
    detail: str


@dataclass(frozen=True)
class Card:
    """All headlines of a condition."""

    condition: str
    lines: list[Headline]


def cards(table: pd.DataFrame, claims: Any = None, conditions: Sequence[str] = ()) -> list[Card]:
    """Describe the main measures of each condition: the network's score, and the mean effect over layers.

    The mean is that of claims where they take one, with its interval: on the scale of the effect, so the geometric
    mean of ratios.

    Parameters
    ----------
    table : DataFrame
        Of a comparison.
    claims : Claims, optional
    conditions : sequence of str
        In the order of the page's tables; those that the table alone has come last.
    """
    known = table[np.isfinite(table["effect"].astype(float))]
    order = dict.fromkeys([*conditions, *known["condition"]])
    found = []
    for condition in order:
        rows = known[known["condition"] == condition]
        lines = _scores(str(condition), rows)
        for measure in MEASURES:
            part = rows[rows["measure"] == measure]
            if len(part):
                lines.append(_over_layers(str(condition), measure, part, None if claims is None else claims.parts))
        if lines:
            found.append(Card(str(condition), lines))
    return found


def _scores(condition: str, rows: pd.DataFrame) -> list[Headline]:
    """Describe the last held-out scores: the accuracies, or where there are none the losses."""
    held_out = {str(name).removeprefix(HELD_OUT) for name in rows["measure"] if str(name).startswith(HELD_OUT)}
    names = [str(name) for name in rows["measure"]]
    finals = [row for name, row in zip(names, rows.to_dict("records"), strict=True)
              if name.startswith(FINAL) and name.removeprefix(FINAL) in held_out and is_score(name)]  # fmt: skip
    accuracies = [row for row in finals if not less_is_better(str(row["measure"]))]
    return [_score(condition, row) for row in accuracies or finals]


def _score(condition: str, row: Mapping[Any, Any]) -> Headline:
    own, base = (typeset(row.get(name), ".4g") for name in ("value", "baseline_value"))
    detail = f"at the end: {own} against {base}; n = {int(row['n'])} and {int(row['n_baseline'])}"
    name = str(row["measure"]).removeprefix(FINAL)
    return Headline(condition, f"{name}, held out", effect(row, ratio=row["scale"] == LOG_RATIO).shown, detail)


def _over_layers(condition: str, measure: str, part: pd.DataFrame, overall: pd.DataFrame | None) -> Headline:
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
    return Headline(condition, MEASURES[measure], effect(over_all, ratio=ratio).shown, detail)
