"""A scalar over training: steps binned, averaged in each run, then over runs, without holding the rows of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.select import as_text
from dropdiag.store.reader import Runs

RUN: Final = ["condition", "seed", "run"]
MERGED_ROWS: Final = 400_000  # of means that wait to be merged: runs that differ give each their own
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Transform = Callable[[Floats], Floats]


class Part(NamedTuple):
    """A scalar of some runs.

    Attributes
    ----------
    runs : DataFrame
        condition, seed and run, a row a run.
    keys : DataFrame
        phase, step, layer, call ... of each value; text columns may be categories. Parts that follow each other
        share one object where they have the same.
    matrix : ndarray of float64, shape (runs, rows of keys) or (1, rows of keys)
        The values, NaN where one is left out.
    slots : ndarray of int64, shape (rows of keys,), or None
        None: all runs have all keys, a row of the matrix each. Else the run, from 0, that each value belongs to (see
        `dropdiag.store.batches.Block`).
    """

    runs: pd.DataFrame
    keys: pd.DataFrame
    matrix: Floats
    slots: Integers | None = None

    def rows(self, wanted: NDArray[np.bool_]) -> Part:
        """Return some of the rows."""
        if wanted.all():
            return self
        slots = None if self.slots is None else self.slots[wanted]
        return self._replace(keys=self.keys[wanted], matrix=self.matrix[:, wanted], slots=slots)


class Sums(NamedTuple):
    """Sums over the rows of each group and run of a part; arrays have shape (runs, groups), or (1, groups) for all.

    Attributes
    ----------
    keys : DataFrame
        Those of each group, as text.
    rows : ndarray of float64
        Values, with those that are left out.
    known, total : ndarray of float64
        Values that are not left out, and their sum.
    steps : ndarray of float64
        Sum of the rows' steps.
    """

    keys: pd.DataFrame
    rows: Floats
    known: Floats
    total: Floats
    steps: Floats

    def of(self, runs: Integers) -> Sums:
        """Return the sums of some runs."""
        return Sums(self.keys, *(array if len(array) == 1 else array[runs] for array in self[1:]))


Read = Callable[[], Iterable[Part]]


def parts(runs: Runs, quantity: str | Sequence[str], transform: Transform, **chosen: Any) -> Iterator[Part]:
    """Read scalars of runs; ``chosen`` as in `Runs.blocks`, ``transform`` makes NaN of what is to be left out."""
    known: object = None
    for block in runs.blocks(quantity, **chosen):
        if block.keys is not known:
            known, keys = block.keys, block.keys.to_pandas()
        yield Part(runs.run_columns(block.positions), keys, transform(block.matrix), block.slots)


def sums(part: Part, by: Sequence[str]) -> Sums:
    """Sum a part's values over the rows with the same keys; groups are in the order of first appearance."""
    names = list(by)
    group = part.keys.groupby(names, sort=False, observed=True, dropna=False).ngroup().to_numpy().astype(np.int64)
    keys = part.keys.loc[~part.keys.duplicated(names), names].reset_index(drop=True)
    ones, step = np.ones((1, len(part.keys))), part.keys["step"].to_numpy(np.float64)[np.newaxis]
    missing = np.isnan(part.matrix)
    add = partial(_sum, part, group, len(keys))
    rows = add(ones)
    return Sums(as_text(keys), rows, add(~missing) if missing.any() else rows, add(part.matrix), add(step))


def _sum(part: Part, group: Integers, groups: int, values: NDArray[Any]) -> Floats:
    """Sum the values, shape (runs, rows), of each group run by run; NaN is left out."""
    weights = np.where(np.isnan(values), 0.0, values)
    if part.slots is None:
        return np.array([np.bincount(group, row, minlength=groups) for row in weights], np.float64)
    # one pass for all runs: a number each for the run and the group together
    flat = np.bincount(part.slots * groups + group, weights[0], minlength=len(part.runs) * groups)
    return flat.reshape(len(part.runs), groups).astype(np.float64)


def finite(values: Floats) -> Floats:
    """Leave out what is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def logs(values: Floats) -> Floats:
    """Return logarithms, where there is one."""
    usable = np.isfinite(values) & (values > 0.0)
    return np.log(values, out=np.full(values.shape, np.nan), where=usable)


def over_training(read: Read, by: Sequence[str], bins: int) -> pd.DataFrame:
    """Average values in bins of steps, per run and then over runs.

    Parameters
    ----------
    read : callable
        Yields parts of whole runs. It is called twice: first to know the steps.
    by : sequence of str
        Columns that name a curve: of the keys, and condition or run.
    bins : int
        See `step_bins`; each phase has its own.

    Returns
    -------
    DataFrame
        Columns ``by``, bin, step (mean of the bin over rows, then over runs), mean and sd (of the runs' means;
        NaN for fewer than two), seeds (runs with a value), dropped (values left out). Empty where nothing was read.
    """
    # read twice, for bins need the last step of all runs: keeping the rows until it is known would take their memory
    steps = _steps(read())
    numbers = {phase: step_bins(pd.Series(known), bins).to_numpy() for phase, known in steps.items()}
    keys, found = [*by, "bin"], list[pd.DataFrame]()
    for part in read():
        found += _over_runs(part, by, _bins(part.keys, steps, numbers))
        if sum(map(len, found)) > MERGED_ROWS:
            found = [_merged(pd.concat(found, ignore_index=True), keys)]
    if not found:
        return pd.DataFrame(columns=[*keys, "layer"])
    return _means(_merged(pd.concat(found, ignore_index=True), keys))


def with_band(result: pd.DataFrame, *, log: bool = False) -> pd.DataFrame:
    """Add to what `over_training` returns the columns value, low and high: the mean, less and plus its sd.

    Parameters
    ----------
    result : DataFrame
    log : bool
        Whether the means are those of logarithms: value, low and high are then not.
    """
    mean, sd = result["mean"], result["sd"]
    ends = {"value": mean, "low": mean - sd, "high": mean + sd}
    return result.assign(**{name: np.exp(end) if log else end for name, end in ends.items()})


def step_bins(steps: pd.Series[Any], bins: int) -> pd.Series[Any]:
    """Bin of each step: equal bins between the first and the last, or each step its own if they are few.

    Parameters
    ----------
    steps : Series of int
    bins : int

    Returns
    -------
    Series of int, same index
    """
    if steps.nunique() <= bins:
        return steps.rank(method="dense").astype("int64")
    first, last = steps.min(), steps.max()
    number: pd.Series[Any] = ((steps - first) * bins // (last - first + 1)).astype("int64")
    return number


def _steps(found: Iterable[Part]) -> dict[str, Integers]:
    """Return the steps of each phase, ascending."""
    known: pd.DataFrame | None = None
    steps: dict[str, Integers] = {}
    for part in found:
        if part.keys is not known:  # of a sweep's runs, one look for all
            known = part.keys
            for phase, here in known.groupby("phase", sort=False, observed=True)["step"]:
                steps[str(phase)] = np.union1d(steps.get(str(phase), np.empty(0, np.int64)), here)
    return steps


def _bins(keys: pd.DataFrame, steps: dict[str, Integers], numbers: dict[str, Integers]) -> Integers:
    """Return the bin of each row; -1 for steps that came after they were listed, which are left for the next time."""
    bins = np.full(len(keys), -1, np.int64)
    for phase, known in steps.items():
        here = np.flatnonzero(keys["phase"] == phase)
        values = keys["step"].to_numpy()[here]
        place = np.searchsorted(known, values).clip(max=len(known) - 1)
        bins[here] = np.where(known[place] == values, numbers[phase][place], -1)
    return bins


def _over_runs(part: Part, by: Sequence[str], bins: Integers) -> Iterator[pd.DataFrame]:
    """Yield for the runs of each condition (or each run): how many they are, and sums of their means in each bin."""
    # a run that is still being recorded may have gained steps since they were listed
    part = part._replace(keys=part.keys.assign(bin=bins)).rows(bins >= 0)
    found = sums(part, [*(name for name in by if name not in RUN), "bin"])
    names = [name for name in by if name in RUN]
    for label, members in part.runs.reset_index().groupby(names, sort=False, dropna=False).indices.items():
        called = dict(zip(names, label if isinstance(label, tuple) else (label,), strict=True))
        yield _summed(found.of(np.asarray(members)), len(members)).assign(**called)


def _summed(found: Sums, runs: int) -> pd.DataFrame:
    """Count the runs with rows and those with a value in each bin; sum their means, and the squared deviations."""

    def add(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(array.sum(axis=0) * (runs // len(array)))  # one row for all runs, or one each

    here, some = found.rows > 0, found.known > 0
    with np.errstate(invalid="ignore"):
        step, means = found.steps / found.rows, found.total / found.known
        seeds, total = add(some), add(np.where(some, means, 0.0))
        squares = add(np.where(some, (means - total / seeds) ** 2, 0.0))
    frame = found.keys.assign(
        runs=add(here), step=add(np.where(here, step, 0.0)), seeds=seeds, total=total, squares=squares,
        dropped=(add(found.rows) - add(found.known)).astype(np.int64),
    )  # fmt: skip
    return frame[frame["runs"] > 0]


def _merged(found: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add up what parts gave; the squares gain those between the parts' means (Chan, Golub & LeVeque 1979)."""
    groups = found.groupby(keys, sort=False, dropna=False)
    sums = groups[["seeds", "total"]].transform("sum")
    between = found["seeds"] * (found["total"] / found["seeds"] - sums["total"] / sums["seeds"]) ** 2
    found = found.assign(squares=found["squares"] + between.fillna(0.0))
    columns = ["runs", "step", "seeds", "total", "dropped", "squares"]
    result: pd.DataFrame = found.groupby(keys, sort=False, dropna=False)[columns].sum().reset_index()
    return result


def _means(result: pd.DataFrame) -> pd.DataFrame:
    seeds = result["seeds"]
    return result.assign(
        step=result["step"] / result["runs"],
        mean=result["total"] / seeds.where(seeds > 0),
        sd=np.sqrt(result["squares"] / (seeds - 1).where(seeds > 1)),
    ).drop(columns=["runs", "total", "squares"])
