"""How much gradient flows through a layer? Figure 3 and Table 2."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from dropdiag.analysis.baseline import baseline_of
from dropdiag.analysis.equal_loss import equal_loss, losses_of
from dropdiag.analysis.scalar import of_one_phase
from dropdiag.analysis.seeds import over_seeds, pair_by_seed, ratio_to_baseline
from dropdiag.analysis.select import GROUP, SITE, check, in_order, pushed_down, scalars
from dropdiag.analysis.training import Part, finite, parts, sums
from dropdiag.errors import BaselineError, DropdiagWarning
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import TRAIN
from dropdiag.store.selection import Names, NamesOrAll

QUANTITY = "net_grad_abs_mean"
Steps: TypeAlias = Collection[int] | Mapping[str, Collection[int]] | None
"""Training steps that count, for all runs or by the run's path; None: all."""


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
        Condition that the ratios refer to; by default as in `dropdiag.compare`. Where that leaves it open, there are
        no ratios.
    quantity : str
        ``"net_grad_abs_mean"`` (mean |dL/dz|) or another positive scalar that was recorded in training.
    until : int, optional
        Last step that counts; all by default. With that of the shortest run, runs of different lengths compare.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; mean (over steps, then over runs; loss
        units per net-value unit) and mean_sd (over runs); seeds; missing (runs without any value); steps
        (recorded, of one run on average); dropped (missing values left out, of all runs); baseline (None where it is
        not known, and ratio, ratio_low and ratio_high are then NaN, pairs 0); ratio
        (of the geometric means over seeds), ratio_low, ratio_high (95 % t interval on the log ratio, NaN for fewer
        than two runs on a side), pairs (of seeds; 0 where the seeds do not pair and the runs are taken as independent
        samples, as in `dropdiag.compare`).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.scalars`; also for an unknown baseline.

    Warns
    -----
    DropdiagWarning
        If nothing says which of several conditions is the baseline.

    Notes
    -----
    A mean over training depends on how long training lasted: the gradient falls as the loss does. Compare
    runs of one length, or the part that they have in common (`until`). It also scales with the batch when the
    loss is averaged over it.

    Examples
    --------
    >>> table = dd.analysis.gradient_flow.table(runs, baseline="No dropout")
    >>> table[["condition", "layer", "steps", "seeds"]]
        condition layer  steps  seeds
    0  No dropout  act1   10.0      3
    1  No dropout  act2   10.0      3
    2     Dropout  act1   10.0      3
    3     Dropout  act2   10.0      3
    """
    frame = per_run(runs, layers=layers, conditions=conditions, quantity=quantity, until=until)
    base = _baseline(as_runs(runs), baseline)
    # the spread over runs is on the means themselves, the ratio on their logarithms
    summary = over_seeds(frame, GROUP, ["mean"])
    counts = frame.groupby(GROUP, sort=False).agg(steps=("steps", "mean"), dropped=("dropped", "sum"))
    summary = summary.merge(counts.reset_index(), on=GROUP).assign(baseline=base)
    if base is None:
        return summary.assign(ratio=np.nan, ratio_low=np.nan, ratio_high=np.nan, pairs=0)
    if (frame["condition"] == base).any():
        reference = frame[frame["condition"] == base]
    else:
        reference = per_run(runs, layers=layers, conditions=[base], quantity=quantity, until=until)
    pairings = {name: pair_by_seed(as_runs(runs), name, base) for name in summary["condition"].unique()}
    both = pd.concat([reference, frame]).groupby(SITE, sort=False)
    values = {site: dict(zip(part["run"], part["mean"], strict=True)) for site, part in both}
    ratios = [ratio_to_baseline(values[layer, call], pairings[condition])
              for condition, layer, call in summary[GROUP].itertuples(index=False)]  # fmt: skip
    return pd.concat([summary, pd.DataFrame(ratios)], axis=1)


def _baseline(runs: Runs, asked: str | None) -> str | None:
    if asked is not None:
        return check("condition", [asked], runs.conditions)[0]
    try:
        return baseline_of(runs)
    except BaselineError as error:
        warnings.warn(f"no ratios of the gradient flow: {error}", DropdiagWarning, stacklevel=3)
        return None


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

    Examples
    --------
    >>> dd.analysis.gradient_flow.shared_steps(runs, ["No dropout", "Dropout"]) is None  # none has more than another
    True
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

    Examples
    --------
    >>> flow = dd.analysis.gradient_flow.per_run(runs)
    >>> len(flow) == len(runs) * 2
    True
    """
    return _averaged(runs, quantity, [until], layers, conditions).drop(columns="until")


def per_window(runs: Run | Runs, untils: Collection[int | None], steps: Steps = None) -> pd.DataFrame:
    """Gradient flow of each run over the training steps up to each of several last ones, read once.

    Parameters
    ----------
    runs : Run or Runs
    untils : collection of int or None
        Last steps that count; None is all.
    steps : collection of int, or mapping of str to collection of int, optional
        The steps that count, for all runs or by the run's path.

    Returns
    -------
    DataFrame
        As `per_run`, with a column ``until`` (NaN for None), a row a run, site and window.

    Raises
    ------
    NotRecordedError
        If no run holds the gradient flow.

    Examples
    --------
    >>> flow = dd.analysis.gradient_flow.per_window(runs, [5, None])
    >>> len(flow) == 2 * len(runs) * 2
    True
    """
    return _averaged(runs, QUANTITY, untils, None, None, steps=steps)


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

    Examples
    --------
    >>> curves = dd.analysis.gradient_flow.curves(runs, layers=["act1"], bins=5)
    >>> list(curves.columns[:4])
    ['condition', 'layer', 'call', 'step']
    """
    result = of_one_phase(runs, quantity, TRAIN, layers=layers, conditions=conditions, log=True, bins=bins)
    result = result[result["seeds"] > 0].reset_index(drop=True)
    return result[[*GROUP, "step", "value", "low", "high", "seeds", "runs", "dropped"]]


def at_equal_loss(
    runs: Run | Runs,
    *,
    loss: str = "loss",
    phase: str | None = None,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    baseline: str | None = None,
    quantity: str = QUANTITY,
    bins: int = 24,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Gradient flow as a function of the smoothed loss, and its ratio to a baseline where both had the same loss.

    Parameters
    ----------
    runs, layers, conditions, baseline, quantity
        As in `table`.
    loss : str
        A positive scalar of the network, such as one given to ``step``.
    phase : str, optional
        That in which it was recorded: ``"train"`` by default, where any run has it there, else as in
        `dropdiag.analysis.phases.common`. Between two evaluations the loss is interpolated.
    bins : int
        Equal bins of the logarithm of the loss, between the least and the greatest of all runs.
    alpha : float
        Intervals cover 1 - alpha.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, loss (middle of the bin, falling, as in training), value (geometric mean over
        the steps of the bin, then over runs), low, high (value divided and multiplied by the geometric standard
        deviation over runs), seeds (runs that have been there), runs; baseline, ratio, ratio_low, ratio_high (of the
        geometric means, with the t interval of its logarithm; NaN but where every run of both conditions has been),
        pairs (of seeds; 0 where they are not paired).

    Raises
    ------
    ArgumentError
        For an unknown name, or where no condition had the same loss as the baseline; the message has the ranges.
    NotRecordedError
        If no run holds the loss or the gradient flow, or the loss is never positive.

    Warns
    -----
    DropdiagWarning
        For a condition that never had the same loss as the baseline, or where nothing says which is the baseline.

    Notes
    -----
    The loss of a step is smoothed by a centred mean over 2 % of its values, for that of one batch is noise. All steps
    whose smoothed loss is in a bin count, also where training comes back to it: a plateau weighs as much as it is long.
    A run that jumps over a bin is interpolated on both logarithms. The training loss of dropout is taken under its
    masks and so lies above that of the same network without them: name a loss of held-out data, or of training data in
    evaluation mode, to compare networks that are equally good.

    Examples
    --------
    >>> curves = dd.analysis.gradient_flow.at_equal_loss(runs, layers=["act1"])
    >>> curves["condition"].unique().tolist()
    ['No dropout', 'Dropout']
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    base = _baseline(every, baseline)
    wanted = names if base is None or base in names else [*names, base]
    flow = scalars(every, quantity, phase=TRAIN, layers=layers, conditions=wanted)
    return equal_loss(every, flow, losses_of(every, wanted, loss, phase), names, base, bins=bins, alpha=alpha)


def _averaged(
    runs: Run | Runs, quantity: str, untils: Collection[int | None], layers: NamesOrAll, conditions: NamesOrAll,
    *, steps: Steps = None,
) -> pd.DataFrame:  # fmt: skip
    """Mean over the steps of each run and site, up to each of several last steps."""
    every = as_runs(runs)
    paths = dict(zip(every.labels(), (str(run.path) for run in every), strict=True))

    def gather(layer: Names, condition: Names) -> pd.DataFrame:
        chosen = {"condition": condition, "phase": TRAIN, "layer": layer}
        found = (some for part in parts(every, quantity, finite, **chosen) for some in _at_steps(part, paths, steps))
        return in_order(every, [_means(part, until) for part in found for until in untils])

    return pushed_down(runs, quantity, gather, layers=layers, conditions=conditions)


def _at_steps(part: Part, paths: Mapping[str, str], steps: Steps) -> Iterator[Part]:
    """Yield a part's rows of the steps that count; those of runs that differ in them apart."""
    if steps is None:
        yield part
        return
    at = part.keys["step"].to_numpy()
    own = [np.asarray(sorted(steps.get(paths[str(run)], ()) if isinstance(steps, Mapping) else steps), np.int64)
           for run in part.runs["run"]]  # fmt: skip
    if part.slots is None:
        alike: dict[bytes, list[int]] = {}
        for row, known in enumerate(own):
            alike.setdefault(known.tobytes(), []).append(row)
        found = [
            part._replace(runs=part.runs.iloc[rows].reset_index(drop=True), matrix=part.matrix[rows]).rows(
                np.isin(at, own[rows[0]])
            )
            for rows in alike.values()
        ]
    else:
        wanted = np.zeros(len(at), np.bool_)
        for row, known in enumerate(own):
            mine = part.slots == row
            wanted[mine] = np.isin(at[mine], known)
        found = [part.rows(wanted)]
    yield from (one for one in found if len(one.keys))


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
