"""What each dropout does: at which rate, how much it drops, and how much noise that is beside the signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.seeds import t_interval
from dropdiag.analysis.select import GROUP, SITE, as_text, by_condition, by_site, check, matching, today
from dropdiag.errors import NotRecordedError
from dropdiag.formatting import missing
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import TRAIN
from dropdiag.store.selection import NamesOrAll

RATE, SHARE, NOISE = "dropout_rate", "dropped_share", "dropout_noise_to_signal"
QUANTITIES: Final = (RATE, SHARE, NOISE)
MEANS: Final = {SHARE: "dropped_share", NOISE: "noise_to_signal"}
WORDS: Final = ["type", "grain", "applied_to", "feeds"]
NUMBERS: Final = ["rate_first", "rate_last", *MEANS.values()]
_RUN: Final = ["condition", "run", *SITE]


def table(
    runs: Run | Runs, *, layers: NamesOrAll = None, conditions: NamesOrAll = None, until: int | None = None
) -> pd.DataFrame:
    """Each dropout site: what it is, its rate, and what its masks did in training.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order. A condition without dropout has no rows.
    until : int, optional
        Last training step that counts; all by default.

    Returns
    -------
    DataFrame
        One row a condition and site, columns condition, layer, call; type, grain ("element", "channel", ...),
        applied_to and feeds (layers), each missing where it is not known; rate_first and rate_last (at the first and
        last recorded step, of a run on average; the rate that the run was begun with where none was recorded);
        scheduled (whether the rate changed in any run); dropped_share and noise_to_signal (mean over a run's recorded
        steps, then over runs), each with ``_low`` and ``_high`` (95 % t interval over runs; NaN for fewer than two);
        seeds (runs that have the site); missing (runs without a dropped share).

    Raises
    ------
    ArgumentError
        For an unknown layer or condition.
    NotRecordedError
        If no run of these conditions has a dropout site.

    Notes
    -----
    The dropped share is that of units which were not already equal to what the mask puts in their place: dropout behind
    a ReLU shows its rate, though most of what it zeroes was zero. The noise-to-signal ratio depends on the data, and on
    the rate: of a scheduled rate the mean over training stands for no single step.

    Examples
    --------
    >>> table = dd.analysis.dropouts.table(runs)
    >>> table[["layer", "grain", "rate_first", "seeds"]]
          layer    grain  rate_first  seeds
    0  dropout1  element         0.5      3
    1  dropout2  element         0.5      3
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    sites = _sites(every, names)
    if sites.empty:
        raise NotRecordedError(f"no run of {', '.join(map(repr, names))} has a dropout site")
    sites = sites.merge(_measured(every, names, until), on=_RUN, how="left")
    sites = sites.assign(**{name: sites[name].fillna(sites["rate"]) for name in ("rate_first", "rate_last")})
    wanted = check("layer", today(every, layers), sites["layer"].unique())
    sites = by_site(sites[sites["layer"].isin(wanted)], every.places, None if layers is None else wanted)
    rows = [dict(zip(GROUP, key, strict=True)) | _over_runs(part) for key, part in sites.groupby(GROUP, sort=False)]
    return by_condition(pd.DataFrame(rows), names)


def recorded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `table` with any number: runs of schema 1 list their dropouts and measure nothing."""
    rows: pd.DataFrame = table[table[NUMBERS].notna().any(axis=1)].reset_index(drop=True)
    return rows


def of_run(run: Run, *, layer: str | None = None, step: int | None = None) -> list[dict[str, Any]]:
    """Return the rows of `table` that hold any number, of one run; none where there is none.

    Parameters
    ----------
    run : Run
    layer : str, optional
        Glob pattern of dropouts' names.
    step : int, optional
        Last step that counts.
    """
    try:
        found = recorded(table(run, until=step))
    except NotRecordedError:
        return []
    rows = found[found["layer"].map(matching(run, layer))].to_dict("records")
    return [{str(name): None if missing(value) else value for name, value in row.items()} for row in rows]


def _sites(runs: Runs, conditions: list[str]) -> pd.DataFrame:
    """Return the dropout sites of each run as it lists them."""
    labels = zip(runs.labels(), runs, strict=True)
    rows = [
        (run.condition, label, *site) for label, run in labels if run.condition in conditions for site in _listed(run)
    ]
    return pd.DataFrame(rows, columns=[*_RUN, "rate", *WORDS]).astype({"rate": "float64"})


def _listed(run: Run) -> Iterator[tuple[Any, ...]]:
    rows = {(str(row["layer"]), int(row["call"])): row for row in run.meta["layers"] if row["kind"] == "dropout"}
    firsts = {layer: row for (layer, _), row in reversed(rows.items())}
    # the list was made before the first pass: further calls are in the order of execution alone
    calls = [site for site in run.order if site[0] in firsts and site not in rows]
    for site in (*rows, *calls):
        row = rows.get(site, firsts[site[0]])
        yield *site, row.get("rate"), *(_word(row.get(name)) for name in WORDS)


def _word(told: Any) -> str | None:
    return ", ".join(map(str, told)) if isinstance(told, list) else told


def _measured(runs: Runs, conditions: list[str], until: int | None) -> pd.DataFrame:
    """Return rate_first, rate_last, scheduled and the means of each run and site."""
    batches = runs.batches(QUANTITIES, condition=conditions, phase=TRAIN, steps=(None, until), missing_ok=True)
    found = [_of_runs(as_text(batch)) for batch in batches]
    columns = [*_RUN, "rate_first", "rate_last", "scheduled", *MEANS.values()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _of_runs(rows: pd.DataFrame) -> pd.DataFrame:
    values = rows["value"].where(np.isfinite(rows["value"]))
    rows = rows.assign(value=values).sort_values("step", kind="stable")
    parts = {name: rows[rows["quantity"] == name].groupby(_RUN, sort=False)["value"] for name in QUANTITIES}
    columns = {
        "rate_first": parts[RATE].first(),
        "rate_last": parts[RATE].last(),
        "scheduled": parts[RATE].min() < parts[RATE].max(),
    }
    columns |= {name: parts[quantity].mean() for quantity, name in MEANS.items()}
    return pd.DataFrame(columns).rename_axis(_RUN).reset_index()


def _over_runs(part: pd.DataFrame) -> dict[str, Any]:
    """Return one site of one condition: words of the first run that has them, numbers over all runs."""
    made: dict[str, Any] = {name: next((word for word in part[name] if isinstance(word, str)), None) for name in WORDS}
    made |= {name: float(part[name].astype("float64").mean()) for name in ("rate_first", "rate_last")}
    made["scheduled"] = bool((part["scheduled"] == True).any())  # noqa: E712 - NaN where no rate was recorded
    for name in MEANS.values():
        mean, low, high = t_interval(part[name].astype("float64"))
        made |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return made | {"seeds": len(part), "missing": int(part["dropped_share"].isna().sum())}
