"""Histograms that are kept from one reading of the runs for the next, in as few bytes as hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dropdiag.analysis.recordings import Recording, Site
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.histogram_rows import Key


class Narrow(NamedTuple):
    """A histogram whose counts take one, two or four bytes where these hold them: of a layer mostly two, of eight."""

    step: int
    site: Site
    bins: NDArray[np.uint16]
    counts: NDArray[Any]

    @classmethod
    def of(cls, step: int, site: Site, histogram: Histogram) -> Narrow:
        """Make one of a row of a `Recording`."""
        most = int(histogram.counts.max(initial=0))
        return cls(step, site, histogram.bins, histogram.counts.astype(np.min_scalar_type(most)))

    def row(self) -> tuple[int, Site, Histogram]:
        """Return the row that it was made of."""
        return self.step, self.site, Histogram.of_checked(self.bins, self.counts.astype(np.int64))


class Kept:
    """What was read of runs, each given back once.

    Parameters
    ----------
    room : int
        Bytes of bins and counts that are kept at most: a small report so opens each file once, and a large one reads
        some again rather than run out of memory.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._of: dict[str, dict[Key, tuple[list[int], list[Narrow]]]] = {}

    def keep(self, label: str, read: Mapping[Key, Recording]) -> None:
        """Keep what was read of a run, where there is room for it."""
        narrow = {key: (one.steps, [Narrow.of(*row) for row in one.rows]) for key, one in read.items()}
        size = sum(one.bins.nbytes + one.counts.nbytes for _, rows in narrow.values() for one in rows)
        if size <= self._room:
            self._room -= size
            self._of[label] = narrow

    def pop(self, label: str) -> dict[Key, Recording] | None:
        """Return what is kept of a run, once; None where nothing is."""
        found = self._of.pop(label, None)
        if found is None:
            return None
        return {key: Recording(steps, [one.row() for one in rows]) for key, (steps, rows) in found.items()}
