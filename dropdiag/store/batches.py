"""Scalars of many runs, a bounded number of rows at a time: from their folders, or from a catalog's parts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.parts import read_part
from dropdiag.store.reading import Rows, coded, one_chunk, read_rows
from dropdiag.store.selection import Selection

if TYPE_CHECKING:
    from dropdiag.store.run import Run

ROWS: Final = 400_000  # of a batch, before the selection; one run may have more
KEPT_BYTES: Final = 256 << 20  # of rows in memory, from
KEPT_FILES: Final = 64 << 20  # bytes of files at most: enough for 1,000 runs of 20 layers and 300 steps
WINDOW: Final = 32  # runs that are read ahead
THREADS: Final = 4  # they hide the latency of a slow file system; the decoding itself gains little


class Kept(NamedTuple):
    """Where a catalog keeps a copy of a run's scalars."""

    part: Path
    entry: int


class Memory:
    """What was last read from run folders, kept for the next question where it is small."""

    def __init__(self) -> None:
        self._positions: frozenset[int] = frozenset()
        self._tables: list[pa.Table] = []

    def find(self, positions: Sequence[int]) -> list[pa.Table] | None:
        """Return all rows of the runs at some positions; None where they are not kept."""
        if not self._positions >= set(positions):
            return None
        if self._positions == set(positions):
            return self._tables
        these = pa.array(positions, pa.int32())
        return [table.filter(pc.is_in(table["position"], these)) for table in self._tables]

    def keep(self, positions: Sequence[int], tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass tables on, and keep them unless they turn out to be large."""
        kept: list[pa.Table] | None = []
        for table in tables:
            if kept is not None:
                kept = [*kept, table] if table.nbytes + sum(t.nbytes for t in kept) <= KEPT_BYTES else None
            yield table
        if kept is not None:
            self._positions, self._tables = frozenset(positions), kept


def batches(
    runs: Sequence[Run],
    wanted: Iterable[int],
    selection: Selection,
    memory: Memory,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Read the wanted scalars of runs.

    Parameters
    ----------
    runs : sequence of Run
    wanted : iterable of int
        Positions of the runs to read.
    selection : Selection
    memory : Memory
        Of these runs.
    columns : sequence of str, optional
        Columns that are needed, others may be left out; None is all of them.

    Yields
    ------
    Table
        The scalars' columns, names as dictionaries, and before them ``position`` (int32), the place of the run
        in ``runs``. All rows of a run are in one table, in the order in which they were recorded; the runs may
        come in any order.

    Raises
    ------
    RunError
        If a run is gone.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read.
    """
    loose: list[int] = []
    kept: dict[Path, dict[int, int]] = {}
    for position in wanted:
        place = runs[position].kept
        if place is None or place.entry in kept.setdefault(place.part, {}):
            loose.append(position)
        else:
            kept[place.part][place.entry] = position
    for part, entries in kept.items():
        table = _from_part(part, entries, selection, columns)
        if table is None:
            loose.extend(entries.values())
        else:
            yield table
    yield from map(selection.apply, _from_folders(runs, loose, selection, memory))


def _from_part(
    part: Path, entries: Mapping[int, int], selection: Selection, columns: Sequence[str] | None
) -> pa.Table | None:
    try:
        return read_part(part, entries, selection, columns)
    except RunError as error:
        warnings.warn(f"{error}; its runs are read from their folders", DropdiagWarning, stacklevel=4)
        return None


def _from_folders(
    runs: Sequence[Run], positions: Sequence[int], selection: Selection, memory: Memory
) -> Iterable[pa.Table]:
    """Return tables that hold the wanted rows of runs, others may be among them."""
    found = memory.find(positions)
    if found is not None:
        return found
    if sum(_size(runs[position].path) for position in positions) > KEPT_FILES:
        return _read(runs, positions, selection)
    return memory.keep(positions, _read(runs, positions, Selection()))


def _size(path: Path) -> int:
    """Size in bytes of a run's scalars on the disk."""
    try:
        with os.scandir(path / "rank-0") as files:
            return sum(file.stat().st_size for file in files if file.name.startswith("scalars"))
    except FileNotFoundError:  # gone, or just compacted: reading it will tell
        return 0


def _read(runs: Sequence[Run], positions: Sequence[int], selection: Selection) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for position, rows in _read_ahead(runs, positions, selection):
        for problem in rows.problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=4)
        place = pa.array(np.full(len(rows.table), position, np.int32))
        waiting.append(rows.table.add_column(0, "position", place))
        if sum(map(len, waiting)) >= ROWS:
            yield one_chunk(pa.concat_tables(waiting))
            waiting = []
    if waiting:
        yield one_chunk(pa.concat_tables(waiting))


def _read_ahead(runs: Sequence[Run], positions: Sequence[int], selection: Selection) -> Iterator[tuple[int, Rows]]:
    """Read runs in threads, a window of them at a time."""

    def read(position: int) -> Rows:
        run = runs[position]
        return read_rows(run.path, run.meta["sessions"], "scalars", selection)

    if len(positions) < 4:
        yield from ((position, read(position)) for position in positions)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        for begin in range(0, len(positions), WINDOW):
            window = positions[begin : begin + WINDOW]
            yield from zip(window, pool.map(read, window), strict=True)


def in_order(tables: Iterable[pa.Table]) -> pa.Table:
    """Join batches, run by run in the order of their positions."""
    none = coded("scalars").insert(0, pa.field("position", pa.int32())).empty_table()
    table = one_chunk(pa.concat_tables([none, *tables]))
    position = table["position"].to_numpy()
    if (position[1:] >= position[:-1]).all():
        return table
    return table.take(np.argsort(position, kind="stable"))
