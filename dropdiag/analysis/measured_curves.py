"""What an active measurement found, over seeds: single numbers, and families of them over a parameter."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import pandas as pd

from dropdiag.analysis.measured_rows import at_last, means, of_phase
from dropdiag.analysis.select import by_condition, check
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import NamesOrAll

COLUMNS: Final = ["condition", "run", "seed", "step", "quantity", "x", "value"]


def per_run(runs: Run | Runs, families: Sequence[str], *, phase: str, conditions: NamesOrAll = None) -> pd.DataFrame:
    """Numbers of the network in each run, at the last step of the measurement.

    Parameters
    ----------
    runs : Run or Runs
    families : sequence of str
        Quantities, without the values of their parameter: ``"loss_rise"`` for all of ``loss_rise@0.1`` and so on.
    phase : str
        Of the measurement: its name, unless it was given another.
    conditions : sequence of str, optional
        All, or these in this order.

    Returns
    -------
    DataFrame
        Columns condition, run, seed, step, quantity (the family), x (the parameter; NaN of one without), value (NaN
        where it is missing); in the order of conditions, runs, families and x.

    Raises
    ------
    ArgumentError
        For an unknown condition.
    NotRecordedError
        If no run of the conditions holds any of the families in that phase.
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    rows = of_phase(every, phase, names)
    found = rows[(rows["layer"] == "") & rows["base"].isin(list(families))].assign(quantity=rows["base"])
    if found.empty:
        raise NotRecordedError(
            f"no run of {', '.join(map(repr, names))} holds {' or '.join(families)} in the phase {phase!r}: record it "
            f"by rec.measure({phase!r}, batch, ...), or give phase= where it has another name"
        )
    found = at_last(found)
    place = {name: i for i, name in enumerate(families)}
    order = found.assign(place=found["quantity"].map(place)).sort_values(["place", "x"], kind="stable")
    return by_condition(order[COLUMNS].astype({"value": float}), names)


def rise_from_zero(found: pd.DataFrame) -> pd.DataFrame:
    """Values of each run less its own value at x = 0; rows of x = 0 are left out, and runs without a value there NaN.

    Parameters
    ----------
    found : DataFrame
        Rows of one family, as `per_run` returns them.
    """
    first = found[found["x"] == 0.0].groupby("run")["value"].first()
    rows = found[found["x"] != 0.0]
    return rows.assign(value=rows["value"] - rows["run"].map(first).astype(float))


def over_seeds(found: pd.DataFrame, by: Collection[str] = ("quantity", "x")) -> pd.DataFrame:
    """Means over runs with their 95 % t intervals.

    Parameters
    ----------
    found : DataFrame
        As `per_run` returns it.
    by : collection of str
        What rows are told apart by, beside the condition.

    Returns
    -------
    DataFrame
        Columns condition, those of ``by``, value, low, high (NaN for fewer than two runs), seeds (runs with a value),
        missing (runs without one).
    """
    rows = means(found, ["condition", *by]).rename(columns={"mean": "value", "n": "seeds"})
    return rows[["condition", *by, "value", "low", "high", "seeds", "missing"]]
