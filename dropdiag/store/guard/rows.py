"""Rows as dropdiag writes them: what was decoded of a segment is checked before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.histograms.grid import line_bins
from dropdiag.store.guard import limits
from dropdiag.store.guard.damage import SegmentError
from dropdiag.store.guard.numbers import numbers
from dropdiag.store.limits import NAME

_RANGES: Final = {
    "step": (0, limits.STEP), "call": (0, 2**31 - 1), "n": (0, limits.VALUES), "nodes": (0, limits.NODES),
}  # fmt: skip
_OF_THE_RUN: Final = ("layer", "scalars")  # null of the run's own; histograms and states are of a layer
_TEXTS: Final = ("phase", "quantity", "layer", "activation")


def check(table: pa.Table, name: str) -> None:
    """Check the columns of a table that hold one thing a row; those that were not read are passed over.

    Parameters
    ----------
    table : Table
        As it was decoded.
    name : str
        Whose rows they are.

    Raises
    ------
    SegmentError
        If a row is none that dropdiag writes.
    ArrowInvalid
        If text is no UTF-8, or an index has no name.
    """
    table.validate(full=True)
    for column in table.column_names:
        if column in _RANGES:
            _check_range(table[column], column, *_RANGES[column])
        elif column in _TEXTS:
            _check_texts(table[column], column, may_be_null=(column, name) == _OF_THE_RUN)
        elif column == "count":
            _check_count(table[column], may_be_null=name == "scalars")
    if name == "derivatives":
        _check_derivatives(table)


def check_lists(table: pa.Table) -> None:
    """Check rows of histograms or of states with their lists, beside what the row says of them; raises as `check`."""
    if "bins" in table.column_names:
        _check_histograms(table)
    else:
        _check_states(table)


def _check_range(column: pa.ChunkedArray, name: str, least: float, most: float) -> None:
    if column.null_count:
        raise SegmentError(f"{column.null_count:,} of its rows have no {name}")
    for chunk in column.chunks:
        values = numbers(chunk)
        if len(values) and not least <= values.min() <= values.max() <= most:
            raise SegmentError(f"{name} goes from {values.min():,} to {values.max():,}, and is {least:,} to {most:,}")


def _check_count(column: pa.ChunkedArray, *, may_be_null: bool) -> None:
    if column.null_count and not may_be_null:
        raise SegmentError(f"{column.null_count:,} of its rows have no count")
    for values in (numbers(chunk.drop_null()) for chunk in column.chunks):
        if len(values) and not 0 <= values.min() <= values.max() <= np.finfo(np.float64).max:  # NaN is neither
            raise SegmentError(f"count goes from {values.min():,} to {values.max():,}, and is a number of values")


def _check_texts(column: pa.ChunkedArray, name: str, *, may_be_null: bool) -> None:
    if column.null_count and not may_be_null:
        raise SegmentError(f"{column.null_count:,} of its rows have no {name}")
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        if len(set(words)) < len(words):
            raise SegmentError(f"the names in its column {name} are listed twice")
        for word in words:
            _check_word(word, name)


def _check_word(word: str, name: str) -> None:
    if len(word) > NAME:
        raise SegmentError(f"a {name} has {len(word):,} letters ({word[:40]!r}...), and {NAME:,} at most")
    if "\0" in word:
        raise SegmentError(f"a {name} holds a zero byte: {word[:100]!r}")


def _check_derivatives(table: pa.Table) -> None:
    """Check that each function has every finite bin once, in order, and no slope that is negative."""
    values = table["abs_derivative"]
    if values.null_count or table["bin"].null_count:
        raise SegmentError("some of its rows have no bin, or no derivative")
    if (numbers(values) < 0).any():
        raise SegmentError("|phi'| is negative in some of its rows")
    bins, every = numbers(table["bin"]), _every_bin()
    names = numbers(table["activation"].unify_dictionaries().combine_chunks().indices)
    whole = len(bins) % len(every) == 0
    functions = names.reshape(-1, len(every)) if whole else names[:0]
    if not whole or (bins.reshape(-1, len(every)) != every).any() or (functions != functions[:, :1]).any():
        raise SegmentError(f"its functions do not have each of the {len(every):,} bins once, in order")
    if len(set(functions[:, 0].tolist())) < len(functions):
        raise SegmentError("it has a function twice")


@cache
def _every_bin() -> NDArray[np.uint16]:
    return line_bins()


def _check_histograms(table: pa.Table) -> None:
    bins, ends = _flat(table["bins"], "bins")
    counts, others = _flat(table["counts"], "counts")
    if not np.array_equal(ends, others):
        raise SegmentError("bins and counts of a histogram are of different lengths")
    starts = ends[:-1][np.diff(ends) > 0]
    inside = np.ones(len(bins), np.bool_)
    inside[starts] = False  # of a first bin there is none before it
    if len(bins) and (bins.max() >= 1 << 15 or not (bins[1:] > bins[:-1])[inside[1:]].all()):
        raise SegmentError("the bins of a histogram do not ascend, or are not of the grid")
    n = numbers(table["n"])
    sums = np.zeros(len(n), np.int64)
    if len(counts):
        if counts.min() < 1 or counts.max() > limits.VALUES:
            raise SegmentError(f"a bin counts {counts.min():,} or {counts.max():,} values")
        sums[np.diff(ends) > 0] = np.add.reduceat(counts, starts)
    if not np.array_equal(sums, n):
        raise SegmentError("the counts of a histogram are not n together")


def _check_states(table: pa.Table) -> None:
    _, ends = _flat(table["state"], "state")
    sizes, nodes = np.diff(ends), numbers(table["nodes"]).astype(np.int64)
    coded = table["quantity"].combine_chunks()
    of, names = numbers(coded.indices), coded.dictionary.to_pylist()
    for place, name in enumerate(names):
        rows = of == place
        size = SIZES.get(name)
        if size is not None and (sizes[rows] != size(nodes[rows])).any():
            raise SegmentError(f"a state of {name} has another size than its nodes take")


def _flat(column: pa.ChunkedArray, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the elements of all lists, and where each list ends."""
    lists = column.combine_chunks()
    elements = lists.flatten()
    if lists.null_count or elements.null_count:
        raise SegmentError(f"{name} of some of its rows, or elements of them, are missing")
    sizes = numbers(lists.value_lengths())
    return numbers(elements), np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


Nodes = NDArray[np.int64]
_MOMENTS: Final = 7


def _fixed(size: int) -> Callable[[Nodes], Nodes]:
    return lambda nodes: np.full_like(nodes, size)


SIZES: Final[dict[str, Callable[[Nodes], Nodes]]] = {
    "net_value_moments": _fixed(_MOMENTS),
    "weight_moments": _fixed(_MOMENTS),
    "node_correlation": lambda nodes: 3 * nodes + nodes * (nodes + 1) // 2,
    "dropout_noise_to_signal": lambda nodes: 3 * nodes,
    "dead_share": lambda nodes: 2 * nodes,
    "update_to_weight": _fixed(2),
    "distance_from_start": _fixed(2),
}
"""Numbers of a state of so many nodes, as ``docs/run-folder.md`` lists the states."""
