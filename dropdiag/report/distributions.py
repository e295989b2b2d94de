"""All distributions of the runs, every quantity in one or two readings of their files."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dropdiag.analysis.kde import Support, widened
from dropdiag.analysis.phases import common, keep
from dropdiag.analysis.recordings import Recording
from dropdiag.errors import DropdiagError, DropdiagWarning, NotRecordedError
from dropdiag.report.cache import RunCache
from dropdiag.report.densities import Average, Densities, Plan, Taken
from dropdiag.report.readings import Glance, Numbers, Readings, glance
from dropdiag.report.series import in_order, network_places
from dropdiag.store.histogram_rows import Key
from dropdiag.store.reader import Run, Runs

BINS: Final = 72
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
    support : (float or None, float or None)
        Hard bounds of the quantity; where both are given they are the ends of its axis.
    """

    through: Numbers
    last: Numbers = field(default_factory=dict)
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
    room : int, optional
        Bytes of histograms that are kept from the first reading for the second.
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
        **room: int,
    ) -> None:
        self._runs, self._measures, self._bins, self._cells = runs, functools.cache(measures), bins, cells
        self._cache, self._readings = cache or RunCache(), Readings(runs, keep, **room)
        self._places = network_places(runs)
        # first what all runs reach to, so that the bars of one layer are the same in every run; then the bars
        self._glances = dict(self._look())
        self._made: dict[str, Densities | DropdiagError] = {}
        averages = dict(self._averages())
        self._fill(list(averages.values()))
        self._made |= {name: average.result() for name, average in averages.items()}

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

    def _look(self) -> Iterator[tuple[str, Glance]]:
        """Read each run for the first time: what there is, how far it reaches, and its last numbers."""
        for label, run in self._readings.by_label.items():
            found = self._cache.recall(run.path, "glance", (), functools.partial(self._glance, label))
            for problem in found.problems:  # said again of a run that was read for an earlier page
                warnings.warn(problem, DropdiagWarning, stacklevel=2)
            yield label, found

    def _glance(self, label: str) -> Glance:
        return glance(*self._readings.first(label), lambda quantity: self._measures(quantity).last)

    def _averages(self) -> Iterator[tuple[str, Average]]:
        for quantity in self.quantities:
            try:
                yield quantity, Average(self._runs, self._plan(quantity))
            except DropdiagError as error:  # noqa: PERF203 - a quantity that cannot be shown stops no other
                self._made[quantity] = error

    def _plan(self, quantity: str) -> Plan:
        """Decide what is shown of a quantity: phase, sites, steps, ends of the axes."""
        held = {label: [phase for name, phase in one.steps if name == quantity]
                for label, one in self._glances.items()}  # fmt: skip
        key = quantity, common(held, quantity)
        # one phase for all runs: training values beside held-out ones would look like an effect
        glances = {label: self._glances[label] for label in keep(held, quantity, key[1])}
        sites = in_order({site for one in glances.values() for site in one.ends.get(key, ())}, self._places)
        if not sites:
            raise NotRecordedError(f"no layer that was asked for holds {quantity!r}")
        known = {name: sorted({step for label, one in glances.items() for step in one.steps[key]
                               if self._readings.by_label[label].condition == name})
                 for name in self._runs.conditions}  # fmt: skip
        # the first and the last step are always shown, however many layers there are
        most = max(2, self._cells // (len(sites) * self._bins * len(known)))
        steps = {name: thinned(every, most) for name, every in known.items()}
        left_out = max(len(known[name]) - len(steps[name]) for name in known)
        measures = self._measures(quantity)
        ends = np.array([
            self._cache.ends((quantity, site), *_limits(
                [pair for one in glances.values() for pair in one.ends.get(key, {}).get(site, ())], measures.support
            )) for site in sites
        ])  # fmt: skip
        return Plan(key, sites, ends, self._bins, steps, left_out, measures.through, glances)

    def _fill(self, averages: Sequence[Average]) -> None:
        """Average over the runs, with one run's histograms in memory at a time."""
        for label, run in self._readings.by_label.items():
            # read when the first quantity asks for it: not at all where the cache has every one of them
            again = functools.cache(functools.partial(self._readings.second, label))
            for average in averages:
                if average.shown(label):
                    average.add(label, self._taken(run, average.plan, average.shown(label), again))

    def _taken(self, run: Run, plan: Plan, steps: list[int], again: Callable[[], Mapping[Key, Recording]]) -> Taken:
        depends = tuple(steps), tuple(plan.sites), plan.edges.tobytes(), tuple(plan.through)
        return self._cache.recall(run.path, plan.key, depends, lambda: plan.take(again()[plan.key].rows, steps))


def _limits(ends: Sequence[tuple[float, float]], support: Support) -> tuple[float, float]:
    """Return the ends of an axis: the bounds of the quantity where it has them, else around all quantiles."""
    if support[0] is not None and support[1] is not None:
        return support[0], support[1]
    return widened(np.array(ends), support)


def thinned(steps: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the steps, evenly by rank, with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    chosen = np.unique(np.round(np.linspace(0, len(steps) - 1, most)).astype(np.int64))
    return [steps[i] for i in chosen]
