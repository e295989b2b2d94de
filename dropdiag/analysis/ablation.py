"""Do nodes co-adapt? By what ablating them does, beside what their correlation says: three definitions.

*Interaction*: do nodes that vary together depend on each other, beyond nodes that are drawn by lot
(`dropdiag.measure.ablation`)? *Correlation*: mean abs(r) over pairs of nodes. *Multiple correlation*: how well a node
is predicted by all others (R squared, adjusted). They need not agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pandas as pd

from dropdiag.analysis import correlation, multiple_correlation
from dropdiag.analysis.measured_rows import at_last, of_phase
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, SITE, by_condition, by_site, check, scalars, today
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import TRAIN
from dropdiag.store.selection import NamesOrAll

PHASE: Final = "ablation"
INTERACTION, CORRELATION, MULTIPLE = "interaction", "correlation", "multiple correlation"
_TABLE: Final = ["definition", *GROUP, "value", "value_sd", "null", "null_sd", "seeds", "missing"]
_CURVES: Final = [*GROUP, "share", "value", "low", "high", "seeds", "missing"]


def table(
    runs: Run | Runs, *, layers: NamesOrAll = None, conditions: NamesOrAll = None, phase: str | None = None
) -> pd.DataFrame:
    """Co-adaptation of each layer by each definition that was recorded: taken at the last step of each run.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All that were ablated, or these in this order.
    phase : str, optional
        Of the ablation, by default ``"ablation"``. Correlations are those of the held-out phase.

    Returns
    -------
    DataFrame
        Columns definition ("interaction", "correlation", "multiple correlation"), condition, layer, call; value and its
        sd over runs; null (what there is without co-adaptation: the interaction of groups that are drawn by lot, what a
        finite number of samples gives) and null_sd (of one grouping, on average over runs; NaN for the others); seeds,
        missing (runs without a value).

    Raises
    ------
    ArgumentError
        For an unknown layer or condition.
    NotRecordedError
        If no run holds an ablation.

    Examples
    --------
    >>> table = dd.analysis.ablation.table(runs)
    >>> sorted(table["layer"].unique())
    ['act1', 'act2']
    """
    found = _interaction(runs, phase or PHASE, layers, conditions)
    sites = found[SITE].drop_duplicates()
    others = [_recorded(measure, runs, conditions) for measure in (_correlation, _multiple)]
    parts = [found, *(part.merge(sites, on=SITE) for part in others if part is not None)]
    ordered = [_ordered(part, runs, layers=layers, conditions=conditions) for part in parts]
    numbers = dict.fromkeys(("value", "value_sd", "null", "null_sd"), float)
    return pd.concat(ordered, ignore_index=True).reindex(columns=_TABLE).astype(numbers)


def curves(
    runs: Run | Runs,
    of: str = "accuracy",
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    phase: str | None = None,
    missing_ok: bool = False,
) -> pd.DataFrame:
    """Loss or accuracy by the share of a layer's nodes that is ablated: mean and spread over runs.

    Parameters
    ----------
    runs, layers, conditions, phase
        As in `table`.
    of : {"accuracy", "loss"}
    missing_ok : bool
        Return no row where no run has a value.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, share, value, low, high (one standard deviation over runs below and above; NaN
        for one run), seeds, missing.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `table`; where no run has a value.

    Examples
    --------
    >>> curves = dd.analysis.ablation.curves(runs, "loss")
    >>> curves["condition"].unique().tolist()
    ['No dropout', 'Dropout']
    """
    every = as_runs(runs)
    names, wanted = check("condition", conditions, every.conditions), today(every, layers)
    frame = of_phase(every, phase or PHASE, names).rename(columns={"x": "share"})
    frame = _last(frame[frame["base"] == f"ablated_{of}"])
    if frame["value"].isna().all():
        if missing_ok:
            return pd.DataFrame(columns=_CURVES)
        raise NotRecordedError(f"no run holds the {of} of ablated nodes; record it with rec.measure('ablation', batch)")
    chosen = check("layer", wanted, list(frame["layer"].unique()))
    found = over_seeds(frame[frame["layer"].isin(chosen)], [*GROUP, "share"], ["value"])
    found = found.assign(low=found["value"] - found["value_sd"], high=found["value"] + found["value_sd"])
    return _ordered(found, runs, layers=layers, conditions=conditions)[_CURVES]


def _interaction(runs: Run | Runs, phase: str, layers: NamesOrAll, conditions: NamesOrAll) -> pd.DataFrame:
    names = {"ablation_interaction": "value", "ablation_interaction_null": "null", "ablation_interaction_null_sd": "sd"}
    parts = [
        _last(scalars(runs, name, phase=phase, layers=layers, conditions=conditions))
        .rename(columns={"value": column})
        .set_index(["run", *GROUP])[column]
        for name, column in names.items()
    ]
    found = over_seeds(pd.concat(parts, axis=1).reset_index(), GROUP, [*names.values()])
    return found.drop(columns=["null_sd", "sd_sd"]).rename(columns={"sd": "null_sd"}).assign(definition=INTERACTION)


def _recorded(
    measure: Callable[[Run | Runs, NamesOrAll], pd.DataFrame], runs: Run | Runs, conditions: NamesOrAll
) -> pd.DataFrame | None:
    try:
        return measure(runs, conditions)
    except NotRecordedError:
        return None


def _correlation(runs: Run | Runs, conditions: NamesOrAll) -> pd.DataFrame:
    found = correlation.table(runs, conditions=conditions)
    names = {"mean_abs_r": "value", "mean_abs_r_sd": "value_sd", "null_mean_abs_r": "null"}
    return found.rename(columns=names)[[*GROUP, *names.values(), "seeds", "missing"]].assign(definition=CORRELATION)


def _multiple(runs: Run | Runs, conditions: NamesOrAll) -> pd.DataFrame:
    rows = multiple_correlation.per_run(runs, conditions=conditions)
    if (rows["phase"] == TRAIN).any():
        raise NotRecordedError(f"no run holds {multiple_correlation.VALUE} of held-out data")
    null = rows.groupby(GROUP, sort=False)["null"].mean().reset_index()
    return over_seeds(rows, GROUP, ["value"]).merge(null, on=GROUP).assign(definition=MULTIPLE)


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run's last step; where a step was recorded twice, the later row."""
    last = at_last(frame)
    keys = [name for name in ("run", *SITE, "quantity") if name in last]
    rows: pd.DataFrame = last.drop_duplicates(keys, keep="last")
    return rows


def _ordered(frame: pd.DataFrame, runs: Run | Runs, *, layers: NamesOrAll, conditions: NamesOrAll) -> pd.DataFrame:
    """Rows site by site in network order, conditions in theirs."""
    every = as_runs(runs)
    named = by_condition(frame, check("condition", conditions, every.conditions))
    rows: pd.DataFrame = by_site(named, every.places, today(every, layers)).reset_index(drop=True)
    return rows
