"""Do nodes pass gradients on, and how far do weights move? Each number beside what it was at the start."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from dropdiag.analysis.phases import rows_of_one_phase
from dropdiag.analysis.seeds import t_interval
from dropdiag.analysis.select import GROUP, SITE, as_text, by_condition, by_site, check, today
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import TRAIN
from dropdiag.store.selection import NamesOrAll

OF_NODES: Final = ("dead_share", "always_saturated_share")
OF_WEIGHTS: Final = ("update_to_weight", "distance_from_start")
QUANTITIES: Final = (*OF_NODES, *OF_WEIGHTS)
COLUMNS: Final = [
    *GROUP, "quantity", "phase", "step", "value", "low", "high", "start_step", "start", "start_low", "start_high",
    "seeds", "missing",
]  # fmt: skip
_RUN: Final = ["quantity", "condition", "run", *SITE]


def table(
    runs: Run | Runs, *, layers: NamesOrAll = None, conditions: NamesOrAll = None, phase: str | None = None
) -> pd.DataFrame:
    """Norms of health at a run's last step that has them, beside those at its first, by condition over seeds.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    phase : str, optional
        Of the shares of nodes, one for all runs: None is ``"eval"`` if any of them has it, else the only held-out
        phase, else ``"train"``. What weights do is of training.

    Returns
    -------
    DataFrame
        One row a quantity (`QUANTITIES`), condition and site, columns condition, layer, call, quantity, phase; step
        (the last one of any run), value with low and high (95 % t interval over runs; NaN for fewer than two);
        start_step (the first step, the latest of any run), start with start_low and start_high, the same at that step;
        seeds (runs that have the site); missing (runs without a value at their last step).

    Raises
    ------
    ArgumentError
        For an unknown layer or condition, or where the phase is not clear.
    NotRecordedError
        If no run holds any of it, or none does in that phase.

    Warns
    -----
    DropdiagWarning
        If runs are left out because they do not hold the shares in that phase.

    Notes
    -----
    The start is what was recorded first: at step 0 the distance, which is 0 there; at step 1 the update; of held-out
    shares the first evaluation, which tells of the initial network only if it was made before training.

    Examples
    --------
    >>> table = dd.analysis.health.table(runs)
    >>> sorted(table["quantity"].unique())
    ['always_saturated_share', 'dead_share', 'distance_from_start', 'update_to_weight']
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    rows = _rows(every, names, phase)
    wanted = check("layer", today(every, layers), rows["layer"].unique())
    rows = by_site(rows[rows["layer"].isin(wanted)], every.places, None if layers is None else wanted)
    keys = ["quantity", *GROUP]
    found = [dict(zip(keys, key, strict=True)) | _over_runs(part) for key, part in rows.groupby(keys, sort=False)]
    frame = by_condition(pd.DataFrame(found, columns=COLUMNS), names)
    order = frame["quantity"].map(QUANTITIES.index)
    return frame.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _rows(runs: Runs, conditions: list[str], phase: str | None) -> pd.DataFrame:
    """Return first and last values of each run and site, of one phase each quantity."""
    batches = [as_text(batch) for batch in runs.batches(QUANTITIES, condition=conditions, missing_ok=True)]
    rows = pd.concat(batches, ignore_index=True) if batches else pd.DataFrame(columns=[*_RUN, "step", "phase", "value"])
    if rows.empty:
        raise NotRecordedError(
            "no run recorded dead nodes, updates or distances: record with probes='full', or "
            "probes=['paper', 'dead_nodes', 'update_to_weight', 'distance_from_start']"
        )
    found = []
    for quantity, part in rows.groupby("quantity", sort=False):
        one = rows_of_one_phase(part, str(quantity), phase if quantity in OF_NODES else TRAIN)
        found.append(_ends(one))
    return pd.concat(found, ignore_index=True)


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.sort_values("step", kind="stable")
    groups = rows.groupby(_RUN, sort=False)
    # nth and not first: a missing value at the first step is the value there
    first, last = groups.nth(0).set_index(_RUN), groups.nth(-1).set_index(_RUN)
    columns = {"phase": last["phase"], "step": last["step"], "value": last["value"],
               "start_step": first["step"], "start": first["value"]}  # fmt: skip
    return pd.DataFrame(columns).reset_index()


def _over_runs(part: pd.DataFrame) -> dict[str, Any]:
    """Return one quantity of one site and condition."""
    made: dict[str, Any] = {"phase": part["phase"].iloc[0], "step": int(part["step"].max()),
                            "start_step": int(part["start_step"].max())}  # fmt: skip
    for name, low, high in (("value", "low", "high"), ("start", "start_low", "start_high")):
        made |= dict(zip((name, low, high), t_interval(part[name].astype("float64")), strict=True))
    return made | {"seeds": len(part), "missing": int(part["value"].isna().sum())}
