"""All distributions of the runs, every quantity in one or two readings of their files."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dropdiag.analysis.kde import Support
from dropdiag.analysis.limits import widened
from dropdiag.analysis.phases import common, keep
from dropdiag.analysis.recordings import Recording, Site, read
from dropdiag.errors import DropdiagError, DropdiagWarning, NotRecordedError
from dropdiag.report.cache import RunCache
from dropdiag.report.densities import Densities, Glance, Numbers, Plan, Taken, Together, glance
from dropdiag.store.histogram_rows import Key
from dropdiag.store.kept import KeptHistograms
from dropdiag.store.reader import Run, Runs

BINS: Final = 72
ROOM: Final = 200_000_000
"""Bytes of histograms that are kept from the first reading for the next ones: of most reports every one."""
CELLS: Final = 1_300_000
"""At most so many bars of one quantity in a page: with more, steps are left out."""


@dataclass(frozen=True)
class Measures:
    """What the page takes from the histograms of a quantity.

    Attributes
    ----------
    through : mapping of str to callable
        Numbers of each histogram that is shown, drawn through training.
    last : mapping of str to callable
        Numbers of each run's last histogram, for the table.
    together : mapping of str to callable
        Those that are taken of a site's last histograms in all runs together: histograms -> a number each.
    support : (float or None, float or None)
        Hard bounds of the quantity; where both are given they are the ends of its axis.
    """

    through: Numbers
    last: Numbers = field(default_factory=dict)
    together: Together = field(default_factory=dict)
    support: Support = (None, None)


class Distributions:
    """The histograms of all runs, averaged over seeds: every quantity in one or two readings.

    Parameters
    ----------
    runs : Runs
    measures : callable
        Quantity -> `Measures`.
    keep : callable
        Whether a layer is wanted.
    bins : int
        Equal bars between the edges.
    cells : int
        Bound on sites x steps x bins of a quantity, over all conditions.
    room : int
        Bytes of histograms that are kept from the first reading for the second, of runs that do not keep them already.
    cache : RunCache, optional
        What was read of runs that have not changed since is taken from it.
    """

    def __init__(
        self,
        runs: Runs,
        measures: Callable[[str], Measures],
        *,
        keep: Callable[[str], bool] = lambda _: True,
        bins: int = BINS,
        cells: int = CELLS,
        cache: RunCache | None = None,
        room: int = ROOM,
    ) -> None:
        self._runs, self._measures, self._bins, self._cells = runs, functools.cache(measures), bins, cells
        kept = KeptHistograms(room)
        keeping = (run.keeping(kept) for run in runs)
        self._by_label, self._keep = dict(zip(runs.labels(), keeping, strict=True)), keep
        self._cache = cache or RunCache()
        # first what all runs reach to, so that the bars of one layer are the same in every run; then the bars
        self._glances = {label: self._look(label, run) for label, run in self._by_label.items()}
        self._made = {quantity: self._begun(quantity) for quantity in self.quantities}
        self._fill([one for one in self._made.values() if isinstance(one, Densities)])

    @property
    def quantities(self) -> list[str]:
        """Quantities that any run holds, in the order in which they are recorded."""
        return list(dict.fromkeys(name for one in self._glances.values() for name, _ in one.steps))

    def of(self, quantity: str) -> Densities:
        """Return the densities of a quantity.

        Raises
        ------
        NotRecordedError
            If no run holds it, or no wanted layer does.
        ArgumentError
            If it was recorded in several held-out phases.
        """
        found = self._made.get(quantity) or NotRecordedError(
            f"no run holds {quantity!r}; record it with a probe (or step/log) that writes it"
        )
        if isinstance(found, DropdiagError):
            raise found
        return found

    def _look(self, label: str, run: Run) -> Glance:
        """Read a run for the first time: what there is, how far it reaches, and its last numbers."""
        # read beside others, a run of an earlier version may call its sites otherwise
        names = tuple(run.names.sites.items())
        found = self._cache.recall(run.path, "glance", names, lambda: self._first(label))
        for problem in found.problems:  # said again of a run that was read for an earlier page
            warnings.warn(problem, DropdiagWarning, stacklevel=2)
        return found

    def _first(self, label: str) -> Glance:
        found, problems = read(self._by_label[label], self._keep)
        return glance(found, problems, lambda quantity: self._measures(quantity).last,
                      lambda quantity: self._measures(quantity).together)  # fmt: skip

    def _second(self, label: str) -> Mapping[Key, Recording]:
        """Return the histograms of a run again, for the last time."""
        found, _ = read(self._by_label[label], self._keep)
        self._by_label[label].forget_histograms()
        return found

    def _begun(self, quantity: str) -> Densities | DropdiagError:
        try:
            return Densities(self._runs, self._plan(quantity))
        except DropdiagError as error:  # a quantity that cannot be shown stops no other
            return error

    def _plan(self, quantity: str) -> Plan:
        """Decide what is shown of a quantity: phase, sites, steps, ends of the axes."""
        held = {label: [phase for name, phase in one.steps if name == quantity]
                for label, one in self._glances.items()}  # fmt: skip
        key = quantity, common(held, quantity)
        # one phase for all runs: training values beside held-out ones would look like an effect
        glances = {label: self._glances[label] for label in keep(held, quantity, key[1])}
        sites = self._runs.places.sorted({site for one in glances.values() for site in one.ends.get(key, ())})
        if not sites:
            raise NotRecordedError(f"no layer that was asked for holds {quantity!r}")
        known = {name: sorted({step for label, one in glances.items() for step in one.steps[key]
                               if self._by_label[label].condition == name})
                 for name in self._runs.conditions}  # fmt: skip
        # the first and the last step are always shown, however many layers there are
        most = max(2, self._cells // (len(sites) * self._bins * len(known)))
        steps = {name: thinned(every, most) for name, every in known.items()}
        left_out = max(len(known[name]) - len(steps[name]) for name in known)
        ends = np.array([self._ends(glances, key, site) for site in sites])
        wanted = self._measures(quantity)
        return Plan(key, sites, ends, self._bins, steps, left_out, wanted.through, wanted.together, glances)

    def _ends(self, glances: Mapping[str, Glance], key: Key, site: Site) -> tuple[float, float]:
        """Return the ends of an axis: the bounds of the quantity where it has them, else around all quantiles."""
        low, high = support = self._measures(key[0]).support
        if low is None or high is None:
            pairs = [pair for one in glances.values() for pair in one.ends.get(key, {}).get(site, ())]
            low, high = widened(np.array(pairs), support)
        return self._cache.ends((key[0], site), low, high)

    def _fill(self, every: Sequence[Densities]) -> None:
        """Average over the runs, with one run's histograms in memory at a time."""
        for label in self._by_label:
            # read when the first quantity asks for it: not at all where the cache has every one of them
            again = functools.cache(functools.partial(self._second, label))
            for one in every:
                if one.shown(label):
                    one.add(label, self._taken(label, one, again))

    def _taken(self, label: str, one: Densities, again: Callable[[], Mapping[Key, Recording]]) -> Taken:
        plan, steps = one.plan, one.shown(label)
        depends = tuple(steps), tuple(plan.sites), plan.edges.tobytes(), tuple(plan.through)
        path = self._by_label[label].path
        return self._cache.recall(path, plan.key, depends, lambda: plan.take(again()[plan.key].rows, steps))


def thinned(steps: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the steps, evenly by rank, with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    chosen = np.unique(np.round(np.linspace(0, len(steps) - 1, most)).astype(np.int64))
    return [steps[i] for i in chosen]
