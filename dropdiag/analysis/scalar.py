"""How does a scalar quantity change over training? Any quantity, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd

from dropdiag.analysis.phases import common, keep
from dropdiag.analysis.select import GROUP, by_step, check, pushed_down
from dropdiag.analysis.training import Part, finite, logs, over_training, parts
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import Names


def curves(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    phase: str | None = None,
    log: bool = False,
    bins: int = 80,
) -> pd.DataFrame:
    """Curves of a scalar over training: steps binned and averaged, mean and spread over runs.

    Parameters
    ----------
    runs : Run or Runs
    quantity : str
    layers, conditions : sequence of str, optional
        All, or these in this order.
    phase : str, optional
        One for all runs: None is ``"eval"`` if any of them has it, else the only held-out phase, else ``"train"``.
    log : bool
        Average on the log scale; values that are not positive are then left out.
    bins : int
        Equal bins of steps; fewer recorded steps than this are left as they are.

    Returns
    -------
    DataFrame
        Columns condition, layer (``""`` for a scalar of the network as a whole), call, phase, step (mean of the bin);
        value (mean over the bin's steps, then over runs; NaN where there is none), low, high (one standard deviation
        over runs below and above; NaN for one run); seeds, dropped (values left out: missing, infinite, or without a
        logarithm); by step. With ``log`` the mean is geometric, and low and high are the value divided and multiplied
        by the geometric standard deviation.

    Raises
    ------
    ArgumentError
        For an unknown layer or condition, or where the phase is not clear.
    NotRecordedError
        If no run holds the quantity, or none does in that phase.

    Warns
    -----
    DropdiagWarning
        If runs are left out because they do not hold the quantity in that phase.
    """
    every = as_runs(runs)
    one = _one_phase(every, quantity, check("condition", conditions, every.conditions), phase)

    def gather(layer: Names, condition: Names) -> pd.DataFrame:
        def read() -> Iterable[Part]:
            return parts(every, quantity, logs if log else finite, condition=condition, phase=one, layer=layer)

        return over_training(read, GROUP, bins)

    result = by_step(pushed_down(runs, quantity, gather, layers=layers, conditions=conditions), GROUP)
    ends = {"value": result["mean"], "low": result["mean"] - result["sd"], "high": result["mean"] + result["sd"]}
    result = result.assign(phase=one, **{name: np.exp(end) if log else end for name, end in ends.items()})
    result["layer"] = result["layer"].fillna("")  # `groupby` would leave out a missing name
    return result[[*GROUP, "phase", "step", *ends, "seeds", "dropped"]]


def _one_phase(runs: Runs, quantity: str, conditions: Collection[str], phase: str | None) -> str:
    """Pick the phase, and warn of the runs that lack it."""
    held: dict[str, list[str]] = {}
    for batch in runs.batches(quantity, condition=list(conditions), columns=["phase"]):
        for run, phases in batch.groupby("run", observed=True)["phase"]:
            held[str(run)] = phases.unique().tolist()
    one = common(held, quantity, phase)
    keep(held, quantity, one)
    return one
