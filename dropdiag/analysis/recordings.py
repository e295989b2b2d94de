"""All histograms of one run, whatever their quantity: read at once, so that each of its files is opened once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import Run
from dropdiag.store.reading import one_chunk, read_rows
from dropdiag.store.selection import Selection

Key = tuple[str, str]
Site = tuple[str, int]


@dataclass(frozen=True)
class Recording:
    """Histograms of one quantity and phase of a run: the steps of all, the rows of the layers that are wanted."""

    steps: list[int]
    rows: list[tuple[int, Site, Histogram]] = field(default_factory=list)


def read(run: Run, keep: Callable[[str], bool] = lambda _: True) -> tuple[dict[Key, Recording], list[str]]:
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
