"""A scalar over training: steps binned, averaged in each run, then over runs, without holding the rows of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.common_steps import at_common_steps, mean_steps
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


class Steps(NamedTuple):
    """The steps of a phase, ascending, the bin of each, and the step that stands for each bin."""

    known: Integers
    bins: Integers
    common: Floats


def over_training(read: Read, by: Sequence[str], bins: int) -> pd.DataFrame:
    """Average values in bins of steps, per run and then over runs.

    A run that was recorded at other steps than others is interpolated to the steps of all, between its first and its
    last (`dropdiag.analysis.common_steps`).

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
        Columns ``by``, bin, step (mean of the bin's different steps in all runs), mean and sd (of the runs' means; NaN
        for fewer than two), seeds (runs with a value, interpolated or not), runs (those of the condition that hold
        the scalar in this phase: where there are fewer seeds, the mean is of some of them), recorded (values), dropped
        (those left out). Empty where nothing was read.
    """
    # read twice, for bins need the last step of all runs: keeping the rows until it is known would take their memory
    steps = {phase: _binned(known, bins) for phase, known in _steps(read()).items()}
    keys, found, held = [*by, "bin"], list[pd.DataFrame](), list[pd.DataFrame]()
    named = [name for name in by if name in RUN]
    for part in read():
        for phase, of_phase in steps.items():
            rows = part.rows((part.keys["phase"] == phase).to_numpy())
            if len(rows.keys):
                for frame, runs in _over_runs(rows, by, of_phase):
                    found.append(frame.assign(_phase=phase))
                    held.append(frame[:1][[*named]].assign(_phase=phase, runs=runs))
        if sum(map(len, found)) > MERGED_ROWS:
            found = [_merged(pd.concat(found, ignore_index=True), [*keys, "_phase"])]
    if not found:
        return pd.DataFrame(columns=[*keys, "layer"])
    result = _means(_merged(pd.concat(found, ignore_index=True), [*keys, "_phase"]))
    counted = pd.concat(held, ignore_index=True).groupby([*named, "_phase"], sort=False, dropna=False)["runs"].sum()
    return result.merge(counted.reset_index(), on=[*named, "_phase"], how="left").drop(columns="_phase")


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


def _binned(known: Integers, bins: int) -> Steps:
    numbers = pd.factorize(step_bins(pd.Series(known), bins))[0].astype(np.int64)
    return Steps(known, numbers, mean_steps(known, numbers))


def _over_runs(part: Part, by: Sequence[str], steps: Steps) -> Iterator[tuple[pd.DataFrame, int]]:
    """Yield for the runs of each condition (or each run) sums of their means in each bin, and how many runs there are.

    The part is of one phase.
    """
    # a run that is still being recorded may have gained steps since they were listed: left for the next time
    values = part.keys["step"].to_numpy()
    place = np.searchsorted(steps.known, values).clip(max=len(steps.known) - 1)
    part = part._replace(keys=part.keys.assign(bin=steps.bins[place])).rows(steps.known[place] == values)
    curve = [name for name in by if name not in RUN]
    found = sums(part, [*curve, "bin"])
    if not len(found.keys):
        return
    whole = _whole(found, curve, steps.common)
    names = [name for name in by if name in RUN]
    for label, members in part.runs.reset_index().groupby(names, sort=False, dropna=False).indices.items():
        called = dict(zip(names, label if isinstance(label, tuple) else (label,), strict=True))
        frame, runs = _summed(whole.of(np.asarray(members)), len(members))
        yield frame.assign(step=steps.common[frame["bin"]], **called), runs


def _whole(found: Sums, curve: list[str], common: Floats) -> Sums:
    """Return sums with a group for every bin of each curve, and in ``total`` the means at the common steps.

    A run's mean is thus where the others' are: in a bin in which it was not recorded, it lies between those of its
    neighbours.
    """
    if curve:
        number = found.keys.groupby(curve, sort=False, dropna=False).ngroup().to_numpy()
    else:
        number = np.zeros(len(found.keys), np.int64)
    curves, bins = int(number.max()) + 1, common.size
    place = number * bins + found.keys["bin"].to_numpy()

    def dense(array: Floats) -> Floats:
        made = np.zeros((len(array), curves * bins))
        made[:, place] = array
        return made.reshape(len(array), curves, bins)

    rows, known, total, step = (dense(array) for array in found[1:])
    with np.errstate(invalid="ignore"):
        means = at_common_steps(total / known, np.broadcast_to(rows > 0, total.shape), common, step / rows)
    first = found.keys.loc[~found.keys.duplicated(curve) if curve else [0], curve].reset_index(drop=True)
    keys = first.loc[first.index.repeat(bins)].reset_index(drop=True).assign(bin=np.tile(np.arange(bins), curves))
    return Sums(keys, *(array.reshape(len(array), -1) for array in (rows, known, means, step)))


def _summed(found: Sums, runs: int) -> tuple[pd.DataFrame, int]:
    """Count the runs with a value in each bin; sum their means, and the squared deviations. Count all with a row."""

    def add(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(array.sum(axis=0) * (runs // len(array)))  # one row for all runs, or one each

    means, some = found.total, ~np.isnan(found.total)
    own, seeds, total = add(found.known > 0), add(some), add(np.where(some, means, 0.0))
    with np.errstate(invalid="ignore"):
        squares = add(np.where(some, (means - total / seeds) ** 2, 0.0))
    frame = found.keys.assign(
        own=own, seeds=seeds, total=total, squares=squares,
        recorded=add(found.rows).astype(np.int64), dropped=(add(found.rows) - add(found.known)).astype(np.int64),
    )  # fmt: skip
    here = np.asarray((found.rows > 0).any(axis=1))
    return frame[(frame["recorded"] > 0) | (seeds > 0)], int(here.sum() * (runs // len(here)))


def _merged(found: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add up what parts gave; the squares gain those between the parts' means (Chan, Golub & LeVeque 1979)."""
    groups = found.groupby(keys, sort=False, dropna=False)
    sums = groups[["seeds", "total"]].transform("sum")
    between = found["seeds"] * (found["total"] / found["seeds"] - sums["total"] / sums["seeds"]) ** 2
    found = found.assign(squares=found["squares"] + between.fillna(0.0))
    columns = ["own", "seeds", "total", "recorded", "dropped", "squares"]
    merged = found.groupby(keys, sort=False, dropna=False)
    result: pd.DataFrame = merged[columns].sum().assign(step=merged["step"].first()).reset_index()
    return result


def _means(result: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations; none at a step at which no run has a value of its own."""
    result = result[(result["own"] > 0) | (result["dropped"] > 0)].reset_index(drop=True)
    seeds = result["seeds"].where(result["own"] > 0, 0)
    return result.assign(
        seeds=seeds,
        mean=result["total"] / seeds.where(seeds > 0),
        sd=np.sqrt(result["squares"] / (seeds - 1).where(seeds > 1)),
    ).drop(columns=["own", "total", "squares"])
