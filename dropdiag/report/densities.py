"""The densities of one quantity over training: averaged over the runs of each condition, packed for the page."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.recordings import Recording, Site
from dropdiag.histograms.histogram import Histogram
from dropdiag.histograms.many import Many
from dropdiag.report.binary import Blob
from dropdiag.report.series import Series, interpolated
from dropdiag.store.histogram_rows import Key
from dropdiag.store.reader import Runs

Floats = NDArray[np.float64]
Numbers = Mapping[str, Callable[[Histogram], float]]
Together = Mapping[str, Callable[[list[Histogram]], list[float]]]


@dataclass(frozen=True)
class Glance:
    """What is kept of a run's first reading, by quantity and phase.

    Attributes
    ----------
    steps : dict of list of int
        Ascending.
    ends : dict of dict of Site to list of (float, float)
        Their `Histogram.extent` at the first, middle and last step.
    last : dict of dict of Site to dict of str to float
        The numbers of the page's tables, at the last step.
    kept : dict of dict of Site to Histogram
        At the last step, of quantities whose tables have numbers that are taken of all runs together.
    problems : list of str
        A sentence for each segment that could not be read.
    """

    steps: dict[Key, list[int]]
    ends: dict[Key, dict[Site, list[tuple[float, float]]]]
    last: dict[Key, dict[Site, dict[str, float]]]
    kept: dict[Key, dict[Site, Histogram]]
    problems: list[str]


def glance(
    recorded: Mapping[Key, Recording],
    problems: list[str],
    numbers: Callable[[str], Numbers],
    together: Callable[[str], Together],
) -> Glance:
    """Take from a run's histograms what the page must know of all runs before it draws any.

    Parameters
    ----------
    recorded, problems
        As `read` returns them.
    numbers : callable
        Quantity -> the numbers of its table.
    together : callable
        Quantity -> those that are taken of all runs together.
    """
    found = Glance({key: one.steps for key, one in recorded.items()}, {}, {}, {}, problems)
    for key, one in recorded.items():
        wanted = {one.steps[i] for i in (0, len(one.steps) // 2, -1)}
        ends, last = found.ends.setdefault(key, {}), found.last.setdefault(key, {})
        kept = found.kept.setdefault(key, {})
        looked_at = [row for row in one.rows if row[0] in wanted]
        many = Many([histogram for _, _, histogram in looked_at])
        for (_, site, _), (low, high) in zip(looked_at, many.extents().tolist(), strict=True):
            ends.setdefault(site, []).append((low, high))
        many.remember_moments()
        at_the_end = {site: histogram for step, site, histogram in looked_at if step == one.steps[-1]}
        for site, histogram in at_the_end.items():
            last[site] = {name: take(histogram) for name, take in numbers(key[0]).items()}
        if together(key[0]):
            kept |= {site: histogram.by_itself() for site, histogram in at_the_end.items()}
    return found


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
    together : mapping of str to callable
        Numbers of a site's last histograms that are taken of all runs together.
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
    together: Together
    glances: Mapping[str, Glance]

    def take(self, rows: Iterable[tuple[int, Site, Histogram]], steps: Sequence[int]) -> Taken:
        """Take the density at each site and step of one run, and the numbers of each."""
        place, sites = ({one: i for i, one in enumerate(every)} for every in (steps, self.sites))
        shape = len(self.sites), len(steps)
        density, lost = np.full((*shape, self.bins), np.nan, np.float32), np.full(shape, np.nan)
        numbers = {name: np.full(shape, np.nan) for name in self.through}
        # runs that train may have gained steps and layers since the plan was made
        shown = [(sites[site], place[step], one) for step, site, one in rows if site in sites and step in place]
        if not shown:
            return Taken(density, lost, numbers, 0.0)
        site_of, step_of = np.array([row[:2] for row in shown]).T
        histograms = [one for _, _, one in shown]
        many, grids = Many(histograms), np.linspace(self.edges[:, 0], self.edges[:, 1], self.bins + 1, axis=1)
        made = many.densities(grids[site_of])
        density[site_of, step_of] = made
        lost[site_of, step_of] = 1.0 - many.n_finite / np.where(many.n > 0, many.n, np.nan)
        within = made.sum(axis=1) * (grids[site_of, 1] - grids[site_of, 0])
        outside = float(np.nanmax(1.0 - within, initial=0.0))
        many.remember_moments()
        for i in np.flatnonzero(many.n_finite):
            for name, measure in self.through.items():
                numbers[name][site_of[i], step_of[i]] = measure(histograms[i])
        return Taken(density, lost, numbers, outside)


@dataclass(frozen=True)
class Taken:
    """What is shown of one run: densities of shape (sites, steps, bins), NaN where there is none, and numbers.

    ``lost`` has the share of values that are not finite, which a density leaves out.
    """

    density: NDArray[np.float32]
    lost: Floats
    numbers: dict[str, Floats]
    outside: float


class Densities:
    """Density of one quantity at each site, condition and step, averaged over the runs that were added.

    Parameters
    ----------
    runs : Runs
    plan : Plan

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
    last : ndarray of float64, shape (sites, runs, bins)
        Each run at the last step that is shown of it.
    last_steps : list of int
        That step; -1 for a run that does not hold the quantity.
    lost : ndarray of float64, shape (sites, all steps)
        Share of values that are not finite (NaN, infinite), mean over the runs that hold any value; NaN for
        none.
    last_lost : ndarray of float64, shape (sites, runs)
        The same of each run at the last step that is shown of it.
    outside : float
        Largest share of values of any site and step that lies outside the edges.
    """

    def __init__(self, runs: Runs, plan: Plan) -> None:
        self.plan, self._runs = plan, dict(zip(runs.labels(), runs, strict=True))
        self.quantity, self.phase = plan.key
        self.sites, self.edges, self.left_out = plan.sites, plan.edges, plan.left_out
        self.steps, self._number = list(plan.steps.values()), {label: i for i, label in enumerate(self._runs)}
        # the steps of all conditions stand one after another in the columns of one array
        places = [(name, step) for name, steps in plan.steps.items() for step in steps]
        self._column = {place: i for i, place in enumerate(places)}
        self._every = sorted({step for _, step in places})
        sites, many = len(plan.sites), len(runs)
        self.n = np.zeros((sites, len(places)), np.int64)
        self._mean, self._squares = (np.zeros((sites, len(places), plan.bins)) for _ in range(2))
        self.last, self.last_steps = np.full((sites, many, plan.bins), np.nan), [-1] * many
        self._lost, self._held = (np.zeros((sites, len(places))) for _ in range(2))
        self.last_lost = np.full((sites, many), np.nan)
        self._numbers = {name: np.full((sites, many, len(self._every)), np.nan) for name in plan.through}
        self._recorded = np.zeros((many, len(self._every)), np.bool_)
        self._lost_of = np.full((sites, many, len(self._every)), np.nan, np.float32)
        self.outside = 0.0

    def shown(self, label: str) -> list[int]:
        """Return the steps that are shown of a run."""
        glance, wanted = self.plan.glances.get(label), set(self.plan.steps[self._runs[label].condition])
        return [] if glance is None else [step for step in glance.steps[self.plan.key] if step in wanted]

    def add(self, label: str, taken: Taken) -> None:
        """Add one run."""
        steps, number, condition = self.shown(label), self._number[label], self._runs[label].condition
        self.last_steps[number], self.last[:, number] = steps[-1], taken.density[:, -1]
        self.outside = max(self.outside, taken.outside)
        columns = [self._column[condition, step] for step in steps]
        self._update(columns, taken.density.astype(np.float64))
        self._lost[:, columns] += np.nan_to_num(taken.lost)
        self._held[:, columns] += ~np.isnan(taken.lost)
        self.last_lost[:, number] = taken.lost[:, -1]
        at = np.searchsorted(self._every, steps)
        self._recorded[number, at] = True
        self._lost_of[:, number, at] = taken.lost
        for name, values in taken.numbers.items():
            self._numbers[name][:, number, at] = values

    def _update(self, at: Sequence[int], density: Floats) -> None:
        """Add one run's densities, shape (sites, steps, bins), to the columns of its steps (Welford 1962)."""
        # a layer that a run lacks, or that held no finite value, has NaN in every bar: looking at one will do
        known = ~np.isnan(density[..., 0])
        n = self.n[:, at] + known
        apart = np.where(known[..., None], density - self._mean[:, at], 0.0)
        mean = self._mean[:, at] + apart / np.maximum(n, 1)[..., None]
        self._squares[:, at] += np.where(known[..., None], apart * (density - mean), 0.0)
        self._mean[:, at], self.n[:, at] = mean, n

    @property
    def mean(self) -> Floats:
        """Mean over runs per unit of the quantity, shape (sites, all steps, bins); NaN where there is no run."""
        return np.where(self.n[..., None] > 0, self._mean, np.nan)

    @property
    def sd(self) -> Floats:
        """Standard deviation over runs, of the mean's shape; NaN for fewer than two."""
        return np.sqrt(self._squares / np.where(self.n > 1, self.n - 1, np.nan)[..., None])

    @property
    def measures(self) -> dict[str, Series]:
        """The plan's numbers of each run through training."""
        steps = np.asarray(self._every, dtype=np.float64)
        return {name: Series(self.sites, steps, interpolated(values, self._recorded, steps), self.phase)
                for name, values in self._numbers.items()}  # fmt: skip

    @property
    def lost(self) -> Floats:
        """Share of values that are not finite, mean over runs, shape (sites, all steps); NaN where there is no run."""
        return self._lost / np.where(self._held > 0, self._held, np.nan)

    def losses(self) -> list[tuple[str, Site, float]]:
        """Return for each condition and site with values that are not finite their largest share at any shown step."""
        found, first = [], 0
        for name, steps in self.plan.steps.items():
            shares = np.nan_to_num(self.lost[:, first : first + len(steps)])
            first += len(steps)
            worst = shares.max(axis=1, initial=0.0)
            found += [(name, self.sites[i], float(worst[i])) for i in np.flatnonzero(worst > 0.0)]
        return found

    def diverged(self, sites: Sequence[Site], steps: Floats) -> NDArray[np.bool_]:
        """Say at which steps a run has values that are not finite.

        Parameters
        ----------
        sites : sequence of (str, int)
        steps : ndarray of float64, shape (k,)

        Returns
        -------
        ndarray of bool, shape (sites, runs, k)
            By the first of a run's shown histograms that is not before the step, beyond the last one by that.
        """
        place = {site: i for i, site in enumerate(self.sites)}
        found = np.zeros((len(sites), self._lost_of.shape[1], steps.size), np.bool_)
        for i, site in enumerate(sites):
            lost = self._lost_of[place[site]] if site in place else np.empty((0, 0))
            for run in np.flatnonzero((lost > 0.0).any(axis=1)):
                held = np.flatnonzero(~np.isnan(lost[run]))
                after = np.searchsorted(np.asarray(self._every)[held], steps).clip(max=held.size - 1)
                found[i, run] = lost[run, held[after]] > 0.0
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """The numbers at each run's last step, with condition, layer, call and run: by condition, site, run."""
        last = {label: glance.last[self.plan.key] for label, glance in self.plan.glances.items()}
        more = self._together()
        rows = [
            {"condition": name, "layer": site[0], "call": site[1], "run": label, **numbers[site], **more[label, site]}
            for name in self.plan.steps
            for site in self.sites
            for label, numbers in last.items()
            if self._runs[label].condition == name and site in numbers
        ]
        return pd.DataFrame(rows)

    def _together(self) -> dict[tuple[str, Site], dict[str, float]]:
        """Return for each run and site the numbers that are taken of all runs together."""
        found: dict[tuple[str, Site], dict[str, float]] = defaultdict(dict)
        kept = {label: glance.kept[self.plan.key] for label, glance in self.plan.glances.items()}
        for site in self.sites:
            every = {label: histograms[site] for label, histograms in kept.items() if site in histograms}
            for name, take in self.plan.together.items():
                for label, value in zip(every, take(list(every.values())), strict=True):
                    found[label, site][name] = value
        return found

    def packed(self, blob: Blob) -> dict[str, Any]:
        """Return the densities as JSON, their values in the block.

        The mean is stored in 65,535ths of its curve's peak, the standard deviation in 255ths of its own largest
        value, each curve with its scale as float32.
        """
        head = {
            "quantity": self.quantity, "phase": self.phase, "bins": self.plan.bins,
            "sites": [list(site) for site in self.sites], "edges": self.edges.tolist(), "steps": self.steps,
            "left_out": self.left_out, "outside": self.outside, "n": blob.add(self.n, "u2"),
        }  # fmt: skip
        # two bytes a bar are finer than a line's width on any screen, and halve the page
        for name, scale, values, top, kind in (("mean", "peak", self.mean, 65_535, "u2"),
                                               ("sd", "most", self.sd, 255, "u1"),
                                               ("last", "height", self.last, 65_535, "u2")):  # fmt: skip
            whole, unit = _scaled(values, top)
            head |= {name: blob.add(whole, kind), scale: blob.add(unit, "f4")}
        if (self._lost > 0.0).any():
            head |= {"lost": blob.add(self.lost, "f4"), "last_lost": blob.add(self.last_lost, "f4")}
        return head | {"last_steps": self.last_steps}


def not_finite(histogram: Histogram) -> float:
    """Share of values that are NaN or infinite; NaN of no value at all."""
    return 1.0 - histogram.n_finite / histogram.n if histogram.n else float("nan")


def _scaled(values: Floats, top: int) -> tuple[NDArray[np.int64], Floats]:
    """Return whole numbers from 0 to ``top`` and the scale of each curve; a curve of NaN has the scale NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a curve of NaN alone
        scale = np.asarray(np.nanmax(values, axis=-1), dtype=np.float32).astype(np.float64)
    share = np.divide(values, scale[..., None], out=np.zeros_like(values), where=scale[..., None] > 0.0)
    return np.rint(np.nan_to_num(share) * top).clip(0, top).astype(np.int64), scale
