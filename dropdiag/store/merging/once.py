"""Which rows of several ranks count once: weights that ranks hold copies of, tensors that ranks of one batch share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.merging.groups import Ints, runs_of

OF_WEIGHTS: Final = ("weight", "weight_grad", "raw_weight_grad")
MOVED: Final = ("update_to_weight", "distance_from_start")
OWN, WEIGHTS, ACTIVATIONS, PART = range(4)
"""What a row is of: the run itself, weights, activations, or a part of a layer that no other rank holds."""


def is_of_weights(quantity: str) -> bool:
    """Whether a quantity is one of weights or of their gradients."""
    return quantity in (*OF_WEIGHTS, *MOVED) or quantity.startswith(tuple(f"{name}_" for name in OF_WEIGHTS))


class Parts(NamedTuple):
    """Layers of which each rank holds a part that no other has: of their weights, and of their activations."""

    weights: frozenset[str] = frozenset()
    activations: frozenset[str] = frozenset()


def roles(keys: pa.Table, parts: Parts) -> NDArray[np.int8]:
    """Return what each row of one rank is of.

    Parameters
    ----------
    keys : Table
        Columns layer and quantity, as dictionaries in one chunk.
    parts : Parts
    """
    quantity, layer = (keys[name].combine_chunks() for name in ("quantity", "layer"))
    names = layer.dictionary.to_pylist()
    # the code of no layer is the last
    which = layer.indices.fill_null(len(names)).to_numpy()
    of_weights = np.array([is_of_weights(name) for name in quantity.dictionary.to_pylist()], np.bool_)
    weights = of_weights[quantity.indices.to_numpy()]
    split = [np.array([*(name in some for name in names), False], np.bool_)[which] for some in parts]
    found = np.where(weights, WEIGHTS, ACTIVATIONS)
    found[np.where(weights, *split)] = PART
    found[which == len(names)] = OWN
    return found.astype(np.int8)


def counted_once(group: Ints, role: NDArray[np.int8], batch: Ints, identity: Ints) -> NDArray[np.bool_]:
    """Return which rows count, of those that several ranks have.

    Parameters
    ----------
    group : ndarray of int64, shape (rows,)
        Rows of one group are of one key. Rank after rank: the first of several that are the same counts.
    role : ndarray of int8
        As of `roles`.
    batch : ndarray of int64
        Ranks of one number got the same batch.
    identity : ndarray of int64
        Within a group, the same number for what is equal bit for bit.
    """
    kept = np.ones(len(group), np.bool_)
    for which, columns in ((WEIGHTS, (group, identity)), (ACTIVATIONS, (group, batch))):
        rows = np.flatnonzero(role == which)
        if not len(rows):
            continue
        order, starts = runs_of(*(column[rows] for column in columns))
        again = np.ones(len(order), np.bool_)
        again[starts] = False
        if which == ACTIVATIONS:  # equal on all ranks of the batch, or else parts of one tensor
            told = identity[rows][order]
            same = np.minimum.reduceat(told, starts) == np.maximum.reduceat(told, starts)
            again &= np.repeat(same, np.diff(np.r_[starts, len(order)]))
        kept[rows[order[again]]] = False
    return kept


def numbers(values: Iterable[Hashable]) -> Ints:
    """Return a number for each value: the same for those that are equal."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], np.int64)


def bits(*columns: NDArray[np.float64]) -> Ints:
    """Return a number for each row: the same where all columns are equal bit for bit."""
    order, starts = runs_of(*(np.ascontiguousarray(column).view(np.int64) for column in columns))
    found = np.empty_like(order)
    found[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(order)]))
    return found


def batches(ranks: Sequence[Mapping[str, object]]) -> Ints:
    """Return a number for the batch of each rank, given what each says under ``ranks``: one of its own by default."""
    return numbers((True, told["batch"]) if told.get("batch") is not None else (False, place)
                   for place, told in enumerate(ranks))  # fmt: skip
