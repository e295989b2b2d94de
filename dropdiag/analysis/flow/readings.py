"""Means of the readings of each run over the same steps: those at which all of its chain was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.flow.chain import (
    NET_GRAD,
    QUANTITIES,
    RECORDED,
    Chain,
    Reading,
    chain_of,
    parts_of_wholes,
    readings,
)
from dropdiag.analysis.training import finite, parts
from dropdiag.errors import NotRecordedError
from dropdiag.store.order import Site
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]
Bins: TypeAlias = Callable[[Integers], Integers]
"""Steps -> the bin of each, from 0; -1 for those that do not count."""


class Means(NamedTuple):
    """What was read of one run, averaged.

    Attributes
    ----------
    condition : str
    seed : int or None
    run : str
        Its label among the runs.
    chain : Chain
    steps : ndarray of int64
        The steps that the means are over: those at which every reading of the chain that ever has a value has one.
    scheduled : int
        Steps at which anything of the decomposition was read.
    lost, recorded : int
        Gradients dL/dz that are NaN, infinite or missing, and all that were recorded, at unscheduled steps as well: of
        the activation of the chain with the largest share. One that never had any does not count where others did.
    means : dict of Reading to ndarray of float64, shape (bins,)
        NaN where there is none.
    every_step : dict of (str, int) to float
        Activation -> logarithm of the mean |dL/dz| over all steps that count, those between the schedule's among them.
    """

    condition: str
    seed: int | None
    run: str
    chain: Chain
    steps: Integers
    scheduled: int
    lost: int
    recorded: int
    means: dict[Reading, Floats]
    every_step: dict[Site, float]


def averaged(
    runs: Runs, conditions: Sequence[str], *, until: int | None = None, bins: Bins | None = None, count: int = 1
) -> list[Means]:
    """Average the readings of each run.

    Parameters
    ----------
    runs : Runs
    conditions : sequence of str
        Runs of others are not read.
    until : int, optional
        Last step that counts.
    bins : callable, optional
        See `Bins`; all steps are one bin by default.
    count : int
        How many bins there are.

    Returns
    -------
    list of Means
        Of the runs that recorded the decomposition.

    Raises
    ------
    NotRecordedError
        If none of them did.
    """
    place = bins or (lambda steps: np.zeros(len(steps), np.int64))
    chains = {label: chain_of(run.meta) for label, run in zip(runs.labels(), runs, strict=True)}
    found = []
    for who, grid in _grids(runs, conditions, until):
        if any(reading.quantity in RECORDED for reading in grid.readings):
            label = str(who["run"])
            chain = chains[label]
            seed = None if pd.isna(who["seed"]) else int(who["seed"])
            found.append(Means(str(who["condition"]), seed, label, chain, *grid.means(chain, place, count)))
    if not found:
        raise NotRecordedError(
            "no run holds the decomposition of the gradient flow; record it with probes='paper' or 'full' in training"
        )
    return found


def scheduled(runs: Runs, conditions: Sequence[str], until: int | None = None) -> Integers:
    """Return the steps at which the decomposition was recorded in any of the runs, ascending."""
    known: object = None
    steps = np.empty(0, np.int64)
    for part in parts(runs, RECORDED, finite, condition=conditions, phase=TRAIN):
        if part.keys is not known:
            known = part.keys
            steps = np.union1d(steps, part.keys["step"].to_numpy())
    return steps if until is None else steps[steps <= until]


class _Grid:
    """Readings of one run by step, shape (readings, steps), and where there is a row of them, with a value or not."""

    def __init__(self, readings: list[Reading], steps: Integers, values: Floats, rows: Booleans) -> None:
        self.readings, self.steps, self.values, self.rows = readings, steps, values, rows

    def means(
        self, chain: Chain, place: Bins, count: int
    ) -> tuple[Integers, int, int, int, dict[Reading, Floats], dict[Site, float]]:
        """Return the last six fields of `Means`."""
        number = {reading: i for i, reading in enumerate(self.readings)}
        wanted = [number[one] for one in readings(chain) if one in number]
        values, bins = self.values[wanted], place(self.steps)
        ever = np.isfinite(values).any(axis=1)
        own = np.array([self.readings[i].quantity in RECORDED for i in wanted])
        at = self.rows[wanted][own].any(axis=0) & (bins >= 0)
        for part, whole in parts_of_wholes(chain).items():  # without a row there is nothing to tell apart
            if part in number and whole in number:
                alone = ~self.rows[number[part]]
                values[wanted.index(number[part]), alone] = self.values[number[whole], alone]
        # a reading that never has a value leaves no step out: its terms are missing, the others are not
        whole = at & np.isfinite(values[ever]).all(axis=0)
        means = {self.readings[i]: _mean(row[whole], bins[whole], count)
                 for i, row in zip(wanted, values, strict=True)}  # fmt: skip
        every = {self.readings[i][1:]: _log_mean(row[bins >= 0])
                 for i, row in zip(wanted, values, strict=True) if self.readings[i].quantity == NET_GRAD}  # fmt: skip
        return self.steps[whole], int(at.sum()), *self._lost(wanted), means, every

    def _lost(self, wanted: list[int]) -> tuple[int, int]:
        """Return `Means.lost` and `Means.recorded`."""
        nets = [i for i in wanted if self.readings[i].quantity == NET_GRAD]
        known, rows = np.isfinite(self.values[nets]).sum(axis=1), self.rows[nets].sum(axis=1)
        counts = [(int(n), int(n - k)) for n, k in zip(rows, known, strict=True) if k or not known.any()]
        recorded, lost = max(counts, key=lambda one: one[1] / max(one[0], 1), default=(0, 0))
        return lost, recorded


def _mean(values: Floats, bins: Integers, count: int) -> Floats:
    """Mean of the finite values in each bin."""
    known = np.isfinite(values)
    total = np.bincount(bins[known], values[known], minlength=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.bincount(bins[known], minlength=count), np.float64)


def _log_mean(values: Floats) -> float:
    """Logarithm of the mean of the finite values; NaN where there is none, or it is 0."""
    known = values[np.isfinite(values)]
    return float(np.log(known.mean())) if known.size and known.mean() > 0.0 else float("nan")


def _grids(runs: Runs, conditions: Sequence[str], until: int | None) -> Iterator[tuple[pd.Series, _Grid]]:
    """Yield condition, seed and run of each run, and what was read of it."""
    for every in parts(runs, QUANTITIES, finite, condition=conditions, phase=TRAIN):
        part = every.rows(every.keys["step"].to_numpy() <= (np.inf if until is None else until))
        if part.slots is None:
            layout = _layout(part.keys)
            for row, values in enumerate(part.matrix):
                yield part.runs.iloc[row], _filled(layout, values)
            continue
        for row in range(len(part.runs)):
            mine = part.slots == row
            if mine.any():
                yield part.runs.iloc[row], _filled(_layout(part.keys[mine]), part.matrix[0, mine])


_Layout: TypeAlias = tuple[list[Reading], Integers, Integers, Integers]
"""Readings and steps, and the place of each row among both."""


def _layout(keys: pd.DataFrame) -> _Layout:
    names = ["quantity", "layer", "call"]
    number = keys.groupby(names, sort=False, observed=True).ngroup().to_numpy().astype(np.int64)
    first = keys.loc[~keys.duplicated(names) & keys["layer"].notna(), names]
    readings = [Reading(str(q), str(layer), int(call)) for q, layer, call in first.itertuples(index=False)]
    steps, at = np.unique(keys["step"].to_numpy(np.int64), return_inverse=True)
    return readings, steps, number, at


def _filled(layout: _Layout, values: Floats) -> _Grid:
    readings, steps, number, at = layout
    grid = np.full((len(readings), len(steps)), np.nan)
    rows = np.zeros(grid.shape, np.bool_)
    known = number >= 0  # a row of no layer belongs to none
    grid[number[known], at[known]] = values[known]
    rows[number[known], at[known]] = True
    return _Grid(readings, steps, grid, rows)
