"""How does a scalar quantity change over training? Any quantity, layer by layer."""

from __future__ import annotations

from functools import partial

import pandas as pd

from dropdiag.analysis.phases import common, held_phases, keep
from dropdiag.analysis.select import GROUP, by_step, check, pushed_down
from dropdiag.analysis.training import finite, logs, over_training, parts, with_band
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import Names, NamesOrAll


def curves(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
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
        over runs below and above; NaN for one run); seeds (runs with a value there, or between their values before and
        after it), runs (those of the condition that hold the quantity in this phase, at any layer), dropped (values
        left out: missing, infinite, or without a logarithm); by step. With ``log`` the mean is geometric, and low and
        high are the value divided and multiplied by the geometric standard deviation.

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

    Examples
    --------
    >>> curves = dd.analysis.scalar.curves(runs, "node_correlation_abs_mean")
    >>> curves["layer"].unique().tolist()
    ['act1', 'act2']
    """
    result = binned(runs, quantity, layers=layers, conditions=conditions, phase=phase, log=log, bins=bins)
    return result[[*GROUP, "phase", "step", "value", "low", "high", "seeds", "runs", "dropped"]]


def binned(
    runs: Run | Runs, quantity: str, *, layers: NamesOrAll = None, conditions: NamesOrAll = None,
    phase: str | None = None, log: bool = False, bins: int = 80,
) -> pd.DataFrame:  # fmt: skip
    """Return `curves` with the column recorded (values, those that are left out too)."""
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    held = held_phases(every.batches(quantity, condition=names, columns=["phase"]))
    one = common(held, quantity, phase)
    keep(held, quantity, one)
    result = of_one_phase(every, quantity, one, layers=layers, conditions=conditions, log=log, bins=bins)
    result["layer"] = result["layer"].fillna("")  # `groupby` would leave out a missing name
    return result.assign(phase=one)


def of_one_phase(
    runs: Run | Runs, quantity: str, phase: str, *,
    layers: NamesOrAll, conditions: NamesOrAll, log: bool, bins: int,
) -> pd.DataFrame:  # fmt: skip
    """Curves of a scalar in a phase that is known; runs without any row are not missed.

    Parameters
    ----------
    runs, quantity, phase, layers, conditions, log, bins
        As in `curves`.

    Returns
    -------
    DataFrame
        Columns condition, layer (None for a scalar of the network as a whole), call, step, value, low, high, seeds,
        runs, dropped ... as in `curves`.
    """

    def gather(layer: Names, condition: Names) -> pd.DataFrame:
        chosen = {"condition": condition, "phase": phase, "layer": layer}
        return over_training(partial(parts, as_runs(runs), quantity, logs if log else finite, **chosen), GROUP, bins)

    result = pushed_down(runs, quantity, gather, layers=layers, conditions=conditions)
    return by_step(with_band(result, log=log), GROUP)
