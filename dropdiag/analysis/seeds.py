"""Statistics over runs: the seed is the unit, not the weight, the node or the step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit


def over_seeds(frame: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over the rows (one a run) of each group.

    Parameters
    ----------
    frame : DataFrame
        One row a run and group.
    by : sequence of str
        Columns that name a group.
    values : sequence of str
        Numeric columns. A missing value (null, NaN) is left out, never taken for zero.

    Returns
    -------
    DataFrame
        Columns ``by``; for each value its mean and, under ``<value>_sd``, its standard deviation over runs
        (divisor n - 1; NaN for one run); ``seeds``, the runs of the group; ``missing``, the runs in which at
        least one of the values is missing. Groups keep the order of first appearance.
    """
    names = list(values)
    numbers = frame[names].astype("float64")
    keys = [frame[name] for name in by]
    groups = numbers.groupby(keys, sort=False, dropna=False)
    mean, sd = groups.mean(), groups.std(ddof=1)
    columns = {column: part[name] for name in names for column, part in ((name, mean), (f"{name}_sd", sd))}
    missing = numbers.isna().any(axis=1).groupby(keys, sort=False, dropna=False).sum()
    return pd.DataFrame({**columns, "seeds": groups.size(), "missing": missing}).reset_index()


def t_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its two-sided Student t interval.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        Independent replicates, one a seed; NaN is left out.
    level : float
        Coverage, if the replicates are normal.

    Returns
    -------
    mean, low, high : float
        The interval is NaN for fewer than two replicates, the mean for none.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    if x.size == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(x.mean())
    if x.size < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(x.size - 1, 0.5 + level / 2.0) * x.std(ddof=1) / np.sqrt(x.size))
    return mean, mean - half, mean + half


def paired_ratio(values: pd.DataFrame, baseline: pd.DataFrame, column: str) -> dict[str, float]:
    """Ratio to a baseline, paired by seed: the geometric mean of the ratios and its t interval.

    Parameters
    ----------
    values, baseline : DataFrame
        One row a run, with columns ``seed`` and ``column`` (positive). A pair is a seed that occurs once in
        each; where neither has any seed and both are one run, these two are the pair.
    column : str

    Returns
    -------
    dict
        ratio, ratio_low, ratio_high (95 %, on the log ratio; NaN for fewer than two pairs), pairs.
    """
    left, right = (_by_seed(frame, column) for frame in (values, baseline))
    both = pd.concat([left, right], axis=1, join="inner").dropna()
    both = both[(both > 0.0).all(axis=1)]
    mean, low, high = t_interval(np.log(both.iloc[:, 0].to_numpy() / both.iloc[:, 1].to_numpy()))
    return {"ratio": np.exp(mean), "ratio_low": np.exp(low), "ratio_high": np.exp(high), "pairs": len(both)}


def _by_seed(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    """Values by seed; a missing seed is a label of its own, a seed that occurs twice is no pair."""
    seed = frame["seed"].astype("Float64").fillna(-1.0).astype("float64")
    values = pd.Series(frame[column].to_numpy(dtype=np.float64), index=seed)
    return values[~values.index.duplicated(keep=False)]
