"""Histograms of a run: which to read is decided from when all were recorded, then they are read from the same files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.asked import did_you_mean
from dropdiag.store.phases import default_phase
from dropdiag.store.reading import WHOLE_ROWS, Rows
from dropdiag.store.schema import QUANTITIES
from dropdiag.store.selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dropdiag.store.order import Places

Key: TypeAlias = tuple[str, str]
"""A quantity and a phase."""
Steps: TypeAlias = Mapping[Key, Sequence[int]]
Choose: TypeAlias = Callable[[Steps], Steps]
Recordings: TypeAlias = "tuple[list[tuple[str, str, int]], NDArray[np.int64]]"
"""Each quantity, phase and step in the order in which they first come, and the place there of each row's."""
Read: TypeAlias = "Callable[[Callable[[pa.Table], NDArray[np.bool_]]], Rows]"


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
    steps : dict of (str, str) to list of int
        Quantity and phase -> the steps at which it was recorded, ascending. Of all histograms of the run, in the order
        in which they first come.
    table : Table
        The histograms that were asked for, with their bins and counts.
    problems : list of str
        A sentence on each segment that could not be read.
    """

    steps: dict[Key, list[int]]
    table: pa.Table
    problems: list[str]

    def rows(self) -> Iterator[RecordedHistogram]:
        """Yield the histograms that were asked for, as they were recorded."""
        return rows_of(self.table)

    def in_order(self, quantities: Sequence[str], places: Places) -> list[RecordedHistogram]:
        """Return them quantity by quantity, as these are named, step by step, then in network order.

        Parameters
        ----------
        quantities : sequence of str
        places : Places
            The run's own, or those of runs that are read together.
        """
        return sorted(self.rows(), key=lambda row: (
            quantities.index(row.quantity), row.step, places.key((row.layer, row.call)),
        ))  # fmt: skip

    def warn(self) -> None:
        """Warn of each segment that could not be read."""
        for problem in self.problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=4)

    def check(self, run: object, quantities: Sequence[str], step: int | str | None, phase: str | None) -> None:
        """Raise `NotRecordedError` if nothing was found or a name is none, `ArgumentError` if no phase was clear."""
        phases = [phase or default_phase(phases_of(self.steps, quantity), quantity) for quantity in quantities]
        held = {quantity for quantity, _ in self.steps}
        # of several, those that the run does not hold are left out; what no run could hold is misspelt
        unknown = [one for one in quantities if one not in held and one not in QUANTITIES]
        if unknown or not self.table.num_rows:
            at = "" if step in (None, "all") else f" at step {step}"
            have = ", ".join(f"{q} ({p})" for q, p in sorted(self.steps)) or "no histograms"
            asked = " or ".join(map(repr, unknown or quantities))
            phases_held = sorted({one for _, one in self.steps})
            meant = did_you_mean(unknown[0], sorted(held)) if unknown else did_you_mean(phase, phases_held)
            raise NotRecordedError(f"{run} has no {asked} in phase {phases[0]!r}{at}{meant} it has {have}")


def rows_of(table: pa.Table) -> Iterator[RecordedHistogram]:
    """Yield the rows of a table of histograms."""
    keys = (table[name].to_pylist() for name in RecordedHistogram._fields[:-1])
    # each list was checked when its segment was read
    histograms = map(Histogram.of_checked, _lists(table["bins"]), _lists(table["counts"]))
    yield from map(RecordedHistogram._make, zip(*keys, histograms, strict=True))


def rows_where(table: pa.Table, keep: Callable[[str], bool]) -> pa.Table:
    """Return the rows of layers that are wanted."""
    names = table["layer"].to_pylist()
    kept = {name: keep(name) for name in set(names)}
    return table.filter(pa.array([kept[name] for name in names], pa.bool_()))


def read_recorded(read: Read, choose: Choose, keep: Callable[[str], bool] = lambda _: True) -> Recorded:
    """Read histograms of a run; its files are opened once.

    Parameters
    ----------
    read : callable
        As `dropdiag.store.lists.read_histograms`, of a run: `dropdiag.store.one_rank.Tables.histograms`.
    choose : callable
        Takes the steps of all that was recorded, as `Recorded.steps` has them, and returns those that are wanted:
        `chooser`, `lasts` or one's own.
    keep : callable
        Whether a layer is wanted.

    Raises
    ------
    RunError
        If the run is gone.
    """
    steps: dict[Key, list[int]] = {}

    def choose_rows(keys: pa.Table) -> NDArray[np.bool_]:
        recordings, place = _LAST.of(keys)
        steps.clear()  # a run that was compacted meanwhile is read again
        for quantity, phase, step in recordings:
            steps.setdefault((quantity, phase), []).append(step)
        for known in steps.values():
            known.sort()
        chosen = {(*key, step) for key, some in choose(steps).items() for step in some}
        layer = keys["layer"].combine_chunks()
        kept = np.array([keep(name) for name in layer.dictionary.to_pylist()], np.bool_)
        # looked up once a recording and a name, not once a row: of long runs there are a hundred thousand
        wanted = np.array([one in chosen for one in recordings], np.bool_)
        return np.asarray(wanted[place] & kept[np.asarray(layer.indices)])

    table, problems, _ = read(choose_rows)
    return Recorded(steps, table, problems)


def chooser(quantities: Sequence[str], step: int | str | None, phase: str | None) -> Choose:
    """Make a choice, for `read_recorded`, of some quantities at a step.

    Parameters
    ----------
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
    """
    if isinstance(step, str) and step != "all":
        raise ArgumentError(f"step= takes a step, 'all', or None for the last one, got {step!r}")
    asked = Selection.of(list(quantities), phase, steps=None if isinstance(step, str) else step)

    def choose(steps: Steps) -> Steps:
        found = {}
        for quantity in quantities:
            with suppress(ArgumentError):  # several phases: whoever asked says so, with the run or the runs in view
                key = quantity, phase or default_phase(phases_of(steps, quantity), quantity)
                found[key] = [one for one in steps.get(key, ()) if asked.may_hold(one, one)]
        return lasts(found) if step is None else found

    return choose


def lasts(steps: Steps, until: int | None = None) -> Steps:
    """Choose the last step of each quantity and phase; with ``until``, the last one up to that."""
    return {key: [one for one in some if until is None or one <= until][-1:] for key, some in steps.items()}


def with_start(choose: Choose, quantities: Collection[str]) -> Choose:
    """Choose step 0 of some quantities too, where it was recorded in the phase that was chosen."""

    def both(steps: Steps) -> Steps:
        found = dict(choose(steps))
        begun = {key for key in found if key[0] in quantities and 0 in steps.get(key, ())}
        return {key: sorted({0, *some}) if key in begun else some for key, some in found.items()}

    return both if quantities else choose


def phases_of(steps: Steps, quantity: str) -> list[str]:
    """Return the phases in which a quantity was recorded, in the order in which they first come."""
    return [phase for name, phase in steps if name == quantity]


class _LastRecordings:
    """The recordings of the keys that were looked at last: the runs of a sweep share them. May be shared by threads."""

    def __init__(self) -> None:
        self._last: tuple[pa.Table, Recordings] | None = None

    def of(self, keys: pa.Table) -> Recordings:
        own = keys.select(["quantity", "phase", "step"])
        if len(own) > WHOLE_ROWS:  # of a long run they are not kept
            return _recordings(own)
        known = self._last
        if known is None or not known[0].equals(own):
            known = self._last = own, _recordings(own)
        return known[1]


def _recordings(keys: pa.Table) -> Recordings:
    quantity, phase = (keys[name].combine_chunks() for name in ("quantity", "phase"))
    steps, step = np.unique(keys["step"].to_numpy(), return_inverse=True)
    shape = len(quantity.dictionary), len(phase.dictionary), len(steps)
    number = np.ravel_multi_index((quantity.indices, phase.indices, step), shape)
    _, first, place = np.unique(number, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rows = keys.take(first[order])
    recordings = list(zip(*(rows[name].to_pylist() for name in ("quantity", "phase", "step")), strict=True))
    return recordings, np.argsort(order)[place]


_LAST: Final = _LastRecordings()


def _lists(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    for chunk in column.chunks:
        flat, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        for begin, end in pairwise(offsets):  # views: a list of numpy arrays without a copy
            yield flat[begin:end]
