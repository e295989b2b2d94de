"""Advice: one honest sentence about a sweep, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dropdiag.analysis.advice import convergence, costs, gaaf, gap, layers, nodes, rates
from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.convergence import Convergence
from dropdiag.analysis.advice.family import Family, family
from dropdiag.analysis.advice.finding import Finding, Next, NotMeasured
from dropdiag.analysis.advice.following import following
from dropdiag.analysis.advice.missing import missing
from dropdiag.analysis.advice.rates import Rates
from dropdiag.analysis.advice.read import read
from dropdiag.analysis.advice.sentence import sentence
from dropdiag.analysis.advice.table import table


@dataclass(frozen=True, repr=False, eq=False)
class Advice:
    """What the runs of a sweep say about dropout, as `advise` returns it.

    Attributes
    ----------
    sentence : str
        Which rates cannot be told from the best, and how sure; or why nothing can be said.
    table : DataFrame
        A row a condition: condition, dose, seeds, chosen (mean of what a rate is chosen by) with its interval, behind
        (the best of the others) with bounds, p, verdict, reported (the mean on test data), improvement (over the last
        third of training), gap, steps.
    findings : tuple of Finding
        Each with its rule, a sentence, its number, and its source.
    layers : DataFrame
        Means over seeds of the measures of layers, by condition.
    not_measured : tuple of NotMeasured
        What the runs do not hold, and the call that records it.
    next : tuple of Next
        What to try, why, and the number that it rests on.
    problems : tuple of str
        Runs and conditions that were left out, and why.
    case : Case
        What the rules read.
    rates : Rates or None
        The conditions that were set side by side; None where there are no two.

    Examples
    --------
    >>> advice = dd.advise(rates, "rate")
    >>> advice.table["dose"].tolist()
    [0.0, 0.2, 0.5]
    """

    sentence: str
    table: pd.DataFrame
    findings: tuple[Finding, ...]
    layers: pd.DataFrame
    not_measured: tuple[NotMeasured, ...]
    next: tuple[Next, ...]
    problems: tuple[str, ...]
    case: Case
    rates: Rates | None

    def __repr__(self) -> str:
        counts = (
            f"{len(self.findings)} in .findings, {len(self.not_measured)} in .not_measured, {len(self.next)} in .next"
        )
        return f"<Advice: {self.sentence} {counts}>"

    def _repr_html_(self) -> str:
        from dropdiag.analysis.advice.page import fragment  # noqa: PLC0415 - a notebook alone pays it

        return fragment(self)

    def html(self, path: str | Path) -> Path:
        """Write one page that needs no other file: the sentence, a figure, findings, what is missing, what is next.

        Parameters
        ----------
        path : path
            The file; its folder is made. A file that is there is replaced, whole and at once.

        Returns
        -------
        Path
            The file.

        Examples
        --------
        >>> dd.advise(rates).html("advice.html").name
        'advice.html'
        """
        from dropdiag.analysis.advice.page import write  # noqa: PLC0415 - jinja2 is not paid by numbers

        return write(self, path)

    def record(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        outcome = self.case.outcome
        return {
            "sentence": self.sentence, "alpha": self.case.alpha, "axis": self.case.axis or None,
            "chosen_on": None if outcome is None else str(outcome.chosen),
            "reported_on": None if outcome is None else str(outcome.reported),
            "table": self.table.to_dict("records"), "findings": [one.record() for one in self.findings],
            "layers": self.layers.to_dict("records"), "not_measured": [one.record() for one in self.not_measured],
            "next": [one.record() for one in self.next], "problems": list(self.problems),
        }  # fmt: skip


def advise(runs: Any, x: str = "rate", *, scalar: str | None = None, alpha: float = 0.05) -> Advice:
    """Say which rates of a sweep cannot be told from the best, and what else its runs tell about dropout.

    Parameters
    ----------
    runs : Runs, Sweep, or what `load` takes
        Also the folder of a sweep. Runs that did not come to their end are left out, and named.
    x : str
        Key of the config that is swept. Where conditions have no such number they are taken by name.
    scalar : str, optional
        What runs are judged by: a scalar that was recorded on held-out data, with its phase before it where several
        have it ("validation/accuracy"). By default an accuracy, else a loss; of validation data, if there are any.
    alpha : float
        Greatest probability that anything that the page tests is wrong: a rate that is called worse and is the best, a
        gap or a lack of convergence that is not there.

    Returns
    -------
    Advice

    Raises
    ------
    ArgumentError
        For options that cannot be.
    RunError
        If no completed run can be read.

    Notes
    -----
    A rate is chosen on validation data and reported on test data. The seed is the unit. Nothing is said of rates that
    were not tested, nor of which rate is best where training had not converged. docs/advice.md has each rule with its
    source, and how often the advice was wrong and right in simulated sweeps.

    Examples
    --------
    >>> advice = dd.advise("sweep")
    >>> advice.sentence.startswith("Of the rates 0, 0.2 and 0.5, ")
    True
    >>> advice.findings[0].rule
    'rates'
    """
    case, problems = read(runs, x, scalar=scalar, alpha=alpha)
    return judge(case, problems)


def judge(case: Case, problems: Sequence[str] = ()) -> Advice:
    """Put the rules to a case."""
    whole = case.outcome is not None and len(case.conditions) > 1
    late = convergence.convergence(case) if whole else None
    tests = _tests(case, late)
    found = rates.rates(case, tests.level) if whole else None
    of_training = [] if late is None else convergence.findings(case, late, tests)
    of_gap = gap.findings(case, tests)
    truncated = [one for one in of_training if one.found]
    numbers = layers.numbers(case)
    told = [*of_training, *of_gap, *_of_layers(case, numbers, found)]
    if found is not None and not truncated:
        told = [*rates.findings(case, found), *gaaf.findings(case, found), *told]
    tabulated = table(case, found, late, truncated=bool(truncated))
    after = tuple(following(case, found, truncated, of_gap))
    return Advice(
        sentence(case, found, truncated), tabulated, tuple(told), numbers, tuple(missing(case, late)), after,
        (*problems, *_remarks(found)), case, found,
    )  # fmt: skip


def _tests(case: Case, late: Convergence | None) -> Family:
    known = {} if late is None else {name: one for name, one in late.conditions.items() if not np.isnan(one.error)}
    first = gap.gap(case, case.lowest) if case.conditions and len(case.gaps) else None
    return family(case.alpha, gap=first, on_average=late.on_average if late else None, conditions=known)


def _remarks(found: Rates | None) -> list[str]:
    return [f"{found.note[:1].upper()}{found.note[1:]}."] if found is not None and found.note else []


def _of_layers(case: Case, numbers: pd.DataFrame, found: Rates | None) -> list[Finding]:
    if not case.conditions:
        return []
    condition = layers.spoken_of(case, found.inside if found is not None else ())
    if condition is None:
        return []
    return [*costs.findings(case, numbers, condition), *nodes.findings(case, numbers, condition)]
