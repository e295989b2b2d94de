"""What a figure of a response draws: the runs' points, the means over seeds, and the line of the trend."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis.dose_response.responses import Response
from dropdiag.analysis.seeds import t_interval

POINTS: Final = ["seed", "dose", "value"]
LINES: Final = ["dose", "value", "low", "high"]
ALONG: Final = 41
"""Places along the doses at which a trend's line is taken."""


def points_of(one: Response) -> pd.DataFrame:
    """Return columns seed, dose, value: a row a run, NaN where it has no value."""
    rows = [(seed, dose, float(value)) for seed, row in zip(one.seeds, one.values, strict=True)
            for dose, value in zip(one.doses, row, strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=POINTS)


def means_of(one: Response) -> pd.DataFrame:
    """Return columns dose, value: the mean of all runs there (geometric, for a measure that is compared by ratios)."""
    logs = one.measure.logs
    columns = [column[np.isfinite(column)] for column in one.scaled.T]
    means = np.array([column.mean() if column.size else np.nan for column in columns])
    return pd.DataFrame({"dose": one.doses, "value": np.exp(means) if logs else means})


def line_of(one: Response, alpha: float = 0.05) -> pd.DataFrame:
    """Return columns dose, value, low, high: the mean of the seeds' own straight lines along the doses.

    Straight on the measure's scale, and over the logarithms of doses that are taken by these. The interval is
    Student's over the seeds with a value at every dose, at each place alone; without two of them it is NaN, without any
    there is no row.
    """
    y = one.scaled[np.isfinite(one.scaled).all(axis=1)]
    if not len(y) or len(one.doses) < 2:
        return pd.DataFrame(columns=LINES, dtype="float64")
    along = np.linspace(one.places[0], one.places[-1], ALONG)
    fits = np.polynomial.polynomial.polyfit(one.places, y.T, 1)
    seeds = np.polynomial.polynomial.polyval(along, fits)
    numbers = np.array([t_interval(values, 1.0 - alpha) for values in seeds.T])
    if one.measure.logs:
        with np.errstate(over="ignore"):  # the interval of two seeds may reach to infinity
            numbers = np.exp(numbers)
    doses = along if np.array_equal(one.doses, one.places) else 10.0**along
    return pd.DataFrame(np.column_stack([doses, numbers]), columns=LINES)
