"""Runs of one condition that hold the same numbers: one training, however often it is there, is one replicate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.lenient import Problems
from dropdiag.store.reader import Run, Runs, add_problem
from dropdiag.store.schema import UNCOMPARED

_SITE = ["measure", "layer", "call", "until"]


class Distinct(NamedTuple):
    """Runs, each with numbers of its own, and what was measured of them."""

    runs: Runs
    values: pd.DataFrame
    histograms: pd.DataFrame
    series: pd.DataFrame


def distinct(
    runs: Runs, values: pd.DataFrame, histograms: pd.DataFrame, series: pd.DataFrame, problems: Problems
) -> Distinct:
    """Leave out runs whose recorded numbers are those of another run of their condition, to the last digit.

    Copies of a folder are known by the run's identifier when they are opened (`dropdiag.store.reader.open_runs`). What
    is found here are trainings that were the same although they were recorded anew: a seed that was written into the
    config but never set, or set twice.

    Parameters
    ----------
    runs : Runs
    values, histograms, series : DataFrame
        As `dropdiag.analysis.compare.gather.gather` returns them.
    problems : list of str
        A sentence for each run that is left out is added.

    Returns
    -------
    Distinct
        Labels are those of the runs that are left.

    Notes
    -----
    Runs that have one measured number in common have others that differ; so only where all measures agree is every
    recorded number read and compared, but for times.
    """
    labels = runs.labels()
    firsts: dict[tuple[str, bytes], list[int]] = {}
    copied: set[int] = set()
    seen = _numbers(values)
    for place, (run, label) in enumerate(zip(runs, labels, strict=True)):
        known = seen.get(label)
        if known is None:
            continue
        alike = firsts.setdefault((run.condition, known), [])
        first = next((one for one in alike if _same(runs[one], run)), None)
        if first is None:
            alike.append(place)
            continue
        copied.add(place)
        add_problem(problems, _sentence(run, runs[first]))
    if not copied:
        return Distinct(runs, values, histograms, series)
    kept = Runs([run for place, run in enumerate(runs) if place not in copied], ordered=runs.ordered)
    left = [label for place, label in enumerate(labels) if place not in copied]
    # a label depends on the runs beside it
    names = dict(zip(left, kept.labels(), strict=True))
    return Distinct(kept, *(_of(frame, names) for frame in (values, histograms, series)))


def _numbers(values: pd.DataFrame) -> dict[str, bytes]:
    """Return what was measured of each run, in one order; nothing of a run without any number."""
    rows = values.sort_values(_SITE, kind="stable")
    places = rows.groupby(_SITE, sort=False, dropna=False).ngroup().to_numpy()
    table = np.column_stack([places.astype(np.float64), rows["value"].to_numpy(np.float64)])
    finite = np.isfinite(table[:, 1])
    groups = rows.groupby("run", sort=False).indices
    return {str(run): table[where].tobytes() for run, where in groups.items() if finite[where].any()}


def _same(one: Run, other: Run) -> bool:
    """Whether two runs have recorded the same numbers, but for times and counts."""
    mine, theirs = (_recorded(run) for run in (one, other))
    return len(mine) > 0 and mine.equals(theirs)


def _recorded(run: Run) -> pd.DataFrame:
    rows = run.select()
    told = {name for name, quantity in run.quantities.items() if quantity.scale == UNCOMPARED}
    kept = rows[~rows["quantity"].isin(told)]
    by = ["quantity", "phase", "step", "layer", "call"]
    return kept[[*by, "value"]].sort_values(by, kind="stable").reset_index(drop=True)


def _sentence(run: Run, first: Run) -> str:
    seeds = f"its seed is said to be {run.seed}, and that one's {first.seed}"
    said = (
        seeds if run.seed != first.seed else "both have the same seed" if run.seed is not None else "neither has a seed"
    )
    return f"{run.path} holds the very numbers of {first.path} ({said}): they are one training, and it counts once."


def _of(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    rows = frame[frame["run"].isin(names)]
    return rows.assign(run=rows["run"].map(names)).reset_index(drop=True)
