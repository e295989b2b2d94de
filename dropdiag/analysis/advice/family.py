"""The tests of a page as one family: the probability that any of them is wrong is at most alpha."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dropdiag.analysis.claims.rules import weighted_holm
from dropdiag.analysis.seeds import Estimate

RATES, GAP, ON_AVERAGE = "rates", "gap", "convergence"
WEIGHTS: Final = {RATES: 16.0, GAP: 1.0, ON_AVERAGE: 1.0}
"""Parts of alpha; the conditions' own convergence has one more, divided among them. What is not asked has none."""


@dataclass(frozen=True)
class Family:
    """What came of the tests.

    Attributes
    ----------
    alpha : float
        Of the page.
    level : float
        What is left of it for the set of rates: its own part, and those of the tests that found something.
    p : mapping of str to float
        Name of a test -> its p, adjusted: at most alpha where it finds something. A condition's own convergence is
        under the condition's name.
    """

    alpha: float
    level: float
    p: Mapping[str, float]

    def found(self, name: str) -> bool:
        """Whether a test found something."""
        return bool(self.p.get(name, float("nan")) <= self.alpha)


def one_sided(estimate: Estimate) -> float:
    """Student's p that the truth is 0 or below; NaN where it is not known."""
    two = estimate.p()
    return two if np.isnan(two) else two / 2.0 if estimate.effect > 0.0 else 1.0 - two / 2.0


def family(
    alpha: float, *, gap: Estimate | None, on_average: Estimate | None, conditions: Mapping[str, Estimate]
) -> Family:
    """Make the tests of a page at one level.

    Parameters
    ----------
    alpha : float
    gap : Estimate, optional
        Gap at the lowest rate.
    on_average : Estimate, optional
        Improvement over the last third of training, on average over conditions.
    conditions : mapping of str to Estimate
        The same of each condition.

    Notes
    -----
    Holm's weighted test (1979): a test that finds something leaves its part of alpha to the others. The set of rates
    takes part with whatever level it is left; as the true best rate is in the family as well, it never gives its own
    part away.
    """
    asked = {GAP: gap, ON_AVERAGE: on_average, **{f"{ON_AVERAGE}: {name}": one for name, one in conditions.items()}}
    known = {name: one_sided(one) for name, one in asked.items() if one is not None}
    known = {name: p for name, p in known.items() if not np.isnan(p)}
    weights = [WEIGHTS.get(name, WEIGHTS[ON_AVERAGE] / max(len(conditions), 1)) for name in known]
    found = weighted_holm([*known.values(), 1.0], [*weights, WEIGHTS[RATES]], alpha)
    return Family(alpha, float(found.level[-1]), dict(zip(known, map(float, found.adjusted), strict=False)))


def of_condition(name: str) -> str:
    """Return what the test of a condition's own convergence is called."""
    return f"{ON_AVERAGE}: {name}"
