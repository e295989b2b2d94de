"""The densities of one quantity over training: averaged over the runs of each condition, packed for the page."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.recordings import Site
from dropdiag.histograms.histogram import Histogram
from dropdiag.report.binary import Blob
from dropdiag.report.readings import Glance, Numbers
from dropdiag.report.series import Series, per_run
from dropdiag.store.histogram_rows import Key
from dropdiag.store.reader import Runs

Floats = NDArray[np.float64]


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
        # two bytes a bar are finer than a line's width on any screen, and halve the page
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


@dataclass(frozen=True)
class Plan:
    """What is shown of a quantity, decided before the densities are read.

    Attributes
    ----------
    key : (str, str)
        Quantity and phase.
    sites : list of (str, int)
        In network order.
    edges : ndarray of float64, shape (sites, 2)
    bins : int
        Equal bars between the edges.
    steps : dict of str to list of int
        Condition -> the steps that are shown.
    left_out : int
        Recorded steps that are not, in the condition where they are most.
    through : mapping of str to callable
        Numbers of each histogram that is shown.
    glances : dict of str to Glance
        Of the runs that hold the quantity in that phase.
    """

    key: Key
    sites: list[Site]
    edges: Floats
    bins: int
    steps: dict[str, list[int]]
    left_out: int
    through: Numbers
    glances: Mapping[str, Glance]

    def shown(self, label: str, condition: str) -> list[int]:
        """Return the steps that are shown of a run."""
        wanted = set(self.steps[condition])
        glance = self.glances.get(label)
        return [] if glance is None else [step for step in glance.steps[self.key] if step in wanted]

    def take(self, rows: Iterable[tuple[int, Site, Histogram]], steps: Sequence[int]) -> Taken:
        """Take the density at each site and step of one run, and the numbers of each."""
        place, sites = ({one: i for i, one in enumerate(many)} for many in (steps, self.sites))
        shape = len(self.sites), len(steps)
        density = np.full((*shape, self.bins), np.nan, np.float32)
        numbers, outside = {name: np.full(shape, np.nan) for name in self.through}, 0.0
        grids = [np.linspace(low, high, self.bins + 1) for low, high in self.edges]
        for step, site, histogram in rows:
            # runs that train may have gained steps and layers since the plan was made
            if site in sites and step in place and histogram.n_finite:
                at = sites[site], place[step]
                grid = grids[at[0]]
                density[at] = made = histogram.density(grid)
                outside = max(outside, float(1.0 - made.sum() * (grid[1] - grid[0])))
                for name, measure in self.through.items():
                    numbers[name][at] = measure(histogram)
        return Taken(density, numbers, outside)


@dataclass(frozen=True)
class Taken:
    """What is shown of one run: densities of shape (sites, steps, bins), NaN where there is none, and numbers."""

    density: NDArray[np.float32]
    numbers: dict[str, Floats]
    outside: float


class Average:
    """Running mean and squared deviations (Welford 1962) over the runs of each condition, of one quantity.

    Parameters
    ----------
    runs : Runs
    plan : Plan
    """

    def __init__(self, runs: Runs, plan: Plan) -> None:
        self.plan, self._runs = plan, runs
        self._number = {label: i for i, label in enumerate(runs.labels())}
        # the steps of all conditions stand one after another in the columns of one array
        places = [(name, step) for name, steps in plan.steps.items() for step in steps]
        self._column = {place: i for i, place in enumerate(places)}
        self._every = sorted({step for _, step in places})
        sites, many = len(plan.sites), len(runs)
        self._n = np.zeros((sites, len(places)), np.int64)
        self._mean, self._squares = (np.zeros((sites, len(places), plan.bins)) for _ in range(2))
        self._last, self._last_steps = np.full((sites, many, plan.bins), np.nan), [-1] * many
        self._numbers = {name: np.full((sites, many, len(self._every)), np.nan) for name in plan.through}
        self._outside = 0.0

    def shown(self, label: str) -> list[int]:
        """Return the steps that are shown of a run."""
        return self.plan.shown(label, self._runs[self._number[label]].condition)

    def add(self, label: str, taken: Taken) -> None:
        """Add one run."""
        steps, number = self.shown(label), self._number[label]
        condition = self._runs[number].condition
        self._last_steps[number], self._last[:, number] = steps[-1], taken.density[:, -1]
        self._outside = max(self._outside, taken.outside)
        self._update([self._column[condition, step] for step in steps], taken.density.astype(np.float64))
        at = np.searchsorted(self._every, steps)
        for name, values in taken.numbers.items():
            self._numbers[name][:, number, at] = values

    def _update(self, at: Sequence[int], density: Floats) -> None:
        """Add one run's densities, shape (sites, steps, bins), to the columns of its steps."""
        # a layer that a run lacks, or that held no finite value, has NaN in every bar: looking at one will do
        known = ~np.isnan(density[..., 0])
        n = self._n[:, at] + known
        apart = np.where(known[..., None], density - self._mean[:, at], 0.0)
        mean = self._mean[:, at] + apart / np.maximum(n, 1)[..., None]
        self._squares[:, at] += np.where(known[..., None], apart * (density - mean), 0.0)
        self._mean[:, at], self._n[:, at] = mean, n

    def result(self) -> Densities:
        """Return the averages over all runs that were added."""
        plan, many = self.plan, np.where(self._n > 1, self._n - 1, np.nan)[..., None]
        steps = np.asarray(self._every, dtype=np.float64)
        return Densities(
            *plan.key, plan.sites, plan.edges, list(plan.steps.values()), plan.left_out, self._n,
            np.where(self._n[..., None] > 0, self._mean, np.nan), np.sqrt(self._squares / many), self._last,
            self._last_steps, self._outside,
            {name: Series(plan.sites, steps, values, plan.key[1]) for name, values in self._numbers.items()},
            self._table(),
        )  # fmt: skip

    def _table(self) -> pd.DataFrame:
        """Return the numbers at each run's last step."""
        place = {site: i for i, site in enumerate(self.plan.sites)}
        found = [(place[site], self._number[label], numbers) for label, glance in self.plan.glances.items()
                 for site, numbers in glance.last.get(self.plan.key, {}).items()]  # fmt: skip
        names = dict.fromkeys(name for _, _, numbers in found for name in numbers)
        there = np.zeros((len(place), len(self._runs)), np.bool_)
        values = {name: np.full(there.shape, np.nan) for name in names}
        for site, run, numbers in found:
            there[site, run] = True
            for name, value in numbers.items():
                values[name][site, run] = value
        return per_run(self._runs, self.plan.sites, there, values)


def _scaled(values: Floats, top: int) -> tuple[NDArray[np.int64], Floats]:
    """Return whole numbers from 0 to ``top`` and the scale of each curve; a curve of NaN has the scale NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a curve of NaN alone
        scale = np.asarray(np.nanmax(values, axis=-1), dtype=np.float32).astype(np.float64)
    share = np.divide(values, scale[..., None], out=np.zeros_like(values), where=scale[..., None] > 0.0)
    return np.rint(np.nan_to_num(share) * top).clip(0, top).astype(np.int64), scale
