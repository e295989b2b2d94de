"""Read what a comparison needs: each file of a run once, whatever the number of measures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis import select
from dropdiag.analysis.compare.lenient import Problems, attempt, noted
from dropdiag.analysis.phases import rows_of_one_phase
from dropdiag.analysis.select import KEYS, ReadHistograms, as_text, chosen, in_order
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN

HISTOGRAM_COLUMNS: Final = [*KEYS, "quantity", "histogram"]
SCALAR_COLUMNS: Final = ["quantity", *KEYS, "value", "tail", "evaluation"]
TAIL: Final = 0.1
"""A scalar of training ends with the mean of this last share of its rows: one step alone is noise."""
_SERIES: Final = ["run", "quantity", "phase", "layer", "call"]


def read_histograms(
    runs: Runs, quantities: Sequence[str], problems: Problems, starts: Collection[str] = ()
) -> ReadHistograms:
    """Read the last histograms of several quantities, each run's file opened once.

    Parameters
    ----------
    runs : Runs
    quantities : sequence of str
        Those that a run does not hold are no problem.
    problems : list of str
        Runs that cannot be read are added, and left out.
    starts : collection of str
        Quantities of which those of step 0 are read too.

    Returns
    -------
    ReadHistograms
        Of each run and quantity those of the last step, in the phase that is the run's default.
    """

    def ask(some: Runs) -> ReadHistograms:
        read = select.read_histograms(some, quantities, conditions=runs.conditions, starts=starts)
        return read._replace(frame=relabelled(read.frame, some, runs))

    return attempt(runs, ask, problems) or ReadHistograms({}, pd.DataFrame(columns=HISTOGRAM_COLUMNS))


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
        return relabelled(in_order(some, found), some, runs)

    frame = attempt(runs, ask, problems)
    return pd.DataFrame(columns=SCALAR_COLUMNS) if frame is None or frame.empty else frame


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


def of_quantity(
    frame: pd.DataFrame, quantity: str, conditions: Collection[str], usual: str | None = None
) -> pd.DataFrame:  # fmt: skip
    """Return the rows of layers of one quantity in one phase, by condition and layer.

    The phase is ``usual`` where any run has it, as with what is recorded in a phase of its own unless told otherwise.

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
    phase = usual if usual is not None and (ordered["phase"] == usual).any() else None
    return rows_of_one_phase(ordered, quantity, phase).reset_index(drop=True)


def asked(problems: Problems, question: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """Return the answer; None, and a problem that says why, where nothing was recorded that could answer."""
    found: list[pd.DataFrame] = []
    with noted(problems):
        found.append(question())
    return found[0] if found else None
