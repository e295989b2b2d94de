"""Scalars of the network as the advice needs them: how each ends in each run, and the curve of the one that decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis.advice.case import CURVE, GAPS, MASKED, WITHOUT_MASKS
from dropdiag.analysis.advice.outcome import CHOSEN_ON, TRAINING, TRAINING_DATA, Outcome, Series
from dropdiag.analysis.compare.measures import COUNTERS, less_is_better
from dropdiag.analysis.select import as_text
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN, quantity_of

_RUN: Final = ["condition", "seed", "run"]


def network(scalars: pd.DataFrame, own: Collection[str]) -> pd.DataFrame:
    """Return the rows of what a user gave of the network as a whole; dropdiag's own and counters are none."""
    names = scalars.loc[scalars["layer"].isna(), "quantity"].unique()
    given = [name for name in names if name not in own and quantity_of(name) is None and name.lower() not in COUNTERS]
    rows: pd.DataFrame = scalars[scalars["layer"].isna() & scalars["quantity"].isin(given)]
    return rows


def recorded(rows: pd.DataFrame) -> list[Series]:
    """Return the series that have a finite value in any run."""
    finite = rows[np.isfinite(rows["value"].astype(float))]  # without a row, a column may be of objects
    pairs = finite[["phase", "quantity"]].drop_duplicates().itertuples(index=False)
    return [Series(str(phase), str(name)) for phase, name in pairs]


def last(rows: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Return the last value of a series in each run; of training steps the mean over the last tenth of them.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, value: a row a run that has the series.
    """
    of = rows[(rows["phase"] == series.phase) & (rows["quantity"] == series.name)]
    ends = of.sort_values("step", kind="stable").groupby("run", sort=False).tail(1)
    found: pd.DataFrame = ends.assign(value=ends["tail"] if series.data == TRAINING else ends["value"])
    return found[[*_RUN, "value"]].reset_index(drop=True)


def curve(runs: Runs, rows: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Return every value of a series, a row an evaluation."""
    if series.phase != TRAIN:
        of = rows[(rows["phase"] == series.phase) & (rows["quantity"] == series.name)]
        return of[list(CURVE)].reset_index(drop=True)
    found = [as_text(batch) for batch in runs.batches(series.name, phase=TRAIN, layer=[None], missing_ok=True)]
    return pd.concat(found, ignore_index=True)[list(CURVE)] if found else pd.DataFrame(columns=CURVE)


def diverged(rows: pd.DataFrame) -> set[str]:
    """Return the runs in which a loss, of whatever data, ends as NaN or infinite."""
    ends = rows.sort_values("step", kind="stable").groupby(["run", "phase", "quantity"], sort=False).tail(1)
    losses = ends[[less_is_better(name) for name in ends["quantity"]]] if len(ends) else ends
    return set(losses.loc[~np.isfinite(losses["value"]), "run"])


def gaps(rows: pd.DataFrame, series: Collection[Series], outcome: Outcome) -> tuple[str, str, pd.DataFrame]:
    """Set training beside held-out data, in what runs are judged by, else in the loss.

    Returns
    -------
    of : str
        What it is the gap of; empty where no run has both sides.
    on : str
        How the training side was taken.
    rows : DataFrame
        Columns condition, seed, run, training, held_out.
    """
    for on in (TRAINING_DATA, TRAINING):  # without masks first, whatever it is of
        for base in dict.fromkeys((outcome.chosen.base, "loss")):
            sides = {one.data: one for one in series if one.base == base}
            held = next((sides[data] for data in (outcome.chosen.data, *CHOSEN_ON) if data in sides), None)
            if on in sides and held is not None:
                training, held_out = last(rows, sides[on]), last(rows, held)
                both = training.rename(columns={"value": "training"}).merge(
                    held_out.rename(columns={"value": "held_out"})[["run", "held_out"]], on="run"
                )
                return base, WITHOUT_MASKS if on == TRAINING_DATA else MASKED, both[list(GAPS)]
    return "", "", pd.DataFrame(columns=GAPS)


def ends(rows: pd.DataFrame, outcome: Outcome, steps: Mapping[str, int]) -> pd.DataFrame:
    """Return the last values of each run that a rate is chosen by and reported on, and the run's steps."""
    chosen = last(rows, outcome.chosen).rename(columns={"value": "chosen"})
    reported = last(rows, outcome.reported).set_index("run")["value"]
    return chosen.assign(reported=chosen["run"].map(reported), steps=chosen["run"].map(steps).astype("float64"))
