"""Is there a gap between training and held-out data? Without one there is nothing to regularise."""

from __future__ import annotations

from typing import Final

import numpy as np

from dropdiag.analysis.advice.case import MASKED, Case
from dropdiag.analysis.advice.family import GAP, Family
from dropdiag.analysis.advice.finding import Finding, shown
from dropdiag.analysis.seeds import Estimate

SOURCE: Final = "definition; Hinton et al. 2012, arXiv:1207.0580, bring dropout in against overfitting"
BIAS: Final = (
    "its training side is the mean over late training steps, in training mode: masks, and weights that were not yet so "
    "good, usually make it worse, so that the gap is rather larger"
)


def gap(case: Case, condition: str) -> Estimate:
    """Return the gap of a condition: above 0 where held-out data are worse than training data."""
    return Estimate.of_means([case.gap_of_runs.get(condition, np.empty(0))])


def findings(case: Case, family: Family) -> list[Finding]:
    """Say whether a gap was found at the lowest rate."""
    if not (len(case.gaps) and case.conditions):
        return []
    one = gap(case, case.lowest)
    return [] if np.isnan(one.effect) else [_finding(case, case.lowest, one, family)]


def _finding(case: Case, name: str, one: Estimate, family: Family) -> Finding:
    p, found = family.p.get(GAP, float("nan")), family.found(GAP)
    low, high = one.interval(1.0 - case.alpha)
    side = "worse" if one.effect > 0.0 else "better"
    said = f"{case.gap_of} is {shown(abs(one.effect))} {side} on held-out than on training data"
    bias = f" ({BIAS})" if case.gap_on == MASKED else ""
    if np.isnan(p):
        what = f"At {case.at(name)} {said}."
    elif found:
        what = f"At {case.at(name)} there is a gap: {said}{bias}."
    else:
        what = f"At {case.at(name)} no gap was found, and so nothing that dropout could regularise: {said}{bias}."
    return Finding("gap", what, one.effect, low, high, "", p, found, SOURCE, name)
