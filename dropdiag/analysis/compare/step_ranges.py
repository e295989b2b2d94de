"""Over which training steps two conditions are compared: the gradient flow falls as training goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

import pandas as pd

from dropdiag.analysis.compare.measures import FLOW_TERMS
from dropdiag.analysis.gradient_flow import Steps, per_window, shared_steps
from dropdiag.store.reader import Runs

StepRanges: TypeAlias = Mapping[frozenset[str], "StepRange"]

NOT_FINITE: Final = "not finite"
"""How a note ends that tells of values that are NaN or infinite."""
LOST: Final = 0.01
"""Share of the steps that may lack a finite value (mixed precision skips some); beyond it a run is left out."""


@dataclass(frozen=True)
class StepRange:
    """Training steps over which two conditions are compared.

    Attributes
    ----------
    until : int or None
        Last step that counts; None is all, for all runs are of one length.
    steps : int or None
        The same, or the length of all runs; None where it is not known.
    chosen : bool
        Whether some of these steps count, that were named.
    """

    until: int | None
    steps: int | None
    chosen: bool = False

    @property
    def note(self) -> str:
        """What an effect's note says; nothing where no step is left out."""
        asked = "over the training steps that were asked for" if self.chosen else ""
        if self.until is None or asked:
            return asked if self.until is None else f"{asked}, up to step {self.until:,}"
        return f"over the first {self.until:,} training steps, which the completed runs of both conditions share"


def step_ranges(runs: Runs, *, chosen: bool = False) -> dict[frozenset[str], StepRange]:
    """Find the step range of every two conditions.

    Parameters
    ----------
    runs : Runs
    chosen : bool
        Whether some steps were named, that alone count.

    Returns
    -------
    dict of frozenset of str to StepRange
        Both conditions' names -> the steps that their completed runs share (`gradient_flow.shared_steps`), whatever
        other conditions there are.
    """
    return {frozenset(pair): _step_range(runs, pair, chosen) for pair in combinations(runs.conditions, 2)}


def _step_range(runs: Runs, pair: tuple[str, str], chosen: bool) -> StepRange:
    # of these two conditions alone: a third one, trained for an epoch, must not cut what they are compared by
    until = shared_steps(runs, pair)
    lengths = {int(run.meta.get("steps") or 0) for run in runs if run.condition in pair} - {0}
    return StepRange(until, until or next(iter(lengths), None), chosen)


def within(values: pd.DataFrame, step_range: StepRange) -> pd.DataFrame:
    """Return the measured values of two conditions: of the gradient flow those of their step range."""
    at = values["until"].isna() if step_range.until is None else values["until"] == step_range.until
    return values[at | ~values["measure"].isin(["gradient_flow", *FLOW_TERMS.values()])]


def flows(runs: Runs, untils: Iterable[int | None], steps: Steps = None) -> pd.DataFrame:
    """Take the gradient flow over each step range; NaN for a run that cannot be compared over it, and a note why.

    Parameters
    ----------
    runs : Runs
    untils : iterable of int or None
        Last steps of the step ranges.
    steps : collection of int, or mapping of str to collection of int, optional
        The steps that count, for all runs or by the run's path.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, layer, call, value, steps, dropped, until, note. A run that has not reached the
        range's end is left out of it, and one that lacks more than `LOST` of its finite values.
    """
    frame = per_window(runs, sorted(set(untils), key=lambda until: until or 0), steps)
    lengths = {label: int(run.meta.get("steps") or 0) for label, run in zip(runs.labels(), runs, strict=True)}
    length, until = frame["run"].map(lengths), frame["until"].fillna(0).astype("int64")
    recorded = frame["steps"] + frame["dropped"]
    # a mean over fewer steps, or without those where it exploded, is another quantity: better none
    short, lost = (length > 0) & (length < until), frame["dropped"] > LOST * recorded
    columns = zip(frame["dropped"], recorded, length, until, lost, short, strict=True)
    notes = [_note(*numbers, lost=diverges, short=early) for *numbers, diverges, early in columns]
    return frame.assign(value=frame["mean"].mask(short | lost), note=notes)


def _note(dropped: int, recorded: int, length: int, until: int, *, lost: bool, short: bool) -> str:
    count = f"{dropped:,} of {recorded:,} gradients"
    if lost:
        return f"{count} are {NOT_FINITE}"
    if short:
        return f"at step {length:,} it has not reached step {until:,}"
    return f"without {count}, which are NaN or infinite" if dropped else ""


def diverged(runs: Runs, values: pd.DataFrame, broken: Mapping[str, Iterable[str]]) -> list[str]:
    """Name the runs that have diverged: what could be measured from their NaN or infinite numbers says nothing.

    Parameters
    ----------
    runs : Runs
    values : DataFrame
        As `dropdiag.analysis.compare.gather.gather` returns it; a note says what is not finite.
    broken : mapping of str to iterable of str
        What is not finite -> labels of runs, beside what the notes say.

    Returns
    -------
    list of str
        A sentence for each, with the path of the run.
    """
    lost = values[values["note"].str.endswith(NOT_FINITE)] if len(values) else values
    said = [(run, _measured_from(measure)) for measure, run in zip(lost["measure"], lost["run"], strict=True)]
    said += [(run, what) for what, labels in broken.items() for run in labels]
    found: dict[str, list[str]] = {}
    # several measures are taken from one thing, which is named once
    for run, what in dict.fromkeys(said):
        found.setdefault(run, []).append(what)
    paths = dict(zip(runs.labels(), (run.path for run in runs), strict=True))
    return [
        f"{path} has diverged: its {_listed(found[label])} are NaN or infinite, and it is left "
        "out of what is measured from them."
        for label, path in paths.items() if label in found
    ]  # fmt: skip


def _measured_from(measure: str) -> str:
    scalar = measure.partition(":")[2]
    if scalar:
        return f"last values of {scalar!r}"
    kinds = {**dict.fromkeys(["gradient_flow", *FLOW_TERMS.values()], "gradients"), "saturation_share": "net values"}
    return kinds.get(measure, "weights")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
