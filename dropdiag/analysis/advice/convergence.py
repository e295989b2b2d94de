"""Had training converged? Of runs that were still getting better nothing is said about which is best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.advice.case import Case, blocks
from dropdiag.analysis.advice.family import ON_AVERAGE, Family, of_condition
from dropdiag.analysis.advice.finding import Finding, shown
from dropdiag.analysis.seeds import Estimate, Floats

SOURCE: Final = "Srivastava et al. 2014 (conclusion): with dropout training takes two to three times as long"
LATE: Final = 2.0 / 3.0
"""Where the last third of training begins."""
FEWEST: Final = 3
"""Evaluations that the last third takes for a slope."""
_NAN: Final = float("nan")


@dataclass(frozen=True)
class Convergence:
    """By how much runs still got better over the last third of their training.

    Attributes
    ----------
    conditions : mapping of str to Estimate
    on_average : Estimate
        Over conditions, seed by seed.
    """

    conditions: Mapping[str, Estimate]
    on_average: Estimate

    @property
    def unknown(self) -> list[str]:
        """Conditions of which it is not known."""
        return [name for name, one in self.conditions.items() if np.isnan(one.effect)]


def convergence(case: Case) -> Convergence:
    """Take the improvements of all conditions."""
    known = improvements(case.curve, less=case.less)
    names, gained = known["condition"].to_numpy(), known["improvement"].to_numpy(np.float64)
    each = {name: Estimate.of_means([gained[(names == name) & np.isfinite(gained)]]) for name in case.conditions}
    means = blocks(known, "improvement", case.conditions).whole.mean(axis=1)
    return Convergence(each, Estimate.of_means([means]))


def improvements(curve: pd.DataFrame, *, less: bool) -> pd.DataFrame:
    """Return by how much each run got better over the last third of its training.

    Parameters
    ----------
    curve : DataFrame
        Columns condition, seed, run, step, value.
    less : bool
        Whether less is better.

    Returns
    -------
    DataFrame
        A row a run: condition, seed, run, improvement (the least-squares slope over the evaluations of the last third,
        times the steps from the first to the last of them; NaN for fewer than three finite ones).
    """
    names = ("run", "condition", "seed", "step", "value")
    of: dict[str, tuple[str, Any, list[float], list[float]]] = {}
    for run, condition, seed, step, value in zip(*(curve[name].tolist() for name in names), strict=True):
        _, _, steps, values = of.setdefault(run, (condition, seed, [], []))
        steps.append(step)
        values.append(-value if less else value)
    rows = [(condition, seed, run, late_gain(np.array(steps, float), np.array(values, float)))
            for run, (condition, seed, steps, values) in of.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["condition", "seed", "run", "improvement"])


def late_gain(steps: Floats, values: Floats) -> float:
    """Return the fitted rise of one curve over the last third of its steps; NaN where that is not known."""
    late = (steps >= LATE * steps.max(initial=0.0)) & np.isfinite(values)
    if late.sum() < FEWEST:
        return _NAN
    x = steps[late] - steps[late].mean()
    return float((x @ values[late]) / (x @ x) * (x.max() - x.min())) if x.any() else _NAN


def findings(case: Case, found: Convergence, family: Family) -> list[Finding]:
    """Say of all conditions together whether their training had converged, and of each whose training had not.

    It had not where the improvement is above 0 (Student's t over seeds, one-sided, in the family of the page) and
    larger than what a run has of its own (`Case.noise`).
    """
    if len(found.unknown) == len(case.conditions):
        return []
    every = f"on average over {case.plural}"
    told = [_finding(case, f"over its last third, {every},", found.on_average, family)]
    each = [
        _finding(case, f"at {case.at(name)}, over its last third,", one, family, name)
        for name, one in found.conditions.items()
    ]
    return [one for one in told if not np.isnan(one.value)] + [one for one in each if one.found]


def _finding(case: Case, where: str, one: Estimate, family: Family, of: str = "") -> Finding:
    test = of_condition(of) if of else ON_AVERAGE
    # without noise that is known, no gain can be told to be small
    found = family.found(test) and not one.effect <= case.noise
    low, high = one.interval(1.0 - case.alpha)
    outcome = case.outcome.name if case.outcome else "the outcome"
    gained = f"{'better' if one.effect > 0.0 else 'worse'} by {shown(abs(one.effect))}"
    beside = f"; runs of one {case.axis or 'condition'} differ by {shown(case.noise)} (sd)"
    said = "Training had not converged" if found else "No sign that training had not converged"
    what = f"{said}: {where} {outcome} {'still ' if found else ''}got {gained}{beside}."
    return Finding("convergence", what, one.effect, low, high, "", family.p.get(test, _NAN), found, SOURCE, of)
