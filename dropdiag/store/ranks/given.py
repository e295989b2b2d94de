"""Scalars that states give, in place of what is merged of the ranks' own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.merging.correlation import WIDTH
from dropdiag.store.merging.groups import KEYS, Ints, places
from dropdiag.store.merging.scalars import Gathered, Merged, Numbers
from dropdiag.store.merging.states import GIVEN, MERGEABLE, Given, States, called
from dropdiag.store.ranks.gathering import Gatherer

Bools = NDArray[np.bool_]


def with_given(ranks: Gatherer, merged: Merged, rows: Gathered) -> tuple[pa.Table, list[str]]:
    """Return merged scalars with those that states give.

    Parameters
    ----------
    ranks : Gatherer
    merged : Merged
    rows : Gathered
        What it was merged of.

    Returns
    -------
    Table
        Its rows. What follows of several ranks' states alone is null where these are not there.
    list of str
        What could not be read, and what is missing for it.
    """
    names = _Names(merged.table)
    # a layer's width follows from the ranks' own, unless each has some of its nodes
    needed = names.among([name for name in GIVEN if name != WIDTH or ranks.shares]) & (merged.came > 1)
    if not needed.any():
        return merged.table, []
    wanted = names.of(needed)
    found, problems = ranks.states(_keys(merged.table, names, needed), lambda some: _told(States(some), wanted))
    values = Numbers.of(merged.table["value"])
    values = Numbers(values.value.copy(), values.known.copy())
    done = np.zeros(len(values.value), np.bool_)
    lost = bool(problems)  # of a rank whose states cannot be read, those of the others would give another number
    for told in found:
        done[_put(values, told.given, merged, lost=lost)] = True
        _put_widths(values, told, merged, rows)
        problems += told.problems
    left = needed & ~done & ~names.among(MERGEABLE) & (merged.kept > 1)
    values.known[left] = False
    if left.any():
        problems.append(_unmerged(names.of(left), int(left.sum())))
    return merged.table.set_column(len(KEYS), "value", values.column()), problems


class _Names:
    """Which quantity each row of a table is of."""

    def __init__(self, table: pa.Table) -> None:
        column = table["quantity"].combine_chunks()
        self._names: list[str] = column.dictionary.to_pylist()
        self._codes: Ints = column.indices.to_numpy()

    def among(self, names: Collection[str]) -> Bools:
        """Whether each row's is one of those."""
        wanted = set(names)
        found: Bools = np.array([name in wanted for name in self._names], np.bool_)[self._codes]
        return found

    def of(self, rows: Bools) -> set[str]:
        """Return those of some rows."""
        return {self._names[code] for code in np.unique(self._codes[rows])}


class _Told(NamedTuple):
    given: Given
    keys: pa.Table  # of correlations of which each rank has some nodes
    shards: Sequence[Mapping[int, int]]
    problems: list[str]


def _told(states: States, wanted: Collection[str]) -> _Told:
    given = states.scalars(wanted)
    keys, shards = states.split() if WIDTH in wanted else (given.table.slice(0, 0), [])
    return _Told(given, keys, shards, states.problems)


def _keys(table: pa.Table, names: _Names, needed: Bools) -> pa.Table:
    """Return the keys of the states that give some rows."""
    found = []
    for state in sorted({GIVEN[name] for name in names.of(needed)}):
        rows = needed & names.among([name for name, given_by in GIVEN.items() if given_by == state])
        found.append(called(table.filter(pa.array(rows)).select(KEYS), state))
    return pa.concat_tables(found).unify_dictionaries().combine_chunks()


def _put(values: Numbers, given: Given, merged: Merged, *, lost: bool) -> Ints:
    """Put what states give in its place; return which rows that is known of: all of them, unless states are lost."""
    at = places(given.table, merged.table)
    if lost:
        at = np.where(given.came < merged.came[at], -1, at)
    # where one state alone counts, a rank has recorded the very number
    rows = (at >= 0) & ~(given.single & (merged.kept[at] <= 1))
    told = Numbers.of(given.table["value"])
    values.value[at[rows]], values.known[at[rows]] = told.value[rows], told.known[rows]
    return at[at >= 0]


def _put_widths(values: Numbers, told: _Told, merged: Merged, rows: Gathered) -> None:
    """Add up the widths of a layer's shards."""
    own = Numbers.of(rows.table["value"])
    for at, shards in zip(places(called(told.keys, WIDTH), merged.table).tolist(), told.shards, strict=True):
        widths: dict[int, float] = {}
        for row in np.flatnonzero(merged.groups.of == at) if at >= 0 else ():
            shard = shards.get(int(rows.rank[row]))
            if shard is not None and own.known[row]:
                widths[shard] = max(widths.get(shard, 0.0), float(own.value[row]))
        if widths:
            values.value[at] = sum(widths.values())


def _unmerged(quantities: Collection[str], rows: int) -> str:
    return (
        f"{', '.join(sorted(quantities))} of several ranks follow from their states alone, and these are not there: "
        f"{rows} {'number is' if rows == 1 else 'numbers are'} missing"
    )
