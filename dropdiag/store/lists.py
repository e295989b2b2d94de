"""Tables whose rows hold lists: the keys of all, then the lists of those that are wanted, each file opened once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.guard import rows as checks
from dropdiag.store.guard.checked import Checked
from dropdiag.store.reading import LISTS, KnownKeys, Rows, coded, noted, one_chunk, open_segment, whole
from dropdiag.store.segments import Part, Segment, VisibleSegment, visible_segments
from dropdiag.store.selection import Selection

OPEN_FILES: Final = 32  # files that stay open between their keys and their lists
_KNOWN: Final = {name: KnownKeys(name) for name in LISTS}


def read_histograms(part: Part, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
    """Read a rank's histograms: the keys of all, then bins and counts of the chosen ones from the same open files.

    Parameters
    ----------
    part : Part
    choose : callable
        Takes the keys of all histograms, in one chunk (the table without bins and counts), returns which of them are
        wanted.

    Raises
    ------
    RunError
        If the run is gone.
    """

    def read() -> Rows:
        with ExitStack() as stack:
            opened = OpenLists(part, "histograms", stack)
            table = opened.read(np.flatnonzero(choose(opened.keys)))
        return Rows(table, opened.problems)

    return whole([part], read)


class OpenLists:
    """A rank's table whose rows hold lists.

    Parameters
    ----------
    part : Part
    name : {"histograms", "states"}
    stack : ExitStack
        What closes its files.
    among : int
        Tables that are open at once: they share the files that may stay open. A run that was killed may have thousands
        of segments; the others are opened again.

    Attributes
    ----------
    keys : Table
        Its rows without their lists, in one chunk, those left out that a later session recorded anew.
    problems : list of str
        A sentence on each segment that could not be read.

    Raises
    ------
    FileNotFoundError
        If a segment is gone: the run was compacted meanwhile.
    """

    def __init__(self, part: Part, name: str, stack: ExitStack, among: int = 1) -> None:
        self.problems: list[str] = []
        self._name = name
        segments = visible_segments(part, name, self.problems)
        self._opened = list(_with_keys(segments, self.problems, stack, -(-OPEN_FILES // among)))
        self.keys = _joined([one.seen for one in self._opened], coded(name, lists=False))

    def read(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return some rows whole, given by their places among the keys, ascending."""
        ends = np.cumsum([0, *(len(one.visible) for one in self._opened)])
        found = list[pa.Table]()
        for one, (begin, end) in zip(self._opened, pairwise(ends), strict=True):
            with noted(one.segment, self.problems):
                found += one.read(one.visible[rows[(rows >= begin) & (rows < end)] - begin])
        return pa.concat_tables(found or [coded(self._name).empty_table()])


def _joined(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Join keys, each in one chunk, to one table in one chunk."""
    if len(tables) == 1:
        return tables[0]
    return one_chunk(pa.concat_tables([schema.empty_table(), *tables]))


class _Open(NamedTuple):
    """An open segment, and the keys of all its rows."""

    segment: Segment
    file: Checked | None  # None: too many are open, it is opened again
    keys: pa.Table
    visible: NDArray[np.int64]  # rows that no later session recorded anew

    @property
    def seen(self) -> pa.Table:
        """The keys of these rows."""
        return self.keys if len(self.visible) == len(self.keys) else one_chunk(self.keys.take(self.visible))

    def read(self, rows: NDArray[np.int64]) -> list[pa.Table]:
        """Read some rows whole: the lists of the row groups that hold one of them."""
        if not len(rows):
            return []
        columns = LISTS[self.segment.table]
        with ExitStack() as stack:
            lists = _read_lists(self.file or stack.enter_context(open_segment(self.segment)), columns, rows)
        table = self.keys.take(rows)
        for name in columns:
            table = table.append_column(name, lists[name])
        checks.check_lists(table)
        schema = coded(self.segment.table)
        return [table.select(schema.names).cast(schema)]


def _with_keys(
    segments: Iterable[VisibleSegment], problems: list[str], stack: ExitStack, files: int
) -> Iterator[_Open]:
    for place, (segment, last_step) in enumerate(segments):
        with noted(segment, problems):
            with ExitStack() as closing:
                file = closing.enter_context(open_segment(segment))
                keys = _keys(file, segment.table)
                mask = Selection().until(last_step).mask(keys)
                visible = np.arange(len(keys)) if mask is None else np.flatnonzero(mask)
                if place < files:  # open until all is read
                    stack.push(closing.pop_all())
            yield _Open(segment, file if place < files else None, keys, visible)


def _keys(file: Checked, name: str) -> pa.Table:
    """Read the columns that hold one thing a row, in one chunk."""
    if KnownKeys.takes(file):
        return _KNOWN[name].decode(file)[0]
    light = coded(name, lists=False)
    return one_chunk(file.read(light.names).cast(light))


def _read_lists(file: Checked, columns: Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
    """Read the lists of some rows, ascending."""
    ends = np.cumsum([0, *(group.rows for group in file.groups)])
    parts: list[pa.Table] = []
    for group, (begin, end) in enumerate(pairwise(ends)):
        inside = rows[(rows >= begin) & (rows < end)] - begin
        if len(inside):
            parts += _chosen(file.batches(end - begin, columns, [group]), inside)
    return pa.concat_tables(parts)


def _chosen(batches: Iterable[pa.Table], rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield some rows, ascending, of neighbouring tables."""
    begin = 0
    for table in batches:
        inside = rows[(rows >= begin) & (rows < begin + len(table))] - begin
        if len(inside):
            yield table if len(inside) == len(table) else table.take(inside)
        begin += len(table)
