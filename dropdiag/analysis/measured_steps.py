"""Which of several measurements in the course of training count."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Final, TypeAlias

import pandas as pd

from dropdiag.analysis.measured_rows import at_last
from dropdiag.analysis.select import SITE
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.formatting import some

Steps: TypeAlias = int | tuple[int, int] | str | None
ALL: Final = "all"
SERIES: Final = [*SITE, "quantity"]


def at_steps(frame: pd.DataFrame, step: Steps = None) -> pd.DataFrame:
    """Choose measurements by their steps: a row a run, site and quantity, but for "all".

    Parameters
    ----------
    frame : DataFrame
        As `dropdiag.analysis.measured.values` returns it.
    step : int or (int, int) or "all", optional
        As in `dropdiag.analysis.measured.table`.

    Returns
    -------
    DataFrame
        The same columns. Of several steps value and step are means, over the steps that most runs of every condition
        have in common; the value is missing where one of them is.

    Raises
    ------
    ArgumentError, NotRecordedError
        If ``step`` is none of these, or nothing was measured there.

    Warns
    -----
    DropdiagWarning
        As in `dropdiag.analysis.measured.table`.
    """
    if isinstance(step, str):
        if step != ALL:
            raise ArgumentError(f"step= takes a step, (first, last), 'all' or None for the last one, got {step!r}")
        return frame
    if step is None:
        return _last(frame)
    first, last = step if isinstance(step, tuple) else (step, step)
    inside = frame[frame["step"].between(first, last)]
    if inside.empty:
        where = f"at step {first:,}" if first == last else f"from step {first:,} to {last:,}"
        known = ", ".join(f"{one:,}" for one in sorted(frame["step"].unique()))
        raise NotRecordedError(f"nothing was measured {where}; there are steps {known}")
    return _mean_of(inside)


def common_steps(frame: pd.DataFrame) -> list[int]:
    """Return the steps that at least half of the runs of every condition have, ascending.

    Parameters
    ----------
    frame : DataFrame
        Columns condition, run, step.
    """
    held = []
    for _, part in frame.groupby("condition", sort=False):
        counts = part.drop_duplicates(["run", "step"])["step"].value_counts()
        held.append({int(one) for one in counts.index[counts >= 0.5 * part["run"].nunique()]})
    return sorted(set.intersection(*held)) if held else []


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    ends = frame.groupby("run", sort=False)["step"].max()
    early = ends[ends < ends.max()]
    if len(early):
        _warn(f"the last measurements are not of one step: {_named(early.index)} end before step {ends.max():,}; "
              "choose a step that all have with step=")  # fmt: skip
    return at_last(frame).reset_index(drop=True)


def _mean_of(frame: pd.DataFrame) -> pd.DataFrame:
    steps = common_steps(frame)
    if not steps:
        raise NotRecordedError("no step of these was measured in most runs of every condition; choose one with step=")
    frame = frame[frame["step"].isin(steps)]
    held = frame.groupby("run", sort=False)["step"].nunique()
    lacking = held.index[held < len(steps)]
    if len(lacking):
        _warn(f"left out, for they lack some of the steps {', '.join(f'{one:,}' for one in steps)}: {_named(lacking)}")
        frame = frame[~frame["run"].isin(lacking)]
    groups = frame.groupby(["run", *SERIES], sort=False)
    # a mean over fewer steps than those of other runs is another quantity: one missing value makes it missing
    mean = groups["value"].transform(lambda part: part.mean(skipna=False))
    step = groups["step"].transform("mean")
    return frame.assign(value=mean, step=step).drop_duplicates(["run", *SERIES]).reset_index(drop=True)


def _named(runs: Collection[str]) -> str:
    return some([str(one) for one in runs])


def _warn(message: str) -> None:
    warnings.warn(message, DropdiagWarning, stacklevel=5)
