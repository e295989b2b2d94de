"""Weight scaling beside the means over masks, and what masks add to the loss, from runs over seeds.

Taken from runs in which ``rec.measure("ensemble", ...)`` was called; the last of each counts.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pandas as pd

from dropdiag.analysis.measured_curves import over_seeds
from dropdiag.analysis.measured_rows import at_last, of_phase
from dropdiag.analysis.select import SITE, by_condition, by_site, check
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import NamesOrAll

PHASE: Final = "ensemble"
OUTPUTS: Final = ("weight_scaled", "geometric", "arithmetic")
SCORES: Final = ("nll", "accuracy", "calibration_error")
KL: Final = "ensemble_kl"
BIAS: Final = "ensemble_kl_bias"
UNCERTAINTY: Final = ("predictive_entropy", "mutual_information")
REGULARISER: Final = "regulariser"
ALONE: Final = ""
"""Output of what is of no one output, and layer of what is of the network."""
SERIES: Final[dict[str, tuple[str, str]]] = {
    **{f"{score}_{output}": (score, output) for score in SCORES for output in OUTPUTS},
    **{f"{KL}_{output}": (KL, output) for output in OUTPUTS[1:]},
    **{f"{KL}_{output}_bias": (BIAS, output) for output in OUTPUTS[1:]},
    **{name: (name, ALONE) for name in (*UNCERTAINTY, REGULARISER)},
}
"""Recorded quantity -> family, and the output that it is of."""
BY: Final = ["quantity", "output", *SITE]
COLUMNS: Final = ["condition", "run", "seed", "step", *BY, "value"]


def table(runs: Run | Runs, *, conditions: NamesOrAll = None, phase: str = PHASE) -> pd.DataFrame:
    """Numbers of the ensemble over seeds.

    Parameters
    ----------
    runs : Run or Runs
    conditions : sequence of str, optional
        All, or these in this order.
    phase : str, default "ensemble"
        Of the measurement, where it was given another.

    Returns
    -------
    DataFrame
        Columns condition, quantity ("nll", "accuracy", "calibration_error", "ensemble_kl", "ensemble_kl_bias",
        "predictive_entropy", "mutual_information" or "regulariser"), output ("weight_scaled", "geometric",
        "arithmetic"; "" where it is of none), layer (a dropout; "" for the network), call, value (mean over runs), low,
        high (its 95 % t interval; NaN for fewer than two runs), seeds (runs with a value), missing (runs of the
        condition without one).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `per_run`.

    Examples
    --------
    >>> table = dd.analysis.ensemble.table(runs)
    >>> table["condition"].unique().tolist()
    ['Dropout']
    """
    return means(runs, per_run(runs, conditions=conditions, phase=phase))


def per_run(runs: Run | Runs, *, conditions: NamesOrAll = None, phase: str = PHASE) -> pd.DataFrame:
    """Numbers of the ensemble in each run, at the last step of the measurement.

    Parameters
    ----------
    runs, conditions, phase
        As in `table`.

    Returns
    -------
    DataFrame
        Columns condition, run, seed, step, quantity, output, layer, call (as in `table`), value (NaN where it is
        missing): those of the network by condition, then those of each dropout, in network order.

    Raises
    ------
    ArgumentError
        For an unknown condition.
    NotRecordedError
        If no run of the conditions holds any of them in that phase.

    Examples
    --------
    >>> dd.analysis.ensemble.per_run(runs)["run"].nunique()
    3
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    rows = of_phase(every, phase, names)
    rows = rows[rows["quantity"].isin(list(SERIES))]
    if rows.empty:
        raise NotRecordedError(
            f"no run of {', '.join(map(repr, names))} holds an ensemble in the phase {phase!r}: record it by "
            f'rec.measure("ensemble", batch, ...), or give phase= where it has another name'
        )
    rows = at_last(rows)
    families = [SERIES[str(name)] for name in rows["quantity"]]
    found = rows.assign(quantity=[base for base, _ in families], output=[of for _, of in families])
    whole = found["layer"] == ALONE
    parts = by_condition(found[whole], names), by_condition(found[~whole], names)
    return pd.concat([parts[0], by_site(parts[1], every.places)], ignore_index=True)[COLUMNS].astype({"value": float})


def means(runs: Run | Runs, found: pd.DataFrame) -> pd.DataFrame:
    """Means over runs of what `per_run` found, as `table` returns them."""
    rows = over_seeds(found, BY)
    sizes = Counter(run.condition for run in as_runs(runs))
    return rows.assign(missing=rows["condition"].map(sizes) - rows["seeds"])
