"""Scalars of the network as a whole: at their end, their best, and when that was."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.layer_values import rows
from dropdiag.analysis.compare.lenient import Problems
from dropdiag.analysis.compare.measures import COUNTERS, less_is_better, measure_of
from dropdiag.analysis.compare.reading import asked
from dropdiag.analysis.compare.step_ranges import NOT_FINITE
from dropdiag.analysis.phases import common, held_phases
from dropdiag.analysis.select import by_condition
from dropdiag.store.schema import TRAIN

LAST: Final = "the best is the last evaluation"
"""Note of a run that may have become better yet, had training gone on."""


def network_values(
    scalars: pd.DataFrame, own: Collection[str], conditions: Collection[str], problems: Problems
) -> list[pd.DataFrame]:
    """Take the scalars of the network that were given to the recorder.

    Parameters
    ----------
    scalars : DataFrame
        As `dropdiag.analysis.compare.reading.read_scalars` returns it.
    own : collection of str
        Names that are dropdiag's own: no measures.
    conditions : collection of str
        In their order.
    problems : list of str
        What could not be taken is added.

    Returns
    -------
    list of DataFrame
        Rows of final:NAME, best:NAME and epochs_to_best:NAME; of final:NAME alone, where training alone has the name.
    """
    frame = scalars[scalars["layer"].isna()].assign(layer=None, call=0)
    names = sorted(name for name in frame["quantity"].unique() if name not in own and name.lower() not in COUNTERS)
    frame = by_condition(frame, conditions)
    found = [asked(problems, partial(_scalar, frame[frame["quantity"] == name], name)) for name in names]
    return [one for one in found if one is not None]


def _scalar(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    phase = common(held_phases([frame]), name)
    frame = frame[frame["phase"] == phase].reset_index(drop=True)
    last = frame.groupby("run", sort=False).tail(1)
    if phase == TRAIN:
        # the best of noisy training steps says how many there were, not how good the network is
        return _named("final", name, last.assign(value=last["tail"], note=_lost(last["tail"], name)))
    final = last.assign(note=_lost(last["value"], name))
    best = _best(frame, less_is_better(name))
    finals = final.assign(value=final["value"].where(best["value"].notna().to_numpy()))
    return pd.concat([
        _named("final", name, finals),
        _named("best", name, best),
        _named("epochs_to_best", name, best.assign(value=best["evaluation"].where(best["value"].notna(), np.nan))),
    ])  # fmt: skip


def _best(frame: pd.DataFrame, less: bool) -> pd.DataFrame:
    """Return each run's best evaluation, the first of equal ones; its value is NaN where none is finite."""
    finite = np.isfinite(frame["value"])
    # -inf and not NaN: where no evaluation is finite idxmax still has to find one
    score = (-frame["value"] if less else frame["value"]).where(finite, -np.inf)
    best = frame.loc[score.groupby(frame["run"], sort=False).idxmax()]
    evaluations = frame.groupby("run", sort=False)["evaluation"].max()
    last = best["evaluation"] >= best["run"].map(evaluations)
    return best.assign(value=best["value"].where(finite), note=np.where(last, LAST, ""))


def _lost(final: pd.Series[float], name: str) -> list[str]:
    """Note for a loss that ends as NaN or infinite."""
    return ["" if np.isfinite(one) or not less_is_better(name) else f"the last {name} is {NOT_FINITE}" for one in final]


def _named(kind: str, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    return rows(frame, measure_of(f"{kind}:{name}"))
