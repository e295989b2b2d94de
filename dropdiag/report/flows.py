"""The table of the gradient flow: the numbers of the comparison, so that a page has one of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pandas as pd

from dropdiag.analysis import gradient_flow
from dropdiag.formatting import LOG_RATIO, whole
from dropdiag.report.cells import SITE, Column, Table, effect, integers, numbers
from dropdiag.report.cells import table as table_of
from dropdiag.store.reader import Runs

NAME: Final = "gradient_flow"
ALL: Final = "Over all recorded training steps."


def table(runs: Runs, comparison: Any, baseline: str | None, keep: Callable[[str], bool]) -> Table:
    """Return means and ratios of the gradient flow, and say over which steps.

    Parameters
    ----------
    runs : Runs
    comparison : Comparison or None
        Its effects are taken, where it has this measure.
    baseline : str or None
    keep : callable
        Whether a layer is wanted.

    Raises
    ------
    NotRecordedError
        If no run holds it.
    """
    if comparison is not None:
        rows = comparison.table[comparison.table["measure"] == NAME]
        if len(rows):
            return _compared(rows[rows["layer"].map(keep).astype(bool)], str(comparison.baseline))
    # a run that stopped early would otherwise be averaged over its steep beginning alone
    until = gradient_flow.shared_steps(runs, runs.conditions)
    # no ratio is shown here, so any condition will do where the baseline is not known
    beside = runs.conditions[0] if baseline is None else baseline
    frame = gradient_flow.table(runs, until=until, baseline=beside)
    frame = frame[frame["layer"].map(keep).astype(bool)]
    columns = [*SITE, numbers("Mean", "mean", ".2e"), integers("Seeds", "seeds"), integers("Steps", "steps")]
    shared = f"Over the first {whole(until)} training steps, which all completed runs have."
    note = ALL if until is None else shared
    return table_of("Gradient flow, mean over training (sd over seeds)", frame.to_dict("records"), columns, note)


def _compared(rows: pd.DataFrame, baseline: str) -> Table:
    ratio: Column = f"Ratio to {baseline}", lambda row: effect(row, ratio=row["scale"] == LOG_RATIO)
    columns = [*SITE, numbers("Mean", "value", ".2e"), numbers(f"Mean of {baseline}", "baseline_value", ".2e"), ratio,
               integers("Seeds", "n"), integers(f"Seeds of {baseline}", "n_baseline")]  # fmt: skip
    return table_of("Gradient flow, mean over training", rows.to_dict("records"), columns, _window(rows))


def _window(rows: pd.DataFrame) -> str:
    """Say over which steps: what the comparison notes, once for all, or for each condition that differs."""
    told: dict[str, list[str]] = {}
    for condition, part in rows.groupby("condition", sort=False):
        notes = list(dict.fromkeys(filter(None, part["note"].fillna("").astype(str))))
        told["; ".join(notes)] = [*told.get("; ".join(notes), []), str(condition)]
    if len(told) == 1:
        return _sentence(next(iter(told)))
    return " ".join(f"{', '.join(names)}: {_sentence(note)}" for note, names in told.items())


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:].rstrip('.')}." if note else ALL
