"""How much gradient flows through a layer? Figure 3 and Table 2."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from dropdiag.analysis.baseline import likely
from dropdiag.analysis.scalar import of_one_phase
from dropdiag.analysis.seeds import over_seeds, pair_by_seed, ratio_to_baseline
from dropdiag.analysis.select import GROUP, SITE, check, in_order, pushed_down
from dropdiag.analysis.training import Part, finite, parts, sums
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import TRAIN
from dropdiag.store.selection import Names, NamesOrAll

QUANTITY = "net_grad_abs_mean"


def table(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    baseline: str | None = None,
    quantity: str = QUANTITY,
    until: int | None = None,
) -> pd.DataFrame:
    """Gradient flow averaged over all recorded training steps, and its ratio to a baseline.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    baseline : str, optional
        Condition that the ratios refer to; by default the one whose name says so, as in `dropdiag.compare`, else the
        first one.
    quantity : str
        ``"net_grad_abs_mean"`` (mean |dL/dz|) or another positive scalar that was recorded in training.
    until : int, optional
        Last step that counts; all by default. With that of the shortest run, runs of different lengths compare.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; mean (over steps, then over runs; loss
        units per net-value unit) and mean_sd (over runs); seeds; missing (runs without any value); steps
        (recorded, of one run on average); dropped (missing values left out, of all runs); baseline; ratio
        (of the geometric means over seeds), ratio_low, ratio_high (95 % t interval on the log ratio, NaN for fewer
        than two runs on a side), pairs (of seeds; 0 where the seeds do not pair and the runs are taken as independent
        samples, as in `dropdiag.compare`).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.scalars`; also for an unknown baseline.

    Notes
    -----
    A mean over training depends on how long training lasted: the gradient falls as the loss does. Compare
    runs of one length, or the part that they have in common (`until`). It also scales with the batch when the
    loss is averaged over it.
    """
    frame = per_run(runs, layers=layers, conditions=conditions, quantity=quantity, until=until)
    known = list(as_runs(runs).conditions)
    base = likely(known) if baseline is None else check("condition", [baseline], known)[0]
    if (frame["condition"] == base).any():
        reference = frame[frame["condition"] == base]
    else:
        reference = per_run(runs, layers=layers, conditions=[base], quantity=quantity, until=until)
    # the spread over runs is on the means themselves, the ratio on their logarithms
    summary = over_seeds(frame, GROUP, ["mean"])
    counts = frame.groupby(GROUP, sort=False).agg(steps=("steps", "mean"), dropped=("dropped", "sum"))
    summary = summary.merge(counts.reset_index(), on=GROUP).assign(baseline=base)
    pairings = {name: pair_by_seed(as_runs(runs), name, base) for name in summary["condition"].unique()}
    both = pd.concat([reference, frame]).groupby(SITE, sort=False)
    values = {site: dict(zip(part["run"], part["mean"], strict=True)) for site, part in both}
    ratios = [ratio_to_baseline(values[layer, call], pairings[condition])
              for condition, layer, call in summary[GROUP].itertuples(index=False)]  # fmt: skip
    return pd.concat([summary, pd.DataFrame(ratios)], axis=1)


def shared_steps(runs: Run | Runs, conditions: Sequence[str]) -> int | None:
    """Return the last training step that all completed runs of some conditions have.

    Parameters
    ----------
    runs : Run or Runs
    conditions : sequence of str

    Returns
    -------
    int or None
        None where they are all of one length, so that no step has to be left out. Runs that are not completed do not
        shorten the others; where none is completed, all count.
    """
    chosen = [run for run in as_runs(runs) if run.condition in conditions]
    completed = [run for run in chosen if run.meta["state"] == "completed"]
    lasts = {int(run.meta.get("steps") or 0) for run in completed or chosen} - {0}
    return min(lasts) if len({int(run.meta.get("steps") or 0) for run in chosen} - {0}) > 1 and lasts else None


def per_run(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    quantity: str = QUANTITY,
    until: int | None = None,
) -> pd.DataFrame:
    """Gradient flow of each run, averaged over its recorded training steps.

    Parameters
    ----------
    runs, layers, conditions, quantity, until
        As in `table`.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, layer, call, mean, steps (with a value), dropped (missing or infinite
        values).
    """
    return _averaged(runs, quantity, [until], layers, conditions).drop(columns="until")


def per_window(runs: Run | Runs, untils: Collection[int | None]) -> pd.DataFrame:
    """Gradient flow of each run over the training steps up to each of several last ones, read once.

    Parameters
    ----------
    runs : Run or Runs
    untils : collection of int or None
        Last steps that count; None is all.

    Returns
    -------
    DataFrame
        As `per_run`, with a column ``until`` (NaN for None), a row a run, site and window.

    Raises
    ------
    NotRecordedError
        If no run holds the gradient flow.
    """
    return _averaged(runs, QUANTITY, untils, None, None)


def curves(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
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
        for one run), seeds, runs (see `dropdiag.analysis.scalar.curves`), dropped (missing, infinite or not positive
        values, which have no logarithm), by step. Bins without any value, such as those of a frozen layer, have no row.
    """
    result = of_one_phase(runs, quantity, TRAIN, layers=layers, conditions=conditions, log=True, bins=bins)
    result = result[result["seeds"] > 0].reset_index(drop=True)
    return result[[*GROUP, "step", "value", "low", "high", "seeds", "runs", "dropped"]]


def _averaged(
    runs: Run | Runs, quantity: str, untils: Collection[int | None], layers: NamesOrAll, conditions: NamesOrAll
) -> pd.DataFrame:
    """Mean over the steps of each run and site, up to each of several last steps."""
    every = as_runs(runs)

    def gather(layer: Names, condition: Names) -> pd.DataFrame:
        chosen = {"condition": condition, "phase": TRAIN, "layer": layer}
        found = parts(every, quantity, finite, **chosen)
        return in_order(every, [_means(part, until) for part in found for until in untils])

    return pushed_down(runs, quantity, gather, layers=layers, conditions=conditions)


def _means(part: Part, until: int | None) -> pd.DataFrame:
    """Mean over the steps of each run and site, run by run."""
    found = sums(part.rows(part.keys["step"].to_numpy() <= (np.inf if until is None else until)), SITE)
    shape = (len(part.runs), len(found.keys))
    rows, known = (np.broadcast_to(one, shape) for one in (found.rows, found.known))
    run, site = np.nonzero(rows)  # run by run, as frames of scalars are
    who, where = (frame.iloc[at].reset_index(drop=True) for frame, at in ((part.runs, run), (found.keys, site)))
    with np.errstate(invalid="ignore"):
        means = found.total / known
    return pd.concat([who, where], axis=1).assign(
        mean=means[run, site], steps=known[run, site].astype(np.int64),
        dropped=(rows - known)[run, site].astype(np.int64), until=np.nan if until is None else float(until),
    )  # fmt: skip
