"""All histograms of one run, whatever their quantity: read at once, so that each of its files is opened once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.histogram_rows import Key
from dropdiag.store.reader import Run

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
    recorded = run.recorded(lambda steps: steps, keep)
    found = {key: Recording(steps) for key, steps in recorded.steps.items()}
    for row in recorded.rows():
        found[row.quantity, row.phase].rows.append((row.step, (row.layer, row.call), row.histogram))
    return found, recorded.problems
