"""What to try next: each with its reason, and the number that it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.finding import Finding, Next, listed, shown
from dropdiag.analysis.advice.rates import Rates
from dropdiag.analysis.advice.seeds_needed import detectable, seeds_needed

LONGER: Final = "Srivastava et al. 2014 (conclusion): two to three times the training of a network without dropout"
EARLY: Final = "Liu et al. 2023, arXiv:2303.01500"
UNTESTED: Final = "definition: nothing is said of what was not tested"


def following(case: Case, rates: Rates | None, truncated: list[Finding], gap: list[Finding]) -> list[Next]:
    """Return what to try next, the most pressing first."""
    if rates is None or case.outcome is None:
        return []
    if rates.found.blocks < 2:
        return [_more_seeds(case, rates)]
    if truncated:
        return [_longer(one) for one in truncated[:1]]
    return [*_edges(case, rates), *_apart(case, rates), *_of_gap(case, rates, gap), *_report(case, rates)]


def _longer(one: Finding) -> Next:
    what = "Train all of them for longer, say twice as long, and ask again."
    return Next(what, "Over the last third of training the held-out score still got better.", one.number, LONGER)


def _more_seeds(case: Case, rates: Rates) -> Next:
    needed = seeds_needed(2.0, len(case.conditions) - 1, rates.level)
    what = f"Train {needed} seeds of each of the {case.plural}, the same seeds of all."
    return Next(what, "The seed is the unit: of one seed there is no interval.", f"{rates.found.blocks} seeds")


def _edges(case: Case, rates: Rates) -> Iterator[Next]:
    """Yield rates beyond those tested, where what cannot be told from the best reaches their end."""
    doses = [name for name in case.conditions if name in case.doses]
    if len(doses) < 2:
        return
    top, bottom = doses[-1], doses[0]
    if rates.is_inside(top) and case.doses[top] < 1.0:
        why = f"{case.at(top)} is the highest that was tested, and cannot be told from the best."
        yield Next(f"Test {case.plural} above {case.name(top)}: of these nothing is known.", why,
                   f"{case.at(top)}: {shown(rates.mean(top))}", UNTESTED)  # fmt: skip
    if rates.is_inside(bottom) and case.doses[bottom] > 0.0:
        why = f"{case.at(bottom)} is the lowest that was tested, and cannot be told from the best."
        yield Next(f"Test {case.plural} below {case.name(bottom)}, and 0: of these nothing is known.", why,
                   f"{case.at(bottom)}: {shown(rates.mean(bottom))}", UNTESTED)  # fmt: skip


def _apart(case: Case, rates: Rates) -> Iterator[Next]:
    """Yield more seeds, where several conditions cannot be told apart."""
    if len(rates.inside) < 2 or np.isnan(case.noise) or case.noise <= 0.0:
        return
    rivals, n = len(case.conditions) - 1, rates.found.blocks
    sd = case.noise * np.sqrt(2.0)
    seen = detectable(n, rivals, rates.level) * sd
    means = [rates.mean(name) for name in rates.inside]
    spread = max(means) - min(means)
    needed = seeds_needed(spread / sd, rivals, rates.level)
    what = f"Train more seeds only if differences below {shown(seen)} matter to you."
    count = f"about {needed} seeds" if needed is not None else "more than 1000 seeds"
    names = listed([case.name(name) for name in rates.inside])
    why = (f"{n} seeds find a difference of {shown(seen)} in 8 sweeps of 10; {names} lie within {shown(spread)}, and "
           f"to tell so much apart would take {count}.")  # fmt: skip
    yield Next(what, why, f"{shown(spread)}, sd of a seed's difference {shown(float(sd))}", "docs/advice.md, planning")


def _of_gap(case: Case, rates: Rates, gap: list[Finding]) -> Iterator[Next]:
    """Yield what a gap, or the lack of one, leaves to try."""
    tested = next((one for one in gap if one.tested), None)
    if tested is None or not case.axis:
        return
    zero, several = case.doses.get(case.lowest) == 0.0, len(case.dropouts) != 1
    if tested.found and zero and rates.inside == (case.lowest,):
        sites = "single sites, " if several else ""
        what = f"Test {sites}lower rates, or late dropout (an axis late:STEPS:*): of these nothing is known."
        yield Next(
            what, "There is a gap, and every rate above 0 that was tested is worse than 0.", tested.number, EARLY
        )
    elif tested.found and several and rates.inside != (case.lowest,):
        what = "Test single sites at the rates that are left, to learn which of them is needed."
        yield Next(
            what,
            "There is a gap, and rates above the lowest cannot be told from the best.",
            tested.number,
            "definition",
        )
    elif not tested.found and zero:
        what = "If the training loss is too high, test early dropout (an axis early:STEPS:*)."
        why = "No gap was found, and so nothing to regularise; early dropout is said to lower the training loss."
        yield Next(what, why, tested.number, EARLY)


def _report(case: Case, rates: Rates) -> Iterator[Next]:
    """Yield a fresh test, where one held-out set did for choosing and reporting."""
    if case.outcome is not None and case.outcome.same:
        what = "Report the rate that you take on data that were not used to choose it, on fresh seeds."
        name = rates.best
        number = f"{case.at(name)}: {shown(rates.mean(name))}" if name else ""
        yield Next(
            what, "Chosen and reported on the same held-out data, the best mean is optimistic.", number, "definition"
        )
