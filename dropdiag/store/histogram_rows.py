"""Histograms of a run: phase and step are decided from the keys of all, then the wanted ones read, from one file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.phases import default_phase
from dropdiag.store.reading import Sessions, read_histograms
from dropdiag.store.selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RecordedHistogram(NamedTuple):
    """One recorded histogram."""

    step: int
    phase: str
    layer: str
    call: int
    quantity: str
    histogram: Histogram


class Recorded(NamedTuple):
    """Histograms of one run.

    Attributes
    ----------
    keys : Table
        step, phase, layer, call, quantity and n of every histogram of the run.
    table : Table
        The ones that were asked for, with their bins and counts.
    problems : list of str
        A sentence on each segment that could not be read.
    """

    keys: pa.Table
    table: pa.Table
    problems: list[str]

    def phases(self, quantity: str) -> list[str]:
        """Return the phases in which a quantity was recorded, in the order in which they first come."""
        return phases_of(self.keys, quantity)

    def rows(self) -> Iterator[RecordedHistogram]:
        """Yield the histograms that were asked for, as they were recorded."""
        keys = (self.table[name].to_pylist() for name in RecordedHistogram._fields[:-1])
        lists = _lists(self.table["bins"]), _lists(self.table["counts"])
        for step, phase, layer, call, quantity, bins, counts in zip(*keys, *lists, strict=True):
            yield RecordedHistogram(step, phase, layer, call, quantity, Histogram(bins, counts))

    def warn(self) -> None:
        """Warn of each segment that could not be read."""
        for problem in self.problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=4)

    def check(self, run: object, quantities: Sequence[str], step: int | str | None, phase: str | None) -> None:
        """Raise `NotRecordedError` if nothing was found, and `ArgumentError` where the phase was not clear."""
        if phase is None:
            for quantity in quantities:
                default_phase(self.phases(quantity), quantity)
        if self.table.num_rows:
            return
        phase = phase or default_phase(self.phases(quantities[0]), quantities[0])
        at = "" if step in (None, "all") else f" at step {step}"
        pairs = zip(self.keys["quantity"].to_pylist(), self.keys["phase"].to_pylist(), strict=True)
        have = ", ".join(f"{q} ({p})" for q, p in sorted(set(pairs))) or "no histograms"
        asked = " or ".join(map(repr, quantities))
        raise NotRecordedError(f"{run} has no {asked} in phase {phase!r}{at}; it has {have}")


def read_recorded(
    path: Path, sessions: Sessions, quantities: Sequence[str], step: int | str | None, phase: str | None
) -> Recorded:
    """Read histograms of a run; its files are opened once.

    Parameters
    ----------
    path, sessions
        As for `dropdiag.store.reading.read_scalars`.
    quantities : sequence of str
    step : int, "all" or None
        None: of each quantity the last step that it has in its phase.
    phase : str or None
        None: of each quantity the default (`dropdiag.store.phases.default_phase`); nothing is read of one for which
        that is not clear.

    Raises
    ------
    ArgumentError
        If a quantity or the step is none.
    RunError
        If the run is gone.
    """
    Selection.of(list(quantities), phase)  # refuses what is no name
    if isinstance(step, str) and step != "all":
        raise ArgumentError(f"step= takes a step, 'all', or None for the last one, got {step!r}")
    known: list[pa.Table] = []

    def choose(keys: pa.Table) -> NDArray[np.bool_]:
        known[:] = [keys]
        wanted = np.zeros(len(keys), np.bool_)
        for quantity in quantities:
            wanted |= _chosen(keys, quantity, step, phase)
        return wanted

    table, problems = read_histograms(path, sessions, choose)
    return Recorded(known[0], table, problems)


def read_keys(path: Path, sessions: Sessions) -> pa.Table:
    """Read step, phase, layer, call, quantity and n of all histograms of a run.

    Raises
    ------
    RunError
        If the run is gone.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read.
    """
    table, problems = read_histograms(path, sessions, None)
    for problem in problems:
        warnings.warn(problem, DropdiagWarning, stacklevel=3)
    return table


def phases_of(keys: pa.Table, quantity: str) -> list[str]:
    """Return the phases of a quantity's histograms, in the order in which they first come."""
    found: list[str] = Selection.of(quantity).apply(keys)["phase"].unique().to_pylist()
    return found


def _chosen(keys: pa.Table, quantity: str, step: int | str | None, phase: str | None) -> NDArray[np.bool_]:
    """Whether each histogram is one of a quantity's that are wanted."""
    try:
        phase = phase or default_phase(phases_of(keys, quantity), quantity)
    except ArgumentError:  # several phases: whoever asked says so, with the run or the runs in view
        return np.zeros(len(keys), np.bool_)
    if step is None:
        step = pc.max(Selection.of(quantity, phase).apply(keys)["step"]).as_py()
    steps = None if isinstance(step, str) else step
    mask = Selection.of(quantity, phase, steps=steps).mask(keys)
    return np.asarray(mask, np.bool_)


def _lists(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    for chunk in column.chunks:
        flat, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        for begin, end in pairwise(offsets):  # views: a list of numpy arrays without a copy
            yield flat[begin:end]
