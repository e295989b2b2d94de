"""Distributions over training for the page: re-binned from the shared bins, averaged over seeds, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.analysis.kde import Support, common_limits
from dropdiag.analysis.phases import one_phase
from dropdiag.errors import NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.report.binary import Blob
from dropdiag.report.cache import Memory
from dropdiag.report.series import Series, Site, network_order, of_measures
from dropdiag.store.reader import Run, Runs

BINS: Final = 72
CELLS: Final = 1_300_000
"""At most so many bars of one quantity in a page: with more, steps are left out."""
Measures = Mapping[str, Callable[[Histogram], float]]
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


def densities(
    runs: Runs,
    quantity: str,
    *,
    keep: Callable[[str], bool],
    measures: Measures,
    support: Support = (None, None),
    bins: int = BINS,
    cells: int = CELLS,
    memory: Memory | None = None,
) -> Densities:
    """Read a histogram quantity of all runs, one run in memory at a time.

    Parameters
    ----------
    runs : Runs
    quantity : str
    keep : callable
        Whether a layer is wanted.
    measures : mapping of str to callable
        Numbers to take from each histogram that is shown.
    support : (float or None, float or None)
        Hard bounds of the quantity; where both are given they are the edges.
    bins : int
        Equal bars between the edges.
    cells : int
        Bound on sites x steps x bins, over all conditions.
    memory : Memory, optional
        What was read of runs that have not changed since is taken from it.

    Returns
    -------
    Densities

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`; NotRecordedError also where no wanted layer holds it.
    """
    memory = memory or Memory()
    kept, labels, phase = one_phase(runs, quantity, conditions=runs.conditions)
    by_label = dict(zip(labels, kept, strict=True))
    recorded = {label: run.steps(quantity, phase) for label, run in by_label.items()}
    union = [sorted({s for label, run in by_label.items() if run.condition == name for s in recorded[label]})
             for name in runs.conditions]  # fmt: skip
    looked = _looked_at(by_label, recorded, quantity, phase, keep=keep, memory=memory)
    sites = network_order(runs, looked)
    if not sites:
        raise NotRecordedError(f"no layer that was asked for holds {quantity!r}")
    steps = [_thinned(known, max(2, cells // (len(sites) * bins * len(union)))) for known in union]
    limits = [memory.ends((quantity, site), *_limits(looked[site], support)) for site in sites]
    edges = np.array(limits, dtype=np.float64)
    reader = _Reader(
        runs, quantity=quantity, phase=phase, sites=sites, steps=steps, edges=edges, bins=bins, measures=measures
    )
    for label, run in by_label.items():
        reader.add(label, run, recorded[label], memory)
    left_out = max(len(known) - len(shown) for known, shown in zip(union, steps, strict=True))
    return reader.result(left_out)


class _Reader:
    """Running mean and squared deviations (Welford 1962) over the runs of each condition."""

    def __init__(
        self,
        runs: Runs,
        *,
        quantity: str,
        phase: str,
        sites: list[Site],
        steps: list[list[int]],
        edges: Floats,
        bins: int,
        measures: Measures,
    ) -> None:
        self.quantity, self.phase, self.sites, self.steps, self.measures = quantity, phase, sites, steps, measures
        self.edges, self.conditions = edges, runs.conditions
        self.number = {label: i for i, label in enumerate(runs.labels())}
        self.place = {site: i for i, site in enumerate(sites)}
        self.grids = [np.linspace(low, high, bins + 1) for low, high in edges]
        self.first = np.concatenate([[0], np.cumsum([len(part) for part in steps])]).tolist()
        self.every = sorted({step for part in steps for step in part})
        self.column = {step: i for i, step in enumerate(self.every)}
        shape = (len(sites), self.first[-1])
        self.n = np.zeros(shape, np.int64)
        self.mean, self.squares = np.zeros((*shape, bins)), np.zeros((*shape, bins))
        self.last = np.full((len(sites), len(runs), bins), np.nan)
        self.last_steps = [-1] * len(runs)
        self.numbers = {name: np.full((len(sites), len(runs), len(self.every)), np.nan) for name in measures}
        self.outside = 0.0

    def add(self, label: str, run: Run, recorded: Sequence[int], memory: Memory) -> None:
        """Take one run's histograms in."""
        condition = self.conditions.index(run.condition)
        wanted = {step: self.first[condition] + i for i, step in enumerate(self.steps[condition])}
        steps = [step for step in recorded if step in wanted]
        if not steps:
            return
        depends = self.phase, tuple(steps), tuple(self.sites), self.edges.tobytes(), tuple(self.measures)
        own = memory.recall(run.path, self.quantity, depends, lambda: self._read(run, steps))
        number = self.number[label]
        self.last_steps[number] = steps[-1]
        self.last[:, number] = own.density[:, -1]
        self.outside = max(self.outside, own.outside)
        self._update([wanted[step] for step in steps], own.density.astype(np.float64))
        for name, values in own.numbers.items():
            self.numbers[name][:, number, [self.column[step] for step in steps]] = values

    def _read(self, run: Run, steps: Sequence[int]) -> _Own:
        """Read one run: its density at each site and step, and the measures of each."""
        place = {step: i for i, step in enumerate(steps)}
        shape = len(self.sites), len(steps)
        density = np.full((*shape, len(self.grids[0]) - 1), np.nan, np.float32)
        numbers = {name: np.full(shape, np.nan) for name in self.measures}
        outside = 0.0
        frame = run.histograms(self.quantity, step="all", phase=self.phase)
        shown = frame[frame["step"].isin(place)]
        for step, _, layer, call, histogram in shown.itertuples(index=False, name=None):
            site = self.place.get((str(layer), int(call)))
            if site is None or not histogram.n_finite:
                continue
            grid, i = self.grids[site], place[step]
            density[site, i] = made = histogram.density(grid)
            outside = max(outside, float(1.0 - made.sum() * (grid[1] - grid[0])))
            for name, measure in self.measures.items():
                numbers[name][site, i] = measure(histogram)
        return _Own(density, numbers, outside)

    def result(self, left_out: int) -> Densities:
        """Return what was read."""
        many = np.where(self.n > 1, self.n - 1, np.nan)[..., None]
        return Densities(
            self.quantity, self.phase, self.sites, self.edges, self.steps, left_out, self.n,
            np.where(self.n[..., None] > 0, self.mean, np.nan), np.sqrt(self.squares / many), self.last,
            self.last_steps, self.outside,
            {name: of_measures(self.sites, self.every, values, self.phase) for name, values in self.numbers.items()},
        )  # fmt: skip

    def _update(self, at: Sequence[int], density: Floats) -> None:
        """Add one run's densities, shape (sites, steps, bins), to the columns of its steps."""
        known = ~np.isnan(density[..., 0])
        n = self.n[:, at] + known
        apart = np.where(known[..., None], density - self.mean[:, at], 0.0)
        mean = self.mean[:, at] + apart / np.maximum(n, 1)[..., None]
        self.squares[:, at] += np.where(known[..., None], apart * (density - mean), 0.0)
        self.mean[:, at], self.n[:, at] = mean, n


@dataclass(frozen=True)
class _Own:
    """What is shown of one run: densities of shape (sites, steps, bins), NaN where there is none, and measures."""

    density: NDArray[np.float32]
    numbers: dict[str, Floats]
    outside: float


def _looked_at(
    by_label: Mapping[str, Run],
    recorded: Mapping[str, Sequence[int]],
    quantity: str,
    phase: str,
    *,
    keep: Callable[[str], bool],
    memory: Memory,
) -> dict[Site, list[Histogram]]:
    """Histograms of each wanted site at the first, middle and last recorded step of every run."""
    found: dict[Site, list[Histogram]] = {}
    for label, run in by_label.items():
        known = recorded[label]
        steps = tuple(sorted({known[i] for i in (0, len(known) // 2, -1)}))
        read = partial(_at, run, quantity, phase, steps)
        for site, histogram in memory.recall(run.path, (quantity, "ends"), (phase, steps), read):
            if keep(site[0]):
                found.setdefault(site, []).append(histogram)
    return found


def _at(run: Run, quantity: str, phase: str, steps: Sequence[int]) -> list[tuple[Site, Histogram]]:
    """Histograms of a run at some steps."""
    frames = [run.histograms(quantity, step=step, phase=phase) for step in steps]
    return [((str(layer), int(call)), histogram) for frame in frames
            for layer, call, histogram in frame[["layer", "call", "histogram"]].itertuples(index=False)]  # fmt: skip


def _limits(histograms: Sequence[Histogram], support: Support) -> tuple[float, float]:
    low, high = support
    return common_limits(histograms, support) if low is None or high is None else (low, high)


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
