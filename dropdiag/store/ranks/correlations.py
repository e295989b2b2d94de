"""Histograms of correlations over the samples of all ranks, in place of sums of those over the samples of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.merging.groups import KEYS, places
from dropdiag.store.merging.histograms import Merged, with_lists
from dropdiag.store.merging.scalars import Gathered
from dropdiag.store.merging.states import CORRELATION, States
from dropdiag.store.ranks.gathering import Gatherer


def with_correlations(ranks: Gatherer, merged: Merged) -> tuple[pa.Table, list[str]]:
    """Return merged histograms with those of correlations as the ranks' covariances give them.

    Parameters
    ----------
    ranks : Gatherer
    merged : Merged

    Returns
    -------
    Table
        Its rows, without correlations that no states give.
    list of str
        What could not be read, and what is missing for it.
    """
    quantity = merged.table["quantity"].combine_chunks()
    of_nodes = np.array([name == CORRELATION for name in quantity.dictionary.to_pylist()], np.bool_)
    needed = of_nodes[quantity.indices.to_numpy()] & (merged.came > 1)
    if not needed.any():
        return merged.table, []
    keys = merged.table.filter(pa.array(needed)).select(KEYS)
    found, problems = ranks.states(keys, _histograms)
    told: dict[int, Histogram | None] = {}
    for names, histograms, said in found:
        problems += said
        told |= zip(places(names, merged.table).tolist(), histograms, strict=True)
    known = {at: histogram for at, histogram in told.items() if histogram is not None}
    left = set(np.flatnonzero(needed & (merged.kept > 1)).tolist()) - known.keys()
    if alone := len(left - told.keys()):
        problems.append(f"node_correlation of several ranks follows from their states alone, and {alone} are not there")
    return _with(merged.table, known, left), problems


def _histograms(rows: Gathered) -> tuple[pa.Table, list[Histogram | None], list[str]]:
    states = States(rows)
    return *states.histograms(), states.problems


def _with(table: pa.Table, made: Mapping[int, Histogram], left: Collection[int]) -> pa.Table:
    """Return a table with other histograms at some places, and without some of its own."""
    others = np.array(sorted(made), np.int64)
    kept = np.setdiff1d(np.arange(len(table)), [*made, *left])
    new = with_lists(table.select(KEYS).take(others), [(made[at].bins, made[at].counts) for at in others.tolist()])
    both = pa.concat_tables([table.take(kept), new.cast(table.schema)])
    return both.take(np.argsort(np.r_[kept, others]))
