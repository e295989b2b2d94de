"""Over which training steps two conditions are compared: the gradient flow falls as training goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

import pandas as pd

from dropdiag.analysis.gradient_flow import per_window, shared_steps
from dropdiag.store.reader import Runs

Windows: TypeAlias = Mapping[frozenset[str], "Window"]

NOT_FINITE: Final = "not finite"
"""How a note ends that tells of values that are NaN or infinite."""
LOST: Final = 0.01
"""Share of the steps that may lack a finite value (mixed precision skips some); beyond it a run is left out."""


@dataclass(frozen=True)
class Window:
    """Training steps over which two conditions are compared.

    Attributes
    ----------
    until : int or None
        Last step that counts; None is all, for all runs are of one length.
    steps : int or None
        The same, or the length of all runs; None where it is not known.
    """

    until: int | None
    steps: int | None

    @property
    def note(self) -> str:
        """What an effect's note says; nothing where no step is left out."""
        if self.until is None:
            return ""
        return f"over the first {self.until:,} training steps, which the completed runs of both conditions share"


def windows(runs: Runs) -> dict[frozenset[str], Window]:
    """Find the window of every two conditions.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    dict of frozenset of str to Window
        Both conditions' names -> the steps that their completed runs share (`gradient_flow.shared_steps`), whatever
        other conditions there are.
    """
    return {frozenset(pair): _window(runs, pair) for pair in combinations(runs.conditions, 2)}


def _window(runs: Runs, pair: tuple[str, str]) -> Window:
    until = shared_steps(runs, pair)
    lengths = {int(run.meta.get("steps") or 0) for run in runs if run.condition in pair} - {0}
    return Window(until, until or next(iter(lengths), None))


def within(values: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return the measured values of two conditions: of the gradient flow those of their window alone."""
    at = values["until"].isna() if window.until is None else values["until"] == window.until
    return values[at | (values["measure"] != "gradient_flow")]


def flows(runs: Runs, untils: Iterable[int | None]) -> pd.DataFrame:
    """Take the gradient flow over each window; NaN for a run that cannot be compared over it, and a note why.

    Parameters
    ----------
    runs : Runs
    untils : iterable of int or None
        Last steps of the windows.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, layer, call, value, steps, dropped, until, note. A run that has not reached the
        window's end is left out of it, and one that lacks more than `LOST` of its finite values.
    """
    frame = per_window(runs, sorted(set(untils), key=lambda until: until or 0))
    lengths = {label: int(run.meta.get("steps") or 0) for label, run in zip(runs.labels(), runs, strict=True)}
    length, until = frame["run"].map(lengths), frame["until"].fillna(0).astype("int64")
    recorded = frame["steps"] + frame["dropped"]
    short, lost = (length > 0) & (length < until), frame["dropped"] > LOST * recorded
    counts = [
        f"{dropped:,} of {of:,} gradients" if dropped else ""
        for dropped, of in zip(frame["dropped"], recorded, strict=True)
    ]
    notes = [
        f"{count} are {NOT_FINITE}" if diverged
        else f"at step {at:,.0f} it has not reached step {end:,}" if early
        else f"without {count}, which are NaN or infinite" if count
        else ""
        for count, at, end, diverged, early in zip(counts, length, until, lost, short, strict=True)
    ]  # fmt: skip
    return frame.assign(value=frame["mean"].mask(short | lost), note=notes)
