"""Read what a comparison needs: each file of a run once, whatever the number of measures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.lenient import DAMAGE, Problems, add, attempt, noted
from dropdiag.analysis.phases import common, rows_of_one_phase
from dropdiag.analysis.select import KEYS, as_text, chosen
from dropdiag.store.reader import Run, Runs
from dropdiag.store.schema import TRAIN

HISTOGRAM_COLUMNS: Final = [*KEYS, "quantity", "histogram"]
SCALAR_COLUMNS: Final = ["quantity", *KEYS, "value", "tail", "evaluation"]
TAIL: Final = 0.1
"""A scalar of training ends with the mean of this last share of its rows: one step alone is noise."""
_SERIES: Final = ["run", "quantity", "phase", "layer", "call"]


def read_histograms(runs: Runs, quantities: Collection[str], problems: Problems) -> pd.DataFrame:
    """Read the last histograms of several quantities.

    Parameters
    ----------
    runs : Runs
    quantities : collection of str
        Those that a run does not hold are no problem.
    problems : list of str
        Runs that cannot be read are added, and left out.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, phase, layer, call, quantity, histogram; each of a run's last step, in the
        phase that is the run's default.
    """
    rows: list[tuple[Any, ...]] = []
    for label, run in zip(runs.labels(), runs, strict=True):
        try:
            found = _last_histograms(run, quantities, problems)
        except DAMAGE as error:
            add(problems, f"{run.path} cannot be read ({error}) and is left out.")
            continue
        rows += [(run.condition, run.seed, label, *row) for row in found]
    return pd.DataFrame(rows, columns=HISTOGRAM_COLUMNS).astype({"seed": "Int64", "run": "str"})


def _last_histograms(run: Run, quantities: Iterable[str], problems: Problems) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for quantity in quantities:
        with noted(problems):
            phases = run.phases(quantity)
            if phases:
                frame = run.histograms(quantity, phase=common({run.name: phases}, quantity)).assign(quantity=quantity)
                rows += frame[HISTOGRAM_COLUMNS[3:]].itertuples(index=False, name=None)
    return rows


def read_scalars(runs: Runs, ignored: Collection[str], problems: Problems) -> pd.DataFrame:
    """Read how the scalars of layers end, and those of the network over training, in one pass.

    Parameters
    ----------
    runs : Runs
    ignored : collection of str
        Quantities of layers that are not needed; of the network (of no layer) all are taken.
    problems : list of str
        What could not be read is added.

    Returns
    -------
    DataFrame
        Columns quantity, condition, seed, run, step, phase, layer, call, value, tail (mean of the last tenth of the
        rows of the series, NaN where the very last value is not finite), evaluation (its rank in the series; only
        steps above 0 count). One row a run, quantity, phase and site: the last one. Of held-out scalars of the network
        there is a row an evaluation.
    """

    def ask(some: Runs) -> pd.DataFrame:
        found = [_ends(batch[batch["layer"].isna() | ~batch["quantity"].isin(ignored)]) for batch in some.batches()]
        return relabelled(pd.concat(found or [pd.DataFrame(columns=SCALAR_COLUMNS)]), some, runs)

    frame = attempt(runs, ask, problems)
    if frame is None:
        return pd.DataFrame(columns=SCALAR_COLUMNS)
    # batches come in any order: back to that of the runs, on which the order of all tables rests
    place = frame["run"].map({label: i for i, label in enumerate(runs.labels())})
    return frame.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def _ends(frame: pd.DataFrame) -> pd.DataFrame:
    """Reduce whole runs to the ends of their series, but for the network's evaluations."""
    frame = frame.sort_values("step", kind="stable")
    series = frame.assign(counted=frame["step"] > 0).groupby(_SERIES, sort=False, observed=True, dropna=False)
    # transforms and masks in place of a function a group: there are runs times layers times quantities of them
    left, size = series.cumcount(ascending=False), series["step"].transform("size")
    keys = [frame[name] for name in _SERIES]
    late = frame["value"].where(np.isfinite(frame["value"]) & (left < (TAIL * size).clip(lower=1)))
    tail = late.groupby(keys, sort=False, observed=True, dropna=False).transform("mean")
    frame = frame.assign(tail=tail.where(np.isfinite(frame["value"])), evaluation=series["counted"].cumsum())
    # evaluations are few and all needed to find the best; of training millions of rows are behind each end
    kept = (left == 0) | (frame["layer"].isna() & (frame["phase"] != TRAIN))
    return as_text(frame.loc[kept, SCALAR_COLUMNS])


def relabelled(frame: pd.DataFrame, some: Runs, runs: Runs) -> pd.DataFrame:
    """Call runs as among all of them: a label depends on the runs beside it."""
    names = dict(zip((run.path for run in runs), runs.labels(), strict=True))
    known = {label: names[run.path] for label, run in zip(some.labels(), some, strict=True)}
    return frame.assign(run=frame["run"].map(known))


def of_quantity(frame: pd.DataFrame, quantity: str, conditions: Collection[str]) -> pd.DataFrame:
    """Return the rows of layers of one quantity in one phase, by condition and layer.

    Raises
    ------
    ArgumentError
        If the phase is not clear.
    NotRecordedError
        If there is no row.

    Warns
    -----
    DropdiagWarning
        If runs hold the quantity in other phases alone.
    """
    rows = frame[(frame["quantity"] == quantity) & frame["layer"].notna()]
    ordered = chosen(rows, quantity, layers=None, conditions=None, known=conditions)
    return rows_of_one_phase(ordered, quantity).reset_index(drop=True)


def asked(problems: Problems, question: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """Return the answer; None, and a problem that says why, where nothing was recorded that could answer."""
    found: list[pd.DataFrame] = []
    with noted(problems):
        found.append(question())
    return found[0] if found else None
