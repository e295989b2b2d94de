"""Distributions over training for the page: re-binned from the shared bins, averaged over seeds, step by step."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.kde import Support, widened
from dropdiag.analysis.phases import common, keep
from dropdiag.analysis.recordings import Key, Recording
from dropdiag.errors import DropdiagError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.report.binary import Blob
from dropdiag.report.cache import RunCache
from dropdiag.report.readings import Glance, Numbers, Readings, glance
from dropdiag.report.series import Series, Site, in_order, network_places, per_run
from dropdiag.store.reader import Runs

BINS: Final = 72
CELLS: Final = 1_300_000
"""At most so many bars of one quantity in a page: with more, steps are left out."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What the page takes from the histograms of a quantity.

    Attributes
    ----------
    through : mapping of str to callable
        Numbers of each histogram that is shown, drawn through training.
    last : mapping of str to callable
        Numbers of each run's last histogram, for the table.
    support : (float or None, float or None)
        Hard bounds of the quantity; where both are given they are the ends of its axis.
    """

    through: Numbers
    last: Numbers = field(default_factory=dict)
    support: Support = (None, None)


@dataclass
class Densities:
    """Density of one quantity at each site, condition and step.

    Attributes
    ----------
    quantity, phase : str
    sites : list of (str, int)
        Layer and call, in network order.
    edges : ndarray of float64, shape (sites, 2)
        First and last edge of the bars of a site, the same for all conditions and steps.
    steps : list of list of int
        For each condition, those that are shown.
    left_out : int
        Recorded steps that are not shown, in the condition where they are most.
    n : ndarray of int64, shape (sites, all steps)
        Runs averaged; the steps of all conditions one after another.
    mean, sd : ndarray of float64, shape (sites, all steps, bins)
        Over runs, per unit of the quantity; sd is NaN for fewer than two runs.
    last : ndarray of float64, shape (sites, runs, bins)
        Each run at the last step that is shown of it.
    last_steps : list of int
        That step; -1 for a run that does not hold the quantity.
    outside : float
        Largest share of values of any site and step that lies outside the edges.
    measures : dict of str to Series
    table : DataFrame
        Columns condition, layer, call, run and the numbers at each run's last step.
    """

    quantity: str
    phase: str
    sites: list[Site]
    edges: Floats
    steps: list[list[int]]
    left_out: int
    n: NDArray[np.int64]
    mean: Floats
    sd: Floats
    last: Floats
    last_steps: list[int]
    outside: float = 0.0
    measures: dict[str, Series] = field(default_factory=dict)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)

    def packed(self, blob: Blob) -> dict[str, Any]:
        """Return the densities as JSON, their values in the block.

        The mean is stored in 65,535ths of its curve's peak, the standard deviation in 255ths of its own largest
        value, each curve with its scale as float32.
        """
        mean, peak = _scaled(self.mean, 65_535)
        sd, most = _scaled(self.sd, 255)
        last, height = _scaled(self.last, 65_535)
        return {
            "quantity": self.quantity,
            "phase": self.phase,
            "bins": self.mean.shape[-1],
            "sites": [list(site) for site in self.sites],
            "edges": self.edges.tolist(),
            "steps": self.steps,
            "left_out": self.left_out,
            "outside": self.outside,
            "n": blob.add(self.n, "u2"),
            "mean": blob.add(mean, "u2"),
            "peak": blob.add(peak, "f4"),
            "sd": blob.add(sd, "u1"),
            "most": blob.add(most, "f4"),
            "last": blob.add(last, "u2"),
            "height": blob.add(height, "f4"),
            "last_steps": self.last_steps,
        }


class Distributions:
    """The histograms of all runs, averaged over seeds: every quantity in one or two readings.

    Parameters
    ----------
    runs : Runs
    measures : callable
        Quantity -> `Measures`.
    keep : callable
        Whether a layer is wanted.
    bins : int
        Equal bars between the edges.
    cells : int
        Bound on sites x steps x bins of a quantity, over all conditions.
    room : int, optional
        Bytes of histograms that are kept from the first reading for the second.
    cache : RunCache, optional
        What was read of runs that have not changed since is taken from it.
    """

    def __init__(
        self,
        runs: Runs,
        measures: Callable[[str], Measures],
        *,
        keep: Callable[[str], bool] = lambda _: True,
        bins: int = BINS,
        cells: int = CELLS,
        cache: RunCache | None = None,
        **room: int,
    ) -> None:
        self._runs, self._measures, self._bins, self._cells = runs, functools.cache(measures), bins, cells
        self._cache, self._readings = cache or RunCache(), Readings(runs, keep, **room)
        self._places = network_places(runs)
        self._glances = dict(self._look())
        self._made: dict[str, Densities | DropdiagError] = {}
        averages = dict(self._averages())
        self._fill(averages)
        self._made |= {name: average.result() for name, average in averages.items()}

    @property
    def quantities(self) -> list[str]:
        """Quantities that any run holds, in the order in which they are recorded."""
        return list(dict.fromkeys(name for one in self._glances.values() for name, _ in one.steps))

    def of(self, quantity: str) -> Densities:
        """Return the densities of a quantity.

        Raises
        ------
        NotRecordedError
            If no run holds it, or no wanted layer does.
        ArgumentError
            If it was recorded in several held-out phases.
        """
        found = self._made.get(quantity) or NotRecordedError(
            f"no run holds {quantity!r}; record it with a probe (or step/log) that writes it"
        )
        if isinstance(found, DropdiagError):
            raise found
        return found

    def _look(self) -> Iterator[tuple[str, Glance]]:
        def numbers(quantity: str) -> Numbers:
            return self._measures(quantity).last

        for label, run in self._readings.by_label.items():

            def make(label: str = label) -> Glance:
                return glance(*self._readings.first(label), numbers)

            found = self._cache.recall(run.path, "glance", (), make)
            for problem in found.problems:  # said again of a run that was read for an earlier page
                warnings.warn(problem, DropdiagWarning, stacklevel=2)
            yield label, found

    def _averages(self) -> Iterator[tuple[str, _Average]]:
        for quantity in self.quantities:
            try:
                yield quantity, self._average(quantity)
            except DropdiagError as error:  # noqa: PERF203 - a quantity that cannot be shown stops no other
                self._made[quantity] = error

    def _average(self, quantity: str) -> _Average:
        """Decide what is shown of a quantity: phase, sites, steps, ends of the axes."""
        runs, measures = self._runs, self._measures(quantity)
        held = {label: [phase for name, phase in one.steps if name == quantity]
                for label, one in self._glances.items()}  # fmt: skip
        phase = common(held, quantity)
        glances = {label: self._glances[label] for label in keep(held, quantity, phase)}
        key = quantity, phase
        sites = in_order({site for one in glances.values() for site in one.ends.get(key, ())}, self._places)
        if not sites:
            raise NotRecordedError(f"no layer that was asked for holds {quantity!r}")
        recorded = {label: one.steps[key] for label, one in glances.items()}
        union = [sorted({step for label, steps in recorded.items() for step in steps
                         if self._readings.by_label[label].condition == name}) for name in runs.conditions]  # fmt: skip
        most = max(2, self._cells // (len(sites) * self._bins * len(union)))
        ends = [[pair for one in glances.values() for pair in one.ends.get(key, {}).get(site, ())] for site in sites]
        limits = [self._cache.ends((quantity, site), *_limits(pairs, measures.support))
                  for site, pairs in zip(sites, ends, strict=True)]  # fmt: skip
        return _Average(
            runs, key, sites=sites, union=union, most=most, edges=np.array(limits, dtype=np.float64), bins=self._bins,
            through=measures.through, recorded=recorded,
            last={label: one.last[key] for label, one in glances.items() if key in one.last},
        )  # fmt: skip

    def _fill(self, averages: Mapping[str, _Average]) -> None:
        """Average over the runs, with one run's histograms in memory at a time."""
        for label, run in self._readings.by_label.items():

            @functools.cache
            def again(label: str = label) -> dict[Key, Recording]:
                return self._readings.second(label)

            for average in averages.values():
                if average.shown(label):

                    def make(average: _Average = average, label: str = label, again: Any = again) -> _Own:
                        return average.read(again()[average.key].rows, average.shown(label))

                    average.add(label, self._cache.recall(run.path, average.key, average.depends(label), make))


class _Average:
    """Running mean and squared deviations (Welford 1962) over the runs of each condition, of one quantity."""

    def __init__(
        self,
        runs: Runs,
        key: Key,
        *,
        sites: list[Site],
        union: list[list[int]],
        most: int,
        edges: Floats,
        bins: int,
        through: Numbers,
        recorded: Mapping[str, list[int]],
        last: Mapping[str, Mapping[Site, Mapping[str, float]]],
    ) -> None:
        self.key, self._runs, self._sites, self._edges, self._through = key, runs, sites, edges, through
        self._recorded, self._last_numbers = recorded, last
        self._steps = [_thinned(known, most) for known in union]
        self._left_out = max(len(known) - len(shown) for known, shown in zip(union, self._steps, strict=True))
        self._number = {label: i for i, label in enumerate(runs.labels())}
        self._place = {site: i for i, site in enumerate(sites)}
        self._grids = [np.linspace(low, high, bins + 1) for low, high in edges]
        first = np.concatenate([[0], np.cumsum([len(part) for part in self._steps])]).tolist()
        columns = (dict(zip(part, range(begin, begin + len(part)), strict=True))
                   for begin, part in zip(first, self._steps, strict=False))  # fmt: skip
        self._columns = dict(zip(runs.conditions, columns, strict=True))
        self._every = sorted({step for part in self._steps for step in part})
        self._column = {step: i for i, step in enumerate(self._every)}
        shape = (len(sites), first[-1])
        self._n = np.zeros(shape, np.int64)
        self._mean, self._squares = np.zeros((*shape, bins)), np.zeros((*shape, bins))
        self._last = np.full((len(sites), len(runs), bins), np.nan)
        self._last_steps = [-1] * len(runs)
        self._numbers = {name: np.full((len(sites), len(runs), len(self._every)), np.nan) for name in through}
        self._outside = 0.0

    def _wanted(self, label: str) -> dict[int, int]:
        """Step -> column of the averages, of a run's condition."""
        return self._columns[self._runs[self._number[label]].condition]

    def shown(self, label: str) -> list[int]:
        """Return the steps that are shown of a run."""
        wanted = self._wanted(label)
        return [step for step in self._recorded.get(label, ()) if step in wanted]

    def depends(self, label: str) -> tuple[Any, ...]:
        """Return what a run's densities depend on beside its files."""
        return tuple(self.shown(label)), tuple(self._sites), self._edges.tobytes(), tuple(self._through)

    def read(self, rows: Sequence[tuple[int, Site, Histogram]], steps: Sequence[int]) -> _Own:
        """Take the density at each site and step of one run, and the measures of each."""
        place = {step: i for i, step in enumerate(steps)}
        shape = len(self._sites), len(steps)
        density = np.full((*shape, len(self._grids[0]) - 1), np.nan, np.float32)
        numbers = {name: np.full(shape, np.nan) for name in self._through}
        outside = 0.0
        for step, at, histogram in rows:
            site, i = self._place.get(at), place.get(step)
            if site is None or i is None or not histogram.n_finite:
                continue
            grid = self._grids[site]
            density[site, i] = made = histogram.density(grid)
            outside = max(outside, float(1.0 - made.sum() * (grid[1] - grid[0])))
            for name, measure in self._through.items():
                numbers[name][site, i] = measure(histogram)
        return _Own(density, numbers, outside)

    def add(self, label: str, own: _Own) -> None:
        """Add one run."""
        steps, number, wanted = self.shown(label), self._number[label], self._wanted(label)
        self._last_steps[number] = steps[-1]
        self._last[:, number] = own.density[:, -1]
        self._outside = max(self._outside, own.outside)
        self._update([wanted[step] for step in steps], own.density.astype(np.float64))
        for name, values in own.numbers.items():
            self._numbers[name][:, number, [self._column[step] for step in steps]] = values

    def _update(self, at: Sequence[int], density: Floats) -> None:
        """Add one run's densities, shape (sites, steps, bins), to the columns of its steps."""
        known = ~np.isnan(density[..., 0])
        n = self._n[:, at] + known
        apart = np.where(known[..., None], density - self._mean[:, at], 0.0)
        mean = self._mean[:, at] + apart / np.maximum(n, 1)[..., None]
        self._squares[:, at] += np.where(known[..., None], apart * (density - mean), 0.0)
        self._mean[:, at], self._n[:, at] = mean, n

    def result(self) -> Densities:
        """Return the averages over all runs that were added."""
        many = np.where(self._n > 1, self._n - 1, np.nan)[..., None]
        every = np.asarray(self._every, dtype=np.float64)
        return Densities(
            *self.key, self._sites, self._edges, self._steps, self._left_out, self._n,
            np.where(self._n[..., None] > 0, self._mean, np.nan), np.sqrt(self._squares / many), self._last,
            self._last_steps, self._outside,
            {name: Series(self._sites, every, values, self.key[1]) for name, values in self._numbers.items()},
            self._table(),
        )  # fmt: skip

    def _table(self) -> pd.DataFrame:
        names = dict.fromkeys(name for run in self._last_numbers.values() for site in run.values() for name in site)
        shape = len(self._sites), len(self._runs)
        there, values = np.zeros(shape, np.bool_), {name: np.full(shape, np.nan) for name in names}
        for label, run in self._last_numbers.items():
            for site, found in run.items():
                at = self._place[site], self._number[label]
                there[at] = True
                for name, value in found.items():
                    values[name][at] = value
        return per_run(self._runs, self._sites, there, values)


@dataclass(frozen=True)
class _Own:
    """What is shown of one run: densities of shape (sites, steps, bins), NaN where there is none, and measures."""

    density: NDArray[np.float32]
    numbers: dict[str, Floats]
    outside: float


def _limits(ends: Sequence[tuple[float, float]], support: Support) -> tuple[float, float]:
    """Return the ends of an axis: the bounds of the quantity where it has them, else around all quantiles."""
    if support[0] is not None and support[1] is not None:
        return support[0], support[1]
    return widened(np.array(ends), support)


def _thinned(steps: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the steps, evenly by rank, with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    chosen = np.unique(np.round(np.linspace(0, len(steps) - 1, most)).astype(np.int64))
    return [steps[i] for i in chosen]


def _scaled(values: Floats, top: int) -> tuple[NDArray[np.int64], Floats]:
    """Return whole numbers from 0 to ``top`` and the scale of each curve; a curve of NaN has the scale NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a curve of NaN alone
        scale = np.asarray(np.nanmax(values, axis=-1), dtype=np.float32).astype(np.float64)
    share = np.divide(values, scale[..., None], out=np.zeros_like(values), where=scale[..., None] > 0.0)
    return np.rint(np.nan_to_num(share) * top).clip(0, top).astype(np.int64), scale
