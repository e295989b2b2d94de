"""How much gradient flows through a layer? Figure 3 and Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dropdiag.analysis.seeds import over_seeds, paired_ratio
from dropdiag.analysis.select import GROUP, SITE, by_step, check, scalars
from dropdiag.store.reader import Run, Runs, as_runs

QUANTITY = "net_grad_abs_mean"
RUN = ["condition", "seed", "run", "layer", "call"]


def table(
    runs: Run | Runs,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    baseline: str | None = None,
    quantity: str = QUANTITY,
) -> pd.DataFrame:
    """Gradient flow averaged over all recorded training steps, and its ratio to a baseline.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    baseline : str, optional
        Condition that the ratios refer to; the first one by default.
    quantity : str
        ``"net_grad_abs_mean"`` (mean |dL/dz|) or another positive scalar that was recorded in training.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; mean (over steps, then over runs; loss
        units per net-value unit) and mean_sd (over runs); seeds; missing (runs without any value); steps
        (recorded, of one run on average); dropped (missing values left out, of all runs); baseline; ratio
        (geometric mean of the ratios of paired seeds), ratio_low, ratio_high (95 % t interval on the log
        ratio, NaN for fewer than two pairs), pairs.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.scalars`; also for an unknown baseline.

    Notes
    -----
    A mean over training depends on how long training lasted: the gradient falls as the loss does. Compare
    runs of one length. It also scales with the batch when the loss is averaged over it.
    """
    frame = per_run(runs, layers=layers, conditions=conditions, quantity=quantity)
    known = list(as_runs(runs).conditions)
    base = check("condition", None if baseline is None else [baseline], known)[0]
    reference = per_run(runs, layers=layers, conditions=[base], quantity=quantity)
    summary = over_seeds(frame, GROUP, ["mean"])
    counts = frame.groupby(GROUP, sort=False).agg(steps=("steps", "mean"), dropped=("dropped", "sum"))
    summary = summary.merge(counts.reset_index(), on=GROUP).assign(baseline=base)
    ratios = [paired_ratio(_rows(frame, key), _rows(reference, {**key, "condition": base}), "mean")
              for key in summary[GROUP].to_dict("records")]  # fmt: skip
    return pd.concat([summary, pd.DataFrame(ratios)], axis=1)


def per_run(
    runs: Run | Runs,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    quantity: str = QUANTITY,
) -> pd.DataFrame:
    """Gradient flow of each run, averaged over all its recorded training steps.

    Parameters
    ----------
    runs, layers, conditions, quantity
        As in `table`.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, layer, call, mean, steps (with a value), dropped (missing or infinite
        values).
    """
    frame = scalars(runs, quantity, phase="train", layers=layers, conditions=conditions)
    frame = frame.assign(value=frame["value"].where(np.isfinite(frame["value"])))
    groups = frame.groupby(RUN, sort=False, dropna=False)["value"]
    result = groups.agg(mean="mean", steps="count", rows="size").reset_index()
    result["dropped"] = result.pop("rows") - result["steps"]
    return result


def curves(
    runs: Run | Runs,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    quantity: str = QUANTITY,
    bins: int = 80,
) -> pd.DataFrame:
    """Gradient flow over training: steps binned and averaged on the log scale, with a band over runs.

    Parameters
    ----------
    runs, layers, conditions, quantity
        As in `table`.
    bins : int
        Equal bins of steps; fewer recorded steps than this are left as they are.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, step (mean of the bin), value (geometric mean over the bin's steps,
        then over runs), low, high (value times and divided by the geometric standard deviation over runs; NaN
        for one run), seeds, dropped (missing, infinite or not positive values, which have no logarithm),
        by step. Bins without any value, such as those of a frozen layer, have no row.
    """
    frame = scalars(runs, quantity, phase="train", layers=layers, conditions=conditions)
    frame = frame.assign(bin=step_bins(frame["step"], bins))
    usable = np.isfinite(frame["value"]) & (frame["value"] > 0.0)
    frame = frame.assign(log=np.log(frame["value"].where(usable)), dropped=~usable)
    each = frame.groupby([*RUN, "bin"], sort=False, dropna=False).agg(
        step=("step", "mean"), log=("log", "mean"), dropped=("dropped", "sum")
    )
    groups = each.reset_index().groupby([*GROUP, "bin"], sort=False)
    result = groups.agg(step=("step", "mean"), log=("log", "mean"), sd=("log", "std"), seeds=("log", "count"))
    result["dropped"] = groups["dropped"].sum()
    result["value"] = np.exp(result["log"])
    result["low"], result["high"] = np.exp(result["log"] - result["sd"]), np.exp(result["log"] + result["sd"])
    result = by_step(result[result["seeds"] > 0].reset_index(), GROUP)
    return result[[*GROUP, "step", "value", "low", "high", "seeds", "dropped"]]


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


def _rows(frame: pd.DataFrame, key: dict[Any, Any]) -> pd.DataFrame:
    same = (frame["condition"] == key["condition"]) & (frame[SITE] == [key["layer"], key["call"]]).all(axis=1)
    rows: pd.DataFrame = frame[same]
    return rows
