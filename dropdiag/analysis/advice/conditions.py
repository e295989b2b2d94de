"""Which conditions are set side by side: rates in their order, else conditions by name; and why others are not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import pandas as pd

from dropdiag.analysis.advice.gaaf import equal_budget, mean_steps
from dropdiag.analysis.baseline import WITHOUT, baseline_of
from dropdiag.analysis.compare.active import has_gaaf
from dropdiag.analysis.dose_response.axis import axis_of
from dropdiag.errors import ArgumentError, BaselineError
from dropdiag.store.reader import Runs

USUAL: Final = "rate"
"""The axis that is asked for where none is named: conditions without rates are then taken by name."""


@dataclass
class Chosen:
    """Conditions that are set side by side, and those that are not."""

    conditions: list[str] = field(default_factory=list)
    doses: dict[str, float] = field(default_factory=dict)
    gaafs: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def leave_out(self, condition: str, why: str) -> None:
        """Take a condition out of those that are set side by side."""
        self.conditions.remove(condition)
        self.left_out[condition] = why


def chosen(runs: Runs, x: str, axes: Collection[str] = ()) -> Chosen:
    """Order the conditions of runs by their number of ``x``; where they have none, the baseline first.

    Raises
    ------
    ArgumentError
        If ``x`` is none of the runs' numbers, is not the usual one, and is no axis of their sweep either.
    """
    found = Chosen(gaafs=[name for name in runs.conditions if _is_gaaf(runs, name)])
    plain = [run for run in runs if run.condition not in found.gaafs]
    found.doses = _doses(Runs(plain), x, found.remarks, sure=x == USUAL or x in axes) if plain else {}
    if found.doses:
        found.conditions = [*sorted(found.doses, key=found.doses.__getitem__), *found.gaafs]
        named = [name for name in runs.conditions if name not in found.conditions]
        found.left_out = dict.fromkeys(named, f"it has no {x}")
    else:
        found.conditions = _by_name(runs)
    return found


def _is_gaaf(runs: Runs, condition: str) -> bool:
    said = "gaaf" in condition.lower() and not WITHOUT.search(condition)
    return said or all(has_gaaf(run.meta) for run in runs if run.condition == condition)


def _doses(runs: Runs, x: str, remarks: list[str], *, sure: bool) -> dict[str, float]:
    """Return the number of each condition; none where several conditions have one, or one has several."""
    try:
        axis = axis_of(runs, x)
    except ArgumentError as error:
        if not sure:  # a misspelt key is no question of names
            raise
        if any(x in run.meta["config"] for run in runs):
            remarks.append(f"Conditions are compared by name and not by {x}: {str(error).rstrip('.')}.")
        return {}
    of_run = axis.values  # noqa: PD011 - a field, and no frame's
    labels = zip(runs.labels(), runs, strict=True)
    pairs = {(run.condition, of_run[label]) for label, run in labels if label in of_run}
    doses = dict(pairs)
    if len(doses) < len(pairs) or len(set(doses.values())) < len(doses):
        remarks.append(f"Conditions are compared by name and not by {x}: they differ by more than that.")
        return {}
    return doses


def _by_name(runs: Runs) -> list[str]:
    try:
        first = baseline_of(runs)
    except BaselineError:  # then none is spoken of as one
        return runs.conditions
    return [first, *(name for name in runs.conditions if name != first)]


def comparable(found: Chosen, ends: pd.DataFrame, diverged: Mapping[str, tuple[str, ...]]) -> None:
    """Leave out the conditions that cannot be set beside the others: diverged, hardly trained, at another budget."""
    counts = ends.dropna(subset=["chosen"]).groupby("condition", observed=True)["run"].nunique()
    for name in list(found.conditions):
        if name in diverged:
            found.leave_out(name, f"training diverged in {len(diverged[name])} of its runs")
        elif name not in counts:
            found.leave_out(name, "no completed run of it has the scalar that runs are judged by")
    most = max((int(counts[name]) for name in found.conditions), default=0)
    for name in list(found.conditions):
        if 2 * counts[name] < most:
            found.leave_out(
                name, f"it has {counts[name]} of {most} runs: with so few, none of the others could be told"
            )
    _at_one_budget(found, mean_steps(ends))


def _at_one_budget(found: Chosen, steps: Mapping[str, float]) -> None:
    others = [name for name in found.conditions if name not in found.gaafs]
    for name in [name for name in found.conditions if name in found.gaafs]:
        if others and not equal_budget(steps, name, others):
            found.leave_out(name, "it was trained for another number of steps")
    known = [steps[name] for name in others]
    if known and min(known) < 0.99 * max(known):
        told = ", ".join(f"{name!r} {steps[name]:,.0f}" for name in others)
        found.remarks.append(f"Conditions were trained for different numbers of steps, on average: {told}.")
