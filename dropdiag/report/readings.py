"""What a page must know of the histograms of all runs before it draws any: it opens a run's file twice at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dropdiag.analysis.recordings import Recording, Site, read
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.histogram_rows import Key
from dropdiag.store.reader import Runs

ROOM: Final = 200_000_000
"""Bytes of histograms that are kept from the first reading for the second: of small reports every one."""
TAILS: Final = (0.001, 0.999)
"""Quantiles between which the axis of a distribution reaches at least."""
Numbers = Mapping[str, Callable[[Histogram], float]]


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
        # a small report so opens each file once; a large one reads again rather than run out of memory
        size = sum(h.bins.nbytes + h.counts.nbytes for one in found.values() for _, _, h in one.rows)
        if size <= self._room:
            self._room -= size
            self._kept[label] = found
        return found, problems

    def second(self, label: str) -> dict[Key, Recording]:
        """Return what was kept of a run, once, or read it again."""
        kept = self._kept.pop(label, None)
        return read(self.by_label[label], self._keep)[0] if kept is None else kept
