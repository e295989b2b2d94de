"""The one sentence: which rates cannot be told from the best, and how sure; or why nothing can be said."""

from __future__ import annotations

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.finding import Finding, listed, shown
from dropdiag.analysis.advice.rates import Rates
from dropdiag.analysis.advice.seeds_needed import seeds_needed

USUAL = 2.0
"""Standard deviations of a difference by which planning is done where nothing is known."""


def sentence(case: Case, rates: Rates | None, truncated: list[Finding]) -> str:
    """Return what can be said of the runs in one sentence.

    Parameters
    ----------
    case : Case
    rates : Rates or None
        None where there are no two conditions to set side by side.
    truncated : list of Finding
        Of training that had not converged.
    """
    said = _said(case, rates, truncated)
    return f"{said}{_diverged(case)}."


def _said(case: Case, rates: Rates | None, truncated: list[Finding]) -> str:
    if case.outcome is None:
        return "No verdict: no run recorded a loss or a score on held-out data"
    if rates is None:
        return f"No verdict: there are no two {case.plural} with whole runs to set side by side"
    if rates.found.blocks < 2:
        return _too_few(case, rates)
    if truncated:
        worst = max(truncated, key=lambda one: one.value)
        return (
            f"No verdict: training had not converged, {case.outcome.name} still got better by {shown(worst.value)} "
            f"over its last third, while runs of one {case.axis or 'condition'} differ by {shown(case.noise)}; train "
            "for longer"
        )
    return _verdict(case, rates)


def _verdict(case: Case, rates: Rates) -> str:
    names = [case.name(name) for name in case.conditions]
    sure = f"{rates.found.blocks} seeds, {100.0 * (1.0 - case.alpha):g} % simultaneous over all tests of this page"
    of = f"Of the {case.plural} {listed(names)}"
    on = f"the best on {case.outcome.name}" if case.outcome else "the best"
    if not rates.outside:
        return f"{of}, none can be told from {on} ({sure})"
    inside = [case.name(name) for name in rates.inside]
    if len(inside) == 1:
        rest = "the other is" if len(names) == 2 else "each other one is"
        return f"{of}, {inside[0]} is {on}: {rest} worse ({sure})"
    kept = [name for name in rates.inside if name in case.doses]
    lowest = (
        f"; {case.name(kept[0])}{', no dropout,' if _nothing(case, kept[0]) else ''} is the lowest of them"
        if kept
        else ""
    )
    return f"{of}, those that cannot be told from {on} are {listed(inside)} ({sure}){lowest}"


def _nothing(case: Case, condition: str) -> bool:
    return "rate" in case.axis.lower() and case.doses[condition] == 0.0


def _too_few(case: Case, rates: Rates) -> str:
    rivals = len(case.conditions) - 1
    needed = seeds_needed(USUAL, rivals, rates.level)
    have = "no seed has a run of each" if rates.found.blocks == 0 else "one seed tells nothing about chance"
    return (
        f"No verdict: {have}; two seeds of each of the {case.plural} are the least, and about {needed} tell apart in 8 "
        f"sweeps of 10 what is {USUAL:g} standard deviations of a seed's difference apart"
    )


def _diverged(case: Case) -> str:
    if not case.diverged:
        return ""
    told = [
        f"{case.at(name)} ({len(runs)} {'run' if len(runs) == 1 else 'runs'})" for name, runs in case.diverged.items()
    ]
    return f"; training diverged at {listed(told)}, which is not advised"
