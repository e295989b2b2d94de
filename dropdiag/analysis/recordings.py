"""All histograms of one run, whatever their quantity: read at once, so that each of its files is opened once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.histogram_rows import Recorded
from dropdiag.store.reader import Run
from dropdiag.store.reading import read_histograms

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
    known: list[pa.Table] = []

    def choose(keys: pa.Table) -> NDArray[np.bool_]:
        known[:] = [keys]
        return np.array([keep(layer) for layer in keys["layer"].to_pylist()], np.bool_)

    table, problems = read_histograms(run.path, run.meta["sessions"], choose)
    steps: dict[Key, set[int]] = {}
    for quantity, phase, step in zip(
        *(known[0][name].to_pylist() for name in ("quantity", "phase", "step")), strict=True
    ):
        steps.setdefault((quantity, phase), set()).add(step)
    found = {key: Recording(sorted(every)) for key, every in steps.items()}
    for row in Recorded(known[0], table, problems).rows():
        found[row.quantity, row.phase].rows.append((row.step, (row.layer, row.call), row.histogram))
    return found, problems
