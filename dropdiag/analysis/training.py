"""A scalar over training: steps binned, averaged in each run, then over runs, without holding the rows of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.grouping import Groups
from dropdiag.analysis.select import as_text

RUN: Final = ["condition", "seed", "run"]
Read = Callable[[bool], Iterable[pd.DataFrame]]


def over_training(read: Read, by: Sequence[str], bins: int) -> pd.DataFrame:
    """Average values in bins of steps, per run and then over runs.

    Parameters
    ----------
    read : callable
        Yields frames of whole runs with columns condition, seed, run, phase, step, those of ``by``, value (NaN
        where it is left out) and dropped (bool). It is called twice: first with True, when only phase and step
        are needed, then with False.
    by : sequence of str
        Columns that name a curve.
    bins : int
        See `step_bins`; each phase has its own.

    Returns
    -------
    DataFrame
        Columns ``by``, bin, step (mean of the bin over rows, then over runs), mean and sd (of the runs' means;
        NaN for fewer than two), seeds (runs with a value), dropped (rows). Empty where nothing was read.
    """
    steps = _steps(read(True))
    numbers = {phase: step_bins(pd.Series(known), bins).to_numpy() for phase, known in steps.items()}
    keys = [*by, "bin"]
    parts = [_over_runs(_binned(frame, steps, numbers), by, keys) for frame in read(False)]
    return _merged(pd.concat(parts, ignore_index=True), keys) if parts else pd.DataFrame(columns=[*keys, "layer"])


def step_bins(steps: pd.Series[Any], bins: int) -> pd.Series[Any]:
    """Bin of each step: equal bins between the first and the last, or each step its own if they are few.

    Parameters
    ----------
    steps : Series of int
    bins : int

    Returns
    -------
    Series of int, same index
    """
    if steps.nunique() <= bins:
        return steps.rank(method="dense").astype("int64")
    first, last = steps.min(), steps.max()
    number: pd.Series[Any] = ((steps - first) * bins // (last - first + 1)).astype("int64")
    return number


def _steps(frames: Iterable[pd.DataFrame]) -> dict[str, NDArray[np.int64]]:
    """Return the steps of each phase, ascending."""
    found: dict[str, NDArray[np.int64]] = {}
    for frame in frames:
        groups = Groups(frame, ["phase", "step"])
        for phase, steps in frame.iloc[groups.first].groupby("phase", sort=False, observed=True)["step"]:
            found[str(phase)] = np.union1d(found.get(str(phase), np.empty(0, np.int64)), steps)
    return found


def _binned(
    frame: pd.DataFrame, steps: dict[str, NDArray[np.int64]], numbers: dict[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """Add the bin of each row; rows of steps that came after they were listed are left for the next time."""
    bins = np.full(len(frame), -1, np.int64)
    for phase, known in steps.items():
        here = np.flatnonzero(frame["phase"] == phase)
        values = frame["step"].to_numpy()[here]
        place = np.searchsorted(known, values).clip(max=len(known) - 1)
        bins[here] = np.where(known[place] == values, numbers[phase][place], -1)
    frame = frame.assign(bin=bins)
    return frame if (bins >= 0).all() else frame[bins >= 0]


def _over_runs(frame: pd.DataFrame, by: Sequence[str], keys: list[str]) -> pd.DataFrame:
    """Count and average the runs' means of each bin, and sum their squared deviations."""
    groups = Groups(frame, ["run", *(name for name in by if name not in RUN), "bin"])
    each = frame.iloc[groups.first][keys].reset_index(drop=True)
    step, value, dropped = groups.mean(frame["step"]), groups.mean(frame["value"]), groups.sum(frame["dropped"])
    over = Groups(each, keys)
    result = each.iloc[over.first].reset_index(drop=True).assign(
        runs=over.size(), step=over.mean(step), seeds=over.count(value), mean=over.mean(value),
        squares=over.squares(value), dropped=over.sum(dropped).astype(np.int64),
    )  # fmt: skip
    return as_text(result)


def _merged(parts: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Join what batches of runs gave: counts add, means are weighted, squares gain those between the means."""
    parts = parts.assign(step=parts["step"] * parts["runs"], total=(parts["mean"] * parts["seeds"]).fillna(0.0))
    groups = parts.groupby(keys, sort=False, dropna=False)
    sums = groups[["runs", "step", "seeds", "total", "dropped"]].transform("sum")
    between = parts["seeds"] * (parts["mean"] - sums["total"] / sums["seeds"]) ** 2
    parts = parts.assign(squares=parts["squares"] + between.fillna(0.0))
    result = parts.groupby(keys, sort=False, dropna=False)[
        ["runs", "step", "seeds", "total", "dropped", "squares"]
    ].sum().reset_index()  # fmt: skip
    seeds = result["seeds"]
    result["step"] = result["step"] / result.pop("runs")
    result["mean"] = result.pop("total") / seeds.where(seeds > 0)
    result["sd"] = np.sqrt(result.pop("squares") / (seeds - 1).where(seeds > 1))
    return result
