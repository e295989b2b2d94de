"""Saturated and dead nodes: which share of a layer passes hardly any gradient on, or none."""

from __future__ import annotations

from typing import Final

import pandas as pd

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.finding import Finding
from dropdiag.analysis.advice.layers import extremes

RULES: Final = {
    "saturation_share": (
        "definition (docs/quantities.md); Hahn & Choi 2018 hold that dropout pushes net values there",
        "of these net values the slope is a tenth of the greatest or less (of a ReLU half is usual)",
    ),
    "dead_share": (
        "definition (docs/health.md)",
        "no input that was looked at gives these nodes a gradient",
    ),
    "always_saturated_share": (
        "definition (docs/health.md)",
        "these nodes are in the saturation area for every input that was looked at",
    ),
}
"""Measure -> where the rule comes from, and what the number says."""


def findings(case: Case, table: pd.DataFrame, condition: str) -> list[Finding]:
    """Say where each is greatest and least at one condition; of nodes that are dead or always saturated, if any is."""
    told: list[Finding] = []
    for measure, (source, tells) in RULES.items():
        found = extremes(case, table, measure, condition, rule="nodes", source=source, tells=tells)
        told += [one for one in found if one.value > 0.0 or measure == "saturation_share"]
    return told
