"""GAAF beside dropout at equal budget, where a condition has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis.advice.case import Case, blocks
from dropdiag.analysis.advice.finding import Finding, shown
from dropdiag.analysis.advice.rates import Rates
from dropdiag.analysis.seeds import Estimate

SOURCE: Final = "Hahn & Choi 2018, arXiv:1806.09783: GAAF is to do what dropout does"
ALIKE: Final = 0.01
"""Greatest relative difference of training steps that is still one budget."""


def equal_budget(steps: Mapping[str, float], one: str, others: list[str]) -> bool:
    """Whether a condition was trained for as many steps as each of some others."""
    return all(abs(steps[one] - steps[other]) <= ALIKE * max(steps[one], steps[other]) for other in others)


def mean_steps(ends: pd.DataFrame) -> dict[str, float]:
    """Return the mean number of training steps of each condition."""
    return {str(name): float(part.mean()) for name, part in ends.groupby("condition", observed=True)["steps"]}


def findings(case: Case, rates: Rates) -> list[Finding]:
    """Set each condition with GAAF beside the best of those without: which is outside is decided by the one set."""
    dropout = [name for name in case.conditions if name not in case.gaafs]
    if not dropout or not case.gaafs:
        return []
    best = max(dropout, key=lambda name: rates.mean(name) * (-1.0 if case.less else 1.0))
    return [one for name in case.gaafs if (one := _finding(case, rates, name, best)) is not None]


def _finding(case: Case, rates: Rates, name: str, best: str) -> Finding | None:
    values = blocks(case.ends, "chosen", [name, best]).whole
    one = Estimate.of_means([(values[:, 1] - values[:, 0]) * (1.0 if case.less else -1.0)])
    if np.isnan(one.effect):
        return None
    low, high = one.interval(1.0 - case.alpha)
    if name not in case.conditions:
        steps = mean_steps(case.ends)
        what = (f"{name!r} was trained for {steps[name]:,.0f} steps and {case.at(best)} for {steps[best]:,.0f}: at "
                "unequal budgets nothing is said about which is better.")  # fmt: skip
        return Finding("gaaf", what, source=SOURCE, condition=name)
    side = (
        f"its mean is {shown(abs(one.effect))} {'better' if one.effect > 0.0 else 'worse'} than that of {case.at(best)}"
    )
    inside = "cannot be told from the best" if rates.is_inside(name) else "is worse than the best"
    what = f"{name!r} {inside} of all, and {side}, the best without it, after as many steps."
    return Finding("gaaf", what, one.effect, low, high, "", rates.p(name), not rates.is_inside(name), SOURCE, name)
