"""The histograms of one run, all read at once: a page opens a run's histogram file twice at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.histogram import Histogram
from dropdiag.report.series import Site
from dropdiag.store.reader import Run, Runs
from dropdiag.store.reading import one_chunk, read_rows
from dropdiag.store.selection import Selection

ROOM: Final = 200_000_000
"""Bytes of histograms that are kept from the first reading for the second: of small reports every one."""
TAILS: Final = (0.001, 0.999)
"""Quantiles between which the axis of a distribution reaches at least."""
Key = tuple[str, str]
Numbers = Mapping[str, Callable[[Histogram], float]]


@dataclass(frozen=True)
class Recording:
    """Histograms of one quantity and phase of a run: the steps of all, the rows of the layers that are wanted."""

    steps: list[int]
    rows: list[tuple[int, Site, Histogram]] = field(default_factory=list)


@dataclass(frozen=True)
class Glance:
    """What is kept of a run's first reading, by quantity and phase.

    Attributes
    ----------
    steps : dict of list of int
        Ascending.
    ends : dict of dict of Site to list of (float, float)
        Quantiles `TAILS` at the first, middle and last step.
    last : dict of dict of Site to dict of str to float
        The numbers of the page's tables, at the last step.
    problems : list of str
        A sentence for each segment that could not be read.
    """

    steps: dict[Key, list[int]]
    ends: dict[Key, dict[Site, list[tuple[float, float]]]]
    last: dict[Key, dict[Site, dict[str, float]]]
    problems: list[str]


def glance(recorded: Mapping[Key, Recording], problems: list[str], numbers: Callable[[str], Numbers]) -> Glance:
    """Take from a run's histograms what the page must know of all runs before it draws any.

    Parameters
    ----------
    recorded, problems
        As `read` returns them.
    numbers : callable
        Quantity -> the numbers of its table.
    """
    found = Glance({key: one.steps for key, one in recorded.items()}, {}, {}, problems)
    for key, one in recorded.items():
        wanted = {one.steps[i] for i in (0, len(one.steps) // 2, -1)}
        ends, last = found.ends.setdefault(key, {}), found.last.setdefault(key, {})
        for step, site, histogram in one.rows:
            if step in wanted:
                low, high = histogram.quantile(TAILS)
                ends.setdefault(site, []).append((float(low), float(high)))
            if step == one.steps[-1]:
                last[site] = {name: take(histogram) for name, take in numbers(key[0]).items()}
    return found


class Readings:
    """Reads the histograms of runs, and keeps those of the first reading while there is room.

    Parameters
    ----------
    runs : Runs
    keep : callable
        Whether a layer is wanted.
    room : int
        Bytes.
    """

    def __init__(self, runs: Runs, keep: Callable[[str], bool], room: int = ROOM) -> None:
        self.by_label = dict(zip(runs.labels(), runs, strict=True))
        self._keep, self._room = keep, room
        self._kept: dict[str, dict[Key, Recording]] = {}

    def first(self, label: str) -> tuple[dict[Key, Recording], list[str]]:
        """Read a run, and keep what was read if there is room for it."""
        found, problems = read(self.by_label[label], self._keep)
        size = sum(h.bins.nbytes + h.counts.nbytes for one in found.values() for _, _, h in one.rows)
        if size <= self._room:
            self._room -= size
            self._kept[label] = found
        return found, problems

    def second(self, label: str) -> dict[Key, Recording]:
        """Return what was kept of a run, once, or read it again."""
        kept = self._kept.pop(label, None)
        return read(self.by_label[label], self._keep)[0] if kept is None else kept


def read(run: Run, keep: Callable[[str], bool]) -> tuple[dict[Key, Recording], list[str]]:
    """Read all histograms of a run from each of its files at once.

    Parameters
    ----------
    run : Run
    keep : callable
        Whether a layer is wanted.

    Returns
    -------
    recorded : dict of (str, str) to Recording
        By quantity and phase.
    problems : list of str
        A sentence for each segment that cannot be read; the rest is.

    Raises
    ------
    RunError
        If the run is gone.
    """
    table, problems = read_rows(run.path, run.meta["sessions"], "histograms", Selection())
    found: dict[Key, Recording] = {}
    steps: dict[Key, set[int]] = {}
    for key, step, site, bins, counts in _rows(table):
        steps.setdefault(key, set()).add(step)
        if keep(site[0]):
            found.setdefault(key, Recording([])).rows.append((step, site, Histogram(bins, counts)))
    recorded = {key: Recording(sorted(known), found[key].rows if key in found else []) for key, known in steps.items()}
    return recorded, problems


def _rows(table: pa.Table) -> Iterator[tuple[Key, int, Site, NDArray[Any], NDArray[Any]]]:
    names = ("quantity", "phase", "step", "layer", "call")
    keys = (one_chunk(table.select([name]))[name].to_pylist() for name in names)
    lists = zip(_lists(table["bins"]), _lists(table["counts"]), strict=True)
    for (quantity, phase, step, layer, call), (bins, counts) in zip(zip(*keys, strict=True), lists, strict=True):
        yield (quantity, phase), step, (layer, call), bins, counts


def _lists(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    for chunk in column.chunks:
        flat, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        for begin, end in pairwise(offsets):
            yield np.asarray(flat[begin:end])
