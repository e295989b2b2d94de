"""Rows of active measurements as runs hold them, those of each run's last one, and their means over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dropdiag.analysis.seeds import t_interval
from dropdiag.store.reader import Runs
from dropdiag.store.schema import base_and_x
from dropdiag.store.selection import NamesOrAll


def of_phase(runs: Runs, phase: str, conditions: NamesOrAll = None) -> pd.DataFrame:
    """Return what runs hold in the phase of a measurement, in the order in which it was recorded.

    Returns
    -------
    DataFrame
        Columns of `Runs.select`, with layer "" for the network as a whole; base and x: of "noisy_loss@0.1" the family
        and the parameter; NaN where there is none.
    """
    frame = runs.select(condition=conditions, phase=phase, missing_ok=True)
    families = [base_and_x(str(name)) for name in frame["quantity"]]
    return frame.assign(
        layer=frame["layer"].astype("object").where(frame["layer"].notna(), ""),
        base=[base for base, _ in families],
        x=np.array([np.nan if x is None else x for _, x in families], np.float64),
    )


def at_last(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each run's last step."""
    rows: pd.DataFrame = frame[frame["step"] == frame.groupby("run", sort=False)["step"].transform("max")]
    return rows


def means(frame: pd.DataFrame, by: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Average the values of runs.

    Parameters
    ----------
    frame : DataFrame
        One row a run and group.
    by : sequence of str
        Columns that name a group.
    level : float
        Coverage of the interval.

    Returns
    -------
    DataFrame
        Columns ``by``, mean, low, high (Student's t over runs; NaN for one run), sd, n (runs with a value), missing
        (runs without). Groups keep the order of first appearance.
    """
    rows = []
    for key, part in frame.groupby(list(by), sort=False, dropna=False):
        known = part["value"].to_numpy(np.float64)
        known = known[~np.isnan(known)]
        with np.errstate(invalid="ignore"):  # Inf - Inf
            sd = float(known.std(ddof=1)) if known.size > 1 else float("nan")
        rows.append((*key, *t_interval(known, level), sd, known.size, len(part) - known.size))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "sd", "n", "missing"])
