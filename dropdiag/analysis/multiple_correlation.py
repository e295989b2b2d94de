"""How much of a node do the other nodes of its layer tell? Multiple correlation, beside what chance alone gives."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from dropdiag.analysis.phases import rows_of_one_phase
from dropdiag.analysis.seeds import t_interval
from dropdiag.analysis.select import GROUP, KEYS, last, scalars
from dropdiag.store.reader import Run, Runs
from dropdiag.store.selection import NamesOrAll

VALUE: Final = "multiple_correlation"
NULL: Final = "multiple_correlation_null"
COLUMNS: Final = [*GROUP, "phase", "value", "low", "high", "null", "seeds", "missing"]


def table(
    runs: Run | Runs, *, layers: NamesOrAll = None, conditions: NamesOrAll = None, phase: str | None = None
) -> pd.DataFrame:
    """Multiple correlation of each layer at a run's last evaluation, by condition over seeds.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    phase : str, optional
        One for all runs, as in `dropdiag.analysis.select.histograms`.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call, phase; value (adjusted R^2, mean over nodes)
        with low and high (95 % t interval over runs; NaN for fewer than two); null (what chance alone gives R^2 before
        it is adjusted: the adjusted one of independent nodes is 0); seeds; missing (runs without a value: no more
        samples than nodes, say).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`.

    Examples
    --------
    >>> table = dd.analysis.multiple_correlation.table(runs)
    >>> table[["condition", "layer", "seeds"]]
        condition layer  seeds
    0  No dropout  act1      3
    1  No dropout  act2      3
    2     Dropout  act1      3
    3     Dropout  act2      3
    """
    rows = per_run(runs, layers=layers, conditions=conditions, phase=phase)
    found = [dict(zip(GROUP, key, strict=True)) | _over_runs(part) for key, part in rows.groupby(GROUP, sort=False)]
    return pd.DataFrame(found, columns=COLUMNS)


def per_run(
    runs: Run | Runs, *, layers: NamesOrAll = None, conditions: NamesOrAll = None, phase: str | None = None
) -> pd.DataFrame:
    """Return what `table` averages: a row a run and layer, columns of `KEYS`, value and null."""
    chosen: Any = {"layers": layers, "conditions": conditions}
    rows = last(rows_of_one_phase(scalars(runs, VALUE, **chosen), VALUE, phase))
    null = scalars(runs, NULL, **chosen).rename(columns={"value": "null"})
    keys = [name for name in KEYS if name != "seed"]  # a run may have no seed, and a missing key joins nothing
    return rows.merge(null[[*keys, "null"]], on=keys, how="left")


def _over_runs(part: pd.DataFrame) -> dict[str, Any]:
    value, low, high = t_interval(part["value"].astype("float64"))
    null = float(part["null"].astype("float64").mean())
    told = {"phase": part["phase"].iloc[0], "value": value, "low": low, "high": high, "null": null}
    return told | {"seeds": len(part), "missing": int(part["value"].isna().sum())}
