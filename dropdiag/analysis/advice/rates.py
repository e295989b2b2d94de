"""Which rates cannot be told from the best, and which of them is the lowest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.finding import Finding, listed, shown
from dropdiag.analysis.dose_response.best import BestSet, cannot_be_told_from_best
from dropdiag.analysis.seeds import t_interval

SOURCE: Final = "definition; the set as in docs/dose-response.md"


@dataclass(frozen=True)
class Rates:
    """The conditions that were set side by side, and those of them that cannot be told from the best.

    Attributes
    ----------
    conditions : tuple of str
    found : BestSet
        An item a condition.
    means : tuple of float
        Over the seeds that all have.
    alpha, level : float
        Of the page, and the part of it that the set was made at.
    note : str
        How runs were set side by side, where it was not by seed.
    """

    conditions: tuple[str, ...]
    found: BestSet
    means: tuple[float, ...]
    alpha: float
    level: float
    note: str = ""

    @property
    def inside(self) -> tuple[str, ...]:
        """Conditions that cannot be told from the best."""
        return tuple(name for name, kept in zip(self.conditions, self.found.inside, strict=True) if kept)

    @property
    def outside(self) -> tuple[str, ...]:
        """Conditions that are worse than another one."""
        return tuple(name for name in self.conditions if name not in self.inside)

    @property
    def best(self) -> str | None:
        """The condition of the best mean; None where there is no seed that all have."""
        return None if self.found.best < 0 else self.conditions[self.found.best]

    def is_inside(self, condition: str) -> bool:
        """Whether a condition cannot be told from the best."""
        return condition in self.inside

    def mean(self, condition: str) -> float:
        """Mean of a condition over the seeds that all have."""
        return self.means[self.conditions.index(condition)]

    def behind(self, condition: str) -> tuple[float, float, float]:
        """Return how far a condition is behind the best of the others, with its bounds."""
        place = self.conditions.index(condition)
        return self.found.behind[place], self.found.low[place], self.found.high[place]

    def p(self, condition: str) -> float:
        """P of a condition, adjusted over the page; NaN without a test."""
        if self.found.blocks < 2:
            return float("nan")
        return min(1.0, self.found.p[self.conditions.index(condition)] * self.alpha / self.level)


def rates(case: Case, level: float) -> Rates:
    """Find the conditions that cannot be told from the best, at a level."""
    made = case.blocks
    found = cannot_be_told_from_best(made.values, less_is_better=case.less, alpha=level)
    means = made.whole.mean(axis=0) if len(made.whole) else np.full(len(case.conditions), np.nan)
    return Rates(case.conditions, found, tuple(means.tolist()), case.alpha, level, made.note)


def findings(case: Case, found: Rates) -> list[Finding]:
    """Say of each condition outside how far it is behind, and of those inside which has the lowest rate."""
    if found.found.blocks < 2:
        return []
    told = [_behind(case, found, name) for name in found.outside if name not in case.gaafs]  # these have a rule
    told += _reported(case, found)
    inside = [name for name in found.inside if name in case.doses]
    if len(inside) > 1:
        what = (f"Of the {case.plural} {listed([case.name(name) for name in inside])}, which cannot be told apart from "
                f"the best, {case.name(inside[0])} is the lowest.")  # fmt: skip
        told.append(Finding("rates", what, source=SOURCE))
    return told


def _reported(case: Case, found: Rates) -> list[Finding]:
    """Say what the lowest of the conditions that are left reached on the data that it is reported on."""
    if case.outcome is None or not found.inside:
        return []
    name, outcome = found.inside[0], case.outcome
    rows = case.ends_of[name]["reported"].to_numpy(np.float64)
    mean, low, high = t_interval(rows[np.isfinite(rows)], 1.0 - case.alpha)
    on = f"{outcome.reported.data} {outcome.reported.base}"
    optimistic = ", on the data that it was chosen on, which is optimistic" if outcome.same else ""
    what = f"{case.at(name)} reaches a {on} of {shown(mean)}{optimistic}."
    return [Finding("rates", what[:1].upper() + what[1:], mean, low, high, source="definition", condition=name)]


def _behind(case: Case, found: Rates, name: str) -> Finding:
    value, low, high = found.behind(name)
    beside = max((one for one in case.conditions if one != name),
                 key=lambda one: found.mean(one) * (-1.0 if case.less else 1.0))  # fmt: skip
    outcome = case.outcome.name if case.outcome else "the outcome"
    behind = f"its mean {outcome} is {shown(value)} behind that of {case.at(beside)}"
    what = f"{case.at(name)} is worse than the best: {behind}."
    return Finding("rates", what[:1].upper() + what[1:], value, low, high, "", found.p(name), True, SOURCE, name)
