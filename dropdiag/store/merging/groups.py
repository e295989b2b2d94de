"""Which rows of several ranks belong together: those of one step, phase, layer, call and quantity."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

KEYS: Final = ("step", "phase", "layer", "call", "quantity")
Ints = NDArray[np.int64]


class Groups(NamedTuple):
    """Rows that belong together.

    Attributes
    ----------
    of : ndarray of int64, shape (rows,)
        The group of each row. Groups are in the order of step, then in that in which they first come: as the first rank
        has its rows, then what only the others have.
    first : ndarray of int64, shape (groups,)
        The first row of each.
    """

    of: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.first)


def grouped(keys: pa.Table, rank: Ints) -> Groups:
    """Find the rows of several ranks that belong together.

    Parameters
    ----------
    keys : Table
        Columns `KEYS`, in one chunk, names as dictionaries; rank after rank.
    rank : ndarray of int64, shape (rows,)
        Where a rank has several rows of one key, its first belongs to the first of the others, and so on.
    """
    number = _numbered(keys, rank)
    _, first, group = np.unique(number, return_index=True, return_inverse=True)
    order = np.lexsort((first, keys["step"].to_numpy()[first]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Groups(place[group], first[order])


def places(keys: pa.Table, among: pa.Table) -> Ints:
    """Return where each row's key stands among others, all of which differ; -1 where it is not there."""
    both = pa.concat_tables([among.select(KEYS), keys.select(KEYS)]).unify_dictionaries().combine_chunks()
    which = np.repeat([0, 1], [len(among), len(keys)])
    number = _numbered(both, which)
    known, wanted = number[: len(among)], number[len(among) :]
    if not len(known):
        return np.full(len(wanted), -1)
    order = np.argsort(known)
    at = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
    found: Ints = np.where(known[at] == wanted, at, -1)
    return found


def runs_of(*columns: NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Sort rows by some columns: return their order, and where each run of equal rows begins in it."""
    order = np.lexsort(columns[::-1])
    differs = np.zeros(max(len(order) - 1, 0), np.bool_)
    for column in columns:
        found = column[order]
        differs |= found[1:] != found[:-1]
    return order, np.flatnonzero(np.r_[True, differs][: len(order)])


def _numbered(keys: pa.Table, rank: Ints) -> Ints:
    """Return one number a row: the same for equal keys, of one rank for those that come as the same of their key."""
    columns = [_codes(keys[name]) for name in KEYS]
    number = np.ravel_multi_index(columns, [int(column.max(initial=0)) + 1 for column in columns])
    order, starts = runs_of(number, rank)
    sizes = np.diff(np.r_[starts, len(order)])
    again = np.empty_like(order)
    again[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return number * (int(again.max(initial=0)) + 1) + again


def _codes(column: pa.ChunkedArray) -> Ints:
    if pa.types.is_dictionary(column.type):
        # no layer is a name, too
        return np.asarray(column.combine_chunks().indices.fill_null(-1)).astype(np.int64) + 1
    codes: Ints = np.unique(column.to_numpy(), return_inverse=True)[1].astype(np.int64)
    return codes
