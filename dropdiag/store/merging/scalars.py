"""The scalars of several ranks as those of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.merging.groups import KEYS, Groups, Ints, grouped, runs_of
from dropdiag.store.merging.once import bits, counted_once
from dropdiag.store.schema import MAXIMUM, MEAN, MINIMUM, SUM, Quantity

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Numbers(NamedTuple):
    """Numbers, some of them missing.

    Attributes
    ----------
    value : ndarray of float64
        Anything where it is missing.
    known : ndarray of bool
    """

    value: Floats
    known: Bools

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Numbers:
        """Return the numbers of a column."""
        return cls(column.fill_null(np.nan).to_numpy(), column.is_valid().to_numpy())

    def take(self, rows: Ints) -> Numbers:
        """Return some of them."""
        return Numbers(self.value[rows], self.known[rows])

    def column(self) -> pa.Array:
        """Return them as a column; null where missing."""
        return pa.array(self.value, pa.float64(), mask=~self.known)


class Gathered(NamedTuple):
    """The rows of several ranks, rank after rank.

    Attributes
    ----------
    table : Table
        In one chunk, names as dictionaries.
    rank : ndarray of int64
        The place of each row's rank.
    role : ndarray of int8
        What it is of, as of `dropdiag.store.merging.once.roles`.
    batch : ndarray of int64
        The batch of its rank.
    shard : ndarray of int64
        The place of its rank among those of one batch.
    """

    table: pa.Table
    rank: Ints
    role: NDArray[np.int8]
    batch: Ints
    shard: Ints


class Merged(NamedTuple):
    """Scalars of one run.

    Attributes
    ----------
    table : Table
        Columns of scalars, in the order of step.
    groups : Groups
        Which rows of the ranks each is made of.
    came, kept : ndarray of int64
        How many rows of a value there are of each, and how many of them count: of one, its number is the very one that
        a rank recorded.
    """

    table: pa.Table
    groups: Groups
    came: Ints
    kept: Ints


def merge(rows: Gathered, quantities: Mapping[str, Quantity]) -> Merged:
    """Merge the scalars of several ranks.

    Parameters
    ----------
    rows : Gathered
        With columns `KEYS`, value and count: of how many values each is made, null where nobody said.
    quantities : mapping of str to Quantity
        How each merges; those that it does not know by their mean.

    Notes
    -----
    A row of no value adds nothing. Where one that adds something is missing, so is what they make together. A mean is
    weighted by the counts; where no row has one, each rank counts alike; where some have one and others do not, nobody
    can tell how much these weigh, and the mean is missing.
    """
    groups = grouped(rows.table.select(KEYS), rows.rank)
    values, counts = (Numbers.of(rows.table[name]) for name in ("value", "count"))
    came = ~(counts.known & (counts.value == 0.0))
    same = bits(np.where(values.known, values.value, 0.0), values.known.astype(np.float64),
                np.where(counts.known, counts.value, -1.0))  # fmt: skip
    counts_once = counted_once(groups.of, rows.role, rows.batch, same)
    kept = np.flatnonzero(came & counts_once)
    found = Numbers(values.value[groups.first].copy(), values.known[groups.first].copy())
    _fill_what_never_came(found, groups, values)
    order, starts = runs_of(groups.of[kept])
    if len(starts):
        at = groups.of[kept][order[starts]]
        rows_of = kept[order]
        parts = _Parts(values.take(rows_of), counts.take(rows_of), starts)
        rules = _rules(rows.table["quantity"].take(groups.first[at]), quantities)
        found.value[at], found.known[at] = _merged(parts, rules)
    table = rows.table.select(KEYS).take(groups.first).append_column("value", found.column())
    number = (np.bincount(groups.of[which], minlength=len(groups)) for which in (came, kept))
    return Merged(table, groups, *number)


def _fill_what_never_came(found: Numbers, groups: Groups, values: Numbers) -> None:
    """Of rows that are of no value, one that is not missing (NaN) stands for all."""
    known = np.flatnonzero(values.known)[::-1]  # the first one is written last
    found.value[groups.of[known]], found.known[groups.of[known]] = values.value[known], True


class _Parts(NamedTuple):
    """What is merged, group after group."""

    values: Numbers
    counts: Numbers
    starts: Ints

    def any(self, which: Bools) -> Bools:
        return np.logical_or.reduceat(which, self.starts)

    def each(self, of_groups: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return what each row's group has."""
        return np.repeat(of_groups, np.diff(np.r_[self.starts, len(self.values.value)]))


def _mean(parts: _Parts) -> Floats:
    weight = np.where(parts.counts.known, parts.counts.value, 1.0)
    total = np.add.reduceat(weight, parts.starts)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs have no mean
        mean = np.add.reduceat(weight * parts.values.value, parts.starts) / total
        share = weight / parts.each(total)
        # where a sum is too large for a float, the mean may not be
        return np.where(np.isfinite(mean), mean, np.add.reduceat(share * parts.values.value, parts.starts))


def _sum(parts: _Parts) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.add.reduceat(parts.values.value, parts.starts)


_MERGES: Final[dict[str, Callable[[_Parts], Floats]]] = {
    MEAN: _mean,
    SUM: _sum,
    MINIMUM: lambda parts: np.minimum.reduceat(parts.values.value, parts.starts),
    MAXIMUM: lambda parts: np.maximum.reduceat(parts.values.value, parts.starts),
}


def _merged(parts: _Parts, rules: NDArray[np.str_]) -> tuple[Floats, Bools]:
    """Return the number of each group, and whether it is known."""
    known = ~parts.any(~parts.values.known)
    value = np.full(len(parts.starts), np.nan)
    for rule in dict.fromkeys(rules.tolist()):
        value = np.where(rules == rule, _MERGES[rule](parts), value)
    mixed = parts.any(parts.counts.known) & parts.any(~parts.counts.known)
    # numbers that are all the same are their mean, to the last digit
    low, high = (_MERGES[end](parts) for end in (MINIMUM, MAXIMUM))
    alike = low == high
    value = np.where((rules == MEAN) & alike, low, value)
    return value, known & ~(mixed & ~alike & (rules == MEAN))


def _rules(names: pa.ChunkedArray, quantities: Mapping[str, Quantity]) -> NDArray[np.str_]:
    column = names.combine_chunks()
    known = [quantities[name].merge if name in quantities else MEAN for name in column.dictionary.to_pylist()]
    rules: NDArray[np.str_] = np.array(known or [MEAN])[column.indices.to_numpy()]
    return rules
