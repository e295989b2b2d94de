"""All scalars of the runs, read once: over training at common steps, and each run's last values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.common_steps import at_common_steps, mean_steps
from dropdiag.analysis.phases import common
from dropdiag.analysis.training import step_bins
from dropdiag.report.binary import Blob
from dropdiag.store.reader import Runs
from dropdiag.store.schema import EVAL, LOG_RATIO, TRAIN, Quantity

BINS: Final = 100
FEWEST: Final = 10
CELLS: Final = 1_300_000
"""With more numbers (sites x runs x bins) in one quantity, bins are made wider, down to `FEWEST` of them."""
NETWORK: Final = ("", 0)
"""Site of the scalars that belong to the network as a whole."""
TIMES: Final = ("step_seconds", "evaluation_seconds")
KEYS: Final = ["quantity", "phase"]
COLUMNS: Final = ["layer", "call", "phase", "step", "quantity", "value"]
Site = tuple[str, int]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """A scalar of each site and run over training.

    Attributes
    ----------
    sites : list of (str, int)
        Layer and call.
    steps : ndarray of float64, shape (bins,)
        Mean step of each bin.
    values : ndarray of float64, shape (sites, runs, bins)
        A run that was recorded at other steps is interpolated to these, between its first and its last. NaN where there
        is none.
    phase : str
    log : bool
        Whether runs are averaged on the log scale.
    dropped : int
        Values left out: missing, infinite, or without a logarithm where one is needed.
    unit : str
        Empty where the page does not state it.
    """

    sites: list[Site]
    steps: Floats
    values: Floats
    phase: str
    log: bool = False
    dropped: int = 0
    unit: str = ""

    def __add__(self, other: Series) -> Series | None:
        """Add a series of the same sites and steps; None where they are not the same."""
        if self.sites != other.sites or not np.array_equal(self.steps, other.steps):
            return None
        # both lose the same values, as where a run has diverged: they are counted once
        dropped = max(self.dropped, other.dropped)
        return replace(self, values=self.values + other.values, dropped=dropped)  # noqa: PD011 - no frame

    def packed(self, blob: Blob) -> dict[str, Any]:
        """Return the series as JSON, its values in the block."""
        return {
            "sites": [list(site) for site in self.sites], "steps": self.steps.tolist(), "phase": self.phase,
            "log": self.log, "dropped": self.dropped, "unit": self.unit, "values": blob.add(self.values, "f4"),
        }  # fmt: skip


def interpolated(values: Floats, recorded: NDArray[np.bool_], steps: Floats, own: Floats | None = None) -> Floats:
    """Bring runs to common steps, as `at_common_steps` does, and look only at those that need it.

    Of a sweep nearly all runs are recorded at the same steps, or end early at them: a look costs a tenth.
    """
    valued = ~np.isnan(values)
    if valued.all() and own is None:
        return values
    recorded = np.broadcast_to(recorded, values.shape)
    first, last = valued.argmax(axis=-1), valued.shape[-1] - 1 - valued[..., ::-1].argmax(axis=-1)
    wanted = valued.any(axis=-1) & (valued.sum(axis=-1) < last - first + 1)
    if own is not None:
        wanted |= (valued & (own != steps)).any(axis=-1)
    if not wanted.any():
        return values
    found = values.copy()
    found[wanted] = at_common_steps(values[wanted], recorded[wanted], steps, None if own is None else own[wanted])
    return found


class Track:
    """One scalar quantity in one phase, filled batch by batch.

    Attributes
    ----------
    sites : list of (str, int)
        In network order.
    last : ndarray of float64, shape (sites, runs)
        The value at each run's last step.
    last_steps : ndarray of int64, shape (sites, runs)
        That step; -1 where a run does not hold the quantity.
    """

    def __init__(self, phase: str, steps: Integers, sites: list[Site], labels: list[str], *, log: bool) -> None:
        self.phase, self.sites, self.log = phase, sites, log
        self._site, self._run, self._step = pd.MultiIndex.from_tuples(sites), pd.Index(labels), pd.Index(steps)
        most = min(BINS, max(FEWEST, CELLS // (len(sites) * len(labels))))
        self._bin = pd.factorize(step_bins(pd.Series(steps), most))[0]
        shape = len(sites), len(labels), int(self._bin.max()) + 1
        self._common = mean_steps(steps, self._bin)
        self._sums, self._steps, self._counts = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32)
        self._recorded = np.zeros(shape, np.bool_)
        self._dropped = np.zeros(len(sites), np.int64)
        self.last, self.last_steps = np.full(shape[:2], np.nan), np.full(shape[:2], -1, np.int64)

    def add(self, rows: pd.DataFrame) -> None:
        """Add rows of whole runs, as `Runs.batches` yields them."""
        # of several assignments to one place numpy keeps the last one: that of the greatest step
        rows = rows.sort_values("step", kind="stable")
        names = pd.MultiIndex.from_arrays([rows["layer"].astype(object).fillna(""), rows["call"]])
        site, step = self._site.get_indexer(names), self._step.get_indexer(pd.Index(rows["step"]))
        # a run that trains may have gained steps and layers since they were listed: left for the next report
        known = (site >= 0) & (step >= 0)
        site, run, step = site[known], self._run.get_indexer(pd.Index(rows["run"]))[known], step[known]
        values = rows["value"].to_numpy(np.float64)[known]
        self.last[site, run], self.last_steps[site, run] = values, self._step[step]
        # what has no value, or no logarithm, is left out and counted, never taken for zero
        usable = np.isfinite(values) & ((values > 0.0) | (not self.log))
        self._recorded[site, run, self._bin[step]] = True
        place = site[usable], run[usable], self._bin[step[usable]]
        np.add.at(self._sums, place, np.log(values[usable]) if self.log else values[usable])
        np.add.at(self._steps, place, self._step[step[usable]])
        np.add.at(self._counts, place, 1)
        self._dropped += np.bincount(site[~usable], minlength=len(self.sites))

    @property
    def steps(self) -> Floats:
        """The step that stands for each bin, shape (bins,)."""
        return self._common

    @property
    def counts(self) -> NDArray[np.int32]:
        """Usable values of each site, run and bin."""
        return self._counts

    @property
    def means(self) -> Floats:
        """Their mean (of a track on the log scale the geometric one), NaN where there is none."""
        with np.errstate(invalid="ignore"):  # 0 / 0 where a run has no value in a bin
            means = self._sums / self._counts
        return np.exp(means) if self.log else means

    def series(self, keep: Callable[[str], bool] = lambda _: True, *, unit: str = "") -> Series | None:
        """Return the quantity over training at the layers that are wanted; None where it has no value there."""
        kept = [i for i, (layer, _) in enumerate(self.sites) if keep(layer)]
        counts = self._counts[kept]
        with np.errstate(invalid="ignore"):  # 0 / 0 where a run has no value in a bin
            means, own = self._sums[kept] / counts, self._steps[kept] / counts
        means = interpolated(means, self._recorded[kept], self._common, np.where(counts > 0, own, self._common))
        filled = np.flatnonzero(~np.isnan(means).all(axis=(0, 1))) if kept else np.empty(0, np.int64)
        if not filled.size:
            return None
        values = np.exp(means[..., filled]) if self.log else means[..., filled]
        dropped = int(self._dropped[kept].sum())
        return Series([self.sites[i] for i in kept], self._common[filled], values, self.phase, self.log, dropped, unit)

    def last_rows(self, runs: Runs, keep: Callable[[str], bool]) -> pd.DataFrame:
        """Return the value at each run's last step, of the layers that are wanted: by condition, site, run.

        Returns
        -------
        DataFrame
            Columns condition, layer, call, run, value; the value may be NaN.
        """
        conditions = np.array([run.condition for run in runs])
        rows = [
            (name, *site, self._run[int(run)], self.last[i, run])
            for name in runs.conditions
            for i, site in enumerate(self.sites)
            if keep(site[0])
            for run in np.flatnonzero((self.last_steps[i] >= 0) & (conditions == name))
        ]
        return pd.DataFrame(rows, columns=["condition", "layer", "call", "run", "value"])


class Scalars:
    """The scalars of all runs, by quantity and phase.

    Parameters
    ----------
    runs : Runs
        Read batch by batch, twice: steps and layers first, then the values.
    quantities : mapping of str to Quantity
        A quantity whose scale is a log ratio is averaged on the log scale.

    Attributes
    ----------
    tracks : dict of (str, str) to Track
        Quantity and phase -> values.
    seconds : dict of (str, str) to float
        Quantity of `TIMES` and run -> median.
    """

    def __init__(self, runs: Runs, quantities: Mapping[str, Quantity]) -> None:
        self.labels = runs.labels()
        steps, sites = _listed(runs)
        self.tracks: dict[tuple[str, str], Track] = {}
        for name, phase in steps:
            log = name in quantities and quantities[name].scale == LOG_RATIO
            order = runs.places.sorted(sites[name, phase])
            self.tracks[name, phase] = Track(phase, np.sort(steps[name, phase]), order, self.labels, log=log)
        self.seconds: dict[tuple[str, str], float] = {}
        for frame in runs.batches(columns=COLUMNS):
            self._add(frame)

    def _add(self, frame: pd.DataFrame) -> None:
        key: Any
        for key, rows in frame.groupby(KEYS, sort=False, observed=True):
            if key in self.tracks:
                self.tracks[key].add(rows)
            if key[0] in TIMES:
                finite = rows["value"].where(np.isfinite(rows["value"]))
                medians = finite.groupby(rows["run"], observed=True).median().dropna()
                self.seconds |= {(key[0], str(run)): float(value) for run, value in medians.items()}

    def names(self, *, network: bool) -> list[str]:
        """Return the quantities of the network as a whole, or those of layers, sorted."""
        return sorted({name for (name, _), track in self.tracks.items() if (NETWORK in track.sites) == network})

    def phases(self, quantity: str) -> list[str]:
        """Return the phases in which a quantity is recorded: training first, then held-out data."""
        found = [phase for name, phase in self.tracks if name == quantity]
        return sorted(found, key=lambda name: (name != TRAIN, name != EVAL, name))

    def common(self, quantity: str, called: str | None = None) -> Track | None:
        """Return a quantity in the one phase in which runs are compared; None where no run holds it.

        Raises
        ------
        ArgumentError
            As in `dropdiag.analysis.phases.common`.
        """
        held: dict[str, list[str]] = {}
        for phase in self.phases(quantity):
            for i in np.flatnonzero((self.tracks[quantity, phase].last_steps >= 0).any(axis=0)):
                held.setdefault(self.labels[i], []).append(phase)
        return self.tracks[quantity, common(held, called or quantity)] if held else None


def _listed(runs: Runs) -> tuple[dict[tuple[str, str], Integers], dict[tuple[str, str], list[Site]]]:
    """Return the steps and the sites of each quantity and phase."""
    steps: dict[tuple[str, str], Integers] = {}
    sites: dict[tuple[str, str], dict[Site, None]] = {}
    # the bins of a quantity are those of all runs, so every step must be known before a value is added
    for frame in runs.batches(columns=COLUMNS[:-1]):
        key: Any
        for key, part in frame.groupby(KEYS, sort=False, observed=True):
            steps[key] = np.union1d(steps.get(key, np.empty(0, np.int64)), part["step"].to_numpy())
            pairs = part[["layer", "call"]].drop_duplicates().itertuples(index=False, name=None)
            found = {("" if pd.isna(layer) else str(layer), int(call)): None for layer, call in pairs}
            sites.setdefault(key, {}).update(found)
    return steps, {key: list(found) for key, found in sites.items()}
