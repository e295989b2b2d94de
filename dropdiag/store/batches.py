"""Scalars of many runs: read once, kept compactly for the next question, a bounded number of rows at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from dropdiag.errors import DropdiagWarning
from dropdiag.store.merging.states import GIVEN
from dropdiag.store.reading import KnownKeys, Rows, coded, in_large_tables, one_chunk
from dropdiag.store.selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dropdiag.store.run import Run

ROWS: Final = 400_000  # of a batch or block; one run may have more
CACHED_BYTES: Final = 512 << 20  # of scalars in memory, at most
CACHED_FILES: Final = 256 << 20  # bytes of files from which they come: 10,000 runs of 20 layers and 100 steps


class Block(NamedTuple):
    """Scalars of runs that follow each other.

    Runs that recorded the same things at the same steps, as those of a sweep mostly do, have their keys once, and a row
    of values each: a scalar then takes 8 bytes in place of 40, rows are chosen once for all of the runs, and what is
    computed of them is computed along an axis. Runs that differ from their neighbours share a block all the same, with
    slots: a block each would cost more than its arithmetic.

    Attributes
    ----------
    positions : ndarray of int32, shape (runs,)
        Places of the runs.
    keys : Table of ``rows`` rows
        step, phase, layer, call, quantity; names as dictionaries, in one chunk. Blocks that follow each other share
        one object where they have the same keys.
    matrix : ndarray of float64, shape (runs, rows), or (1, rows) with slots
        The values; NaN where missing.
    slots : ndarray of int64, shape (rows,), or None
        None: each run has all keys. Else the run of the block, from 0, that each value belongs to.
    """

    positions: NDArray[np.int32]
    keys: pa.Table
    matrix: NDArray[np.float64]
    slots: NDArray[np.int64] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values, and of the slots."""
        return self.matrix.nbytes + (0 if self.slots is None else self.slots.nbytes)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows run by run: ``position``, then the scalars' columns, or some of them."""
        runs, rows = self.matrix.shape
        place = np.repeat(self.positions, rows) if self.slots is None else self.positions[self.slots]
        keys = self.keys if runs == 1 else self.keys.take(np.tile(np.arange(rows), runs))
        table = keys.add_column(0, "position", pa.array(place)).append_column("value", pa.array(self.matrix.ravel()))
        return table if columns is None else table.select(["position", *dict.fromkeys(columns)])

    def rows(self, chosen: NDArray[np.int64], keys: pa.Table, wanted: NDArray[np.bool_]) -> Block:
        """Return some rows, whose keys are given, of the wanted runs; with slots, the others stay without any row."""
        inside = wanted[self.positions]
        if self.slots is None:
            at = np.flatnonzero(inside)
            return Block(self.positions[at], keys, self.matrix[np.ix_(at, chosen)])
        if not inside.all():
            here = inside[self.slots[chosen]]
            chosen, keys = chosen[here], keys.filter(here)
        return Block(self.positions, keys, self.matrix[:, chosen], self.slots[chosen])


class ScalarCache:
    """What was read of some runs, kept for the next question where it is small."""

    def __init__(self) -> None:
        self._kept: dict[Selection, tuple[list[Block], frozenset[int]]] = {}
        self._too_large: set[Selection] = set()

    def blocks(self, runs: Sequence[Run], positions: Sequence[int], selection: Selection) -> Iterable[Block]:
        """Return blocks that hold the wanted rows of runs, and others: all rows, where there is room to keep them.

        Of runs of several ranks, those that the ranks' states give are read only where one of them is wanted.
        """
        for blocks, kept in (self._kept[every] for every in _all_rows(selection) if every in self._kept):
            if kept.issuperset(positions):
                return blocks
        some = [runs[position] for position in positions]
        every = _all_rows(selection)[-1] if any(run.merges for run in some) else Selection()
        # a run that is being recorded has more to say the next time
        growing = any(run.is_growing for run in some)
        tables = ("scalars",) if every.without else ("scalars", "states")
        if growing or every in self._too_large or sum(run.tables.size(*tables) for run in some) > CACHED_FILES:
            return _read(runs, positions, selection)
        return self._keep(every, frozenset(positions), _read(runs, positions, every))

    def _keep(self, every: Selection, positions: frozenset[int], blocks: Iterable[Block]) -> Iterator[Block]:
        kept, total = list[Block](), 0
        for block in blocks:
            total += block.nbytes + (0 if kept and kept[-1].keys is block.keys else block.keys.nbytes)
            if total <= CACHED_BYTES:
                kept.append(block)
            else:
                kept.clear()
            yield block
        if total > CACHED_BYTES:
            self._too_large.add(every)
        else:
            self._kept[every] = kept, positions


def _all_rows(selection: Selection) -> list[Selection]:
    """Return what may be kept for a question: all rows, or those that no state gives where it wants these alone."""
    lean = selection.quantity is not None and GIVEN.keys().isdisjoint(selection.quantity)
    return [Selection(), *([Selection(without=tuple(GIVEN))] if lean else [])]


def blocks(runs: Sequence[Run], positions: Sequence[int], selection: Selection, cache: ScalarCache) -> Iterator[Block]:
    """Yield the wanted scalars of runs, run by run in the order of their positions.

    Parameters
    ----------
    runs : sequence of Run
    positions : sequence of int
        Of the runs to read, ascending.
    selection : Selection
    cache : ScalarCache
        Of these runs.

    Yields
    ------
    Block
        With at least one row; all rows of a run are in one block. With slots, some of its runs may have none.

    Raises
    ------
    RunError
        If a run is gone.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read.
    """
    wanted = np.zeros(len(runs), np.bool_)
    wanted[list(positions)] = True
    known: pa.Table | None = None
    for block in cache.blocks(runs, positions, selection):
        if block.keys is not known:
            known = block.keys
            mask = selection.mask(known)
            rows = np.arange(len(known)) if mask is None else np.flatnonzero(mask)
            keys = known.take(rows)
        found = block.rows(rows, keys, wanted)
        if found.matrix.size:
            yield found


def batches(found: Iterable[Block], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield blocks as tables (see `Block.table`), small ones joined, names as dictionaries, in one chunk."""
    return in_large_tables((block.table(columns) for block in found), ROWS)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Join batches to one table, which may be empty."""
    none = coded("scalars").insert(0, pa.field("position", pa.int32())).empty_table()
    return one_chunk(pa.concat_tables([none, *tables]))


def _read(runs: Sequence[Run], positions: Sequence[int], selection: Selection) -> Iterator[Block]:
    """Read runs, and join neighbours that have the same keys."""
    # Not in threads: where the keys are known, less time goes into decoding than threads cost each other.
    known = KnownKeys()
    read = ((at, runs[at].read_scalars(selection, known)) for at in positions)
    same, differing = list[_Scalars](), list[_Scalars]()
    for one in _with_shared_keys(read):
        if same and (one.keys is not same[0].keys or len(same) * len(one.values) >= ROWS):
            yield from _blocks(same, differing)
            same = []
        same.append(one)
    yield from _blocks(same, differing)
    if differing:
        yield _slotted(differing)


class _Scalars(NamedTuple):
    """Scalars of one run; the keys are one object where they are those of the run before."""

    position: int
    keys: pa.Table
    values: NDArray[np.float64]


def _with_shared_keys(found: Iterable[tuple[int, Rows]]) -> Iterator[_Scalars]:
    keys = before = coded("scalars").empty_table()
    for position, (table, problems, shared) in found:
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=5)
        own = table.drop_columns("value") if shared is None else shared
        if own is not before and not own.equals(before):
            joined_own = one_chunk(own)  # also alike: the same rows in other row groups
            keys, before = keys if joined_own.equals(keys) else joined_own, own
        yield _Scalars(position, keys, table["value"].to_numpy())


def _blocks(same: list[_Scalars], differing: list[_Scalars]) -> Iterator[Block]:
    """Yield runs of the same keys as a block, and before them those that differ; one run alone is put to those."""
    if len(same) == 1:
        differing += same
    if differing and (len(same) > 1 or sum(len(one.values) for one in differing) >= ROWS):
        yield _slotted(differing)
        differing.clear()
    if len(same) > 1:
        positions = np.array([one.position for one in same], np.int32)
        yield Block(positions, same[0].keys, np.stack([one.values for one in same]))


def _slotted(found: list[_Scalars]) -> Block:
    slots = np.repeat(np.arange(len(found)), [len(one.values) for one in found])
    keys = one_chunk(pa.concat_tables([one.keys for one in found]))
    values = np.concatenate([one.values for one in found])
    return Block(np.array([one.position for one in found], np.int32), keys, values[np.newaxis], slots)
