"""What active measurements say: flatness, robustness, ablation and the like, over seeds and over training.

Taken from runs in which `Recorder.measure` was called: its rows are of a phase of the measurement's name.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis import scalar
from dropdiag.analysis.measured_rows import means, of_phase
from dropdiag.analysis.measured_steps import SERIES, Steps, at_steps
from dropdiag.analysis.phases import listed
from dropdiag.analysis.select import KEYS, SITE, by_site, check, today
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.asked import did_you_mean
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import MEASURED, base_and_x, quantity_of
from dropdiag.store.selection import NamesOrAll

TIMES: Final = frozenset({"evaluation_seconds", "recorder_seconds"})
"""What the Recorder writes beside each measurement."""
VALUES: Final = [*KEYS, "quantity", "base", "x", "value"]
TABLE: Final = [
    "condition", *SITE, "quantity", "base", "x", "step", "mean", "low", "high", "sd", "n", "missing",
]  # fmt: skip


def values(
    runs: Run | Runs,
    measure: str,
    *,
    quantities: NamesOrAll = None,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Return what runs hold of an active measurement, a row a value.

    Parameters
    ----------
    runs : Run or Runs
    measure : str
        Name of the measurement, as ``"flatness"``.
    quantities : sequence of str, optional
        All, or these: a family's name (``"noisy_loss"``) is all of its members.
    layers, conditions : sequence of str, optional
        All, or these in this order. With ``layers`` what belongs to the network as a whole is left out.
    phase : str, optional
        Phase of the measurement, where it was given one (or "flatness-2", where it was made twice at a step).

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, phase, layer (``""`` for the network as a whole), call, quantity, base and x
        (of "noisy_loss@0.1" the family and the parameter; NaN where there is none), value (NaN where it is missing): by
        condition, layer and quantity, in the order in which they were recorded.

    Raises
    ------
    ArgumentError
        For an unknown condition, layer or quantity.
    NotRecordedError
        If no run holds the measurement.

    Examples
    --------
    >>> values = dd.analysis.measured.values(runs, "flatness")
    >>> "hessian_trace" in set(values["quantity"])
    True
    """
    every = as_runs(runs)
    names, wanted = check("condition", conditions, every.conditions), today(every, layers)
    frame = of_phase(every, phase or measure, names)
    held = {str(name) for name in frame["quantity"].unique()} - TIMES
    if phase is None and measure in MEASURED:  # a user's own scalars may be of that phase, too
        held = {name for name in held if quantity_of(name) is not None}
    frame = frame[frame["quantity"].isin(held)]
    if frame.empty:
        raise NotRecordedError(_nothing(measure, phase))
    frame = _of_quantities(frame, quantities)
    chosen = check("layer", wanted, [name for name in frame["layer"].unique() if name])
    if wanted is not None:
        frame = frame[frame["layer"].isin(chosen)]
    return _ordered(frame, every, names, wanted)[VALUES]


def table(
    runs: Run | Runs,
    measure: str,
    *,
    quantities: NamesOrAll = None,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    phase: str | None = None,
    step: Steps = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Means over seeds of what an active measurement found, layer by layer.

    Parameters
    ----------
    runs, measure, quantities, layers, conditions, phase
        As in `values`.
    step : int or (int, int) or "all", optional
        None is the last measurement of each run; a step that one alone; (first, last) the mean of each run's
        measurements from one to the other, as for what is early in training; "all" a row for every step.
    level : float
        Coverage of the interval.

    Returns
    -------
    DataFrame
        Columns condition, layer (``""`` for the network as a whole), call, quantity, base, x, step (mean over runs),
        mean, low, high (Student's t over seeds; NaN for one run), sd (over runs), n (runs with a value), missing (runs
        without).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `values`; also if nothing was measured at that step.

    Warns
    -----
    DropdiagWarning
        If the last measurements of runs are of different steps, or runs lack steps that most have.

    Examples
    --------
    >>> table = dd.analysis.measured.table(runs, "flatness", quantities=["hessian_trace"])
    >>> table[["condition", "quantity", "n"]]
        condition       quantity  n
    0  No dropout  hessian_trace  3
    1     Dropout  hessian_trace  3
    """
    found = values(runs, measure, quantities=quantities, layers=layers, conditions=conditions, phase=phase)
    return over_seeds(at_steps(found, step), level)


def curve(
    runs: Run | Runs,
    base: str,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    phase: str | None = None,
    step: Steps = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Means over seeds of a family of quantities, over its parameter: loss by noise, rise by size, loss by share.

    Parameters
    ----------
    runs, layers, conditions, phase, step, level
        As in `table`.
    base : str
        ``"noisy_loss"``, ``"loss_rise"``, ``"ablated_accuracy"`` ...

    Returns
    -------
    DataFrame
        As `table` returns it; rows of one condition and layer are in the order of x.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `table`.

    Examples
    --------
    >>> curve = dd.analysis.measured.curve(runs, "noisy_loss")
    >>> curve["x"].unique().tolist()
    [0.0, 0.1, 0.2, 0.5]
    """
    found = table(runs, measurement_of(base), quantities=[base], layers=layers, conditions=conditions, phase=phase,
                  step=step, level=level)  # fmt: skip
    place = found.groupby(["condition", *SITE], sort=False).ngroup()
    order = pd.DataFrame({"place": place, "x": found["x"]}).sort_values(["place", "x"], kind="stable")
    rows: pd.DataFrame = found.loc[order.index].reset_index(drop=True)
    return rows


def over_training(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    phase: str | None = None,
    log: bool = False,
) -> pd.DataFrame:
    """Curves of one measured quantity over training: see `dropdiag.analysis.scalar.curves`.

    Runs that were measured at different steps are interpolated to common ones.
    """
    phase = phase or measurement_of(base_and_x(quantity)[0])
    return scalar.curves(runs, quantity, layers=layers, conditions=conditions, phase=phase, log=log)


def measurement_of(base: str) -> str:
    """Return the active measurement that a quantity, or a family of them, is of.

    Raises
    ------
    ArgumentError
        If it is of none.
    """
    for measure, several in MEASURED.items():
        if base in several:
            return measure
    known = [name for several in MEASURED.values() for name in several]
    raise ArgumentError(f"no active measurement has a quantity {base!r}{did_you_mean(base, known)} there are "
                        f"{listed(known)}")  # fmt: skip


def over_seeds(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Average values, one a run, site, quantity and step, over seeds; columns as of `table`."""
    several = frame.duplicated(["run", *SERIES], keep=False).any()  # curves: each step by itself
    by = ["condition", *SERIES, "base", "x", *(["step"] if several else [])]
    step = frame.groupby(by, sort=False, dropna=False)["step"].mean().to_numpy()
    finite = frame["value"].where(np.isfinite(frame["value"].astype(np.float64)))
    return means(frame.assign(value=finite), by, level).assign(step=step)[TABLE]


def _nothing(measure: str, phase: str | None) -> str:
    meant = did_you_mean(measure, [*MEASURED]) if measure not in MEASURED else ";"
    where = "" if phase is None else f" in phase {phase!r}"
    return f"no run holds a measurement {measure!r}{where}{meant} record it with rec.measure({measure!r}, batch)"


def _of_quantities(frame: pd.DataFrame, quantities: NamesOrAll) -> pd.DataFrame:
    """Rows of the quantities and families that are asked for, in the order in which they are."""
    if quantities is None:
        return frame
    known = list(dict.fromkeys([*frame["quantity"].astype(str), *frame["base"]]))
    asked = check("quantity", quantities, known)
    rows = frame[frame["quantity"].isin(asked) | frame["base"].isin(asked)]
    place = [asked.index(name) if (name := str(quantity)) in asked else asked.index(base)
             for quantity, base in zip(rows["quantity"], rows["base"], strict=True)]  # fmt: skip
    return rows.iloc[np.argsort(place, kind="stable")]


def _ordered(frame: pd.DataFrame, runs: Runs, conditions: list[str], layers: NamesOrAll) -> pd.DataFrame:
    """Rows by condition, then site by site in network order; the network as a whole first."""
    network, sites = frame[frame["layer"] == ""], frame[frame["layer"] != ""]
    sites = by_site(sites, runs.places, layers) if len(sites) else sites
    both = pd.concat([network, sites], ignore_index=True)
    place = both["condition"].map({name: i for i, name in enumerate(conditions)}).to_numpy()
    rows: pd.DataFrame = both.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)
    return rows
