"""What the dropout of each layer costs and brings: gradient flow, noise, net variance, regulariser, dependence."""

from __future__ import annotations

from typing import Final

import pandas as pd

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.finding import Finding
from dropdiag.analysis.advice.layers import extremes
from dropdiag.formatting import some

BATCH_NORM: Final = "Li et al. 2019 (CVPR), arXiv:1801.05134: variance shift"
RULES: Final = {
    "gradient_flow": (
        "Hahn & Choi 2018, arXiv:1806.09783 (they hold that dropout makes more gradient flow)",
        "more or less gradient reaches a layer than at the lowest rate, over the same steps of training",
    ),
    "dropout_noise_to_signal": (
        "definition (docs/quantities.md); Wang & Manning 2013 take net values under masks as normal with that variance",
        "above 1 the masks vary a node more than the data do",
    ),
    "net_variance_mean": (
        "Hahn & Choi 2018: the net variance is what moves saturated nodes",
        "in squared net-value units, so that layers compare by it only where their net values do",
    ),
    "regulariser": (
        "Wager et al. 2013, arXiv:1307.1493; Baldi & Sadowski 2013: to first order dropout adds this penalty",
        "the dropouts with the greatest one are those that regularise, those with none do not",
    ),
    "ablation_dependence": (
        "Hinton et al. 2012, arXiv:1207.0580, hold that dropout prevents co-adaptation; docs/measure.md",
        "how far the loss of partners together is from that of nodes drawn by lot",
    ),
}
"""Measure -> where the rule comes from, and what the number says."""


def findings(case: Case, table: pd.DataFrame, condition: str) -> list[Finding]:
    """Say where each is greatest and least at one condition; ``table`` is that of `layers.numbers`."""
    told: list[Finding] = []
    for measure, (source, tells) in RULES.items():
        told += extremes(case, table, measure, condition, rule="layers", source=source, tells=tells)
    return [*told, *_batch_norm(case)]


def _batch_norm(case: Case) -> list[Finding]:
    if not (case.normed and case.dropouts):
        return []
    both = f"dropout ({some(case.dropouts)}) and batch normalisation ({some(case.normed)})"
    what = (f"The network has {both}: where one stands behind a dropout, the variance that it divides by was taken "
            "with masks, and at test time there are none.")  # fmt: skip
    return [Finding("layers", what, float(len(case.normed)), unit="layers that normalise", source=BATCH_NORM)]
