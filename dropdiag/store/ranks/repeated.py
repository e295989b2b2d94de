"""Evaluations in which all ranks were given the same data: they count once, as a process alone would count them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.store.merging.groups import Ints
from dropdiag.store.ranks.members import Rank
from dropdiag.store.reading import decoded, read_scalars
from dropdiag.store.schema import TRAIN
from dropdiag.store.selection import Selection

DIGEST: Final = "evaluation_digest"
"""Quantity by which ranks tell whether they had the same histograms in an evaluation."""


class RepeatedEvaluations:
    """Which evaluations ranks repeat, and whose rows count.

    Parameters
    ----------
    ranks : sequence of Rank
    batch, shard : ndarray of int64, shape (ranks,)
        Ranks of one number got one batch; the place of each among these.
    """

    def __init__(self, ranks: Sequence[Rank], batch: Ints, shard: Ints) -> None:
        self._ranks, self._batch, self._shard = ranks, batch, shard
        self._first: dict[tuple[int, str], int] | None = None

    def kept(self, table: pa.Table, rank: Ints) -> NDArray[np.bool_] | None:
        """Return which rows of several ranks count; None: all of them.

        Parameters
        ----------
        table : Table
            In one chunk, names as dictionaries.
        rank : ndarray of int64
            The place of each row's rank.
        """
        phase, layer = (table[name].combine_chunks() for name in ("phase", "layer"))
        names, codes = phase.dictionary.to_pylist(), phase.indices.to_numpy()
        of_layers = layer.is_valid().to_numpy(zero_copy_only=False)
        if {names[code] for code in np.unique(codes[of_layers])} <= {TRAIN}:
            return None
        if self._first is None or any(rank.state == "running" for rank in self._ranks):
            self._first = self._found()
        here = {(step, names.index(name)): batch for (step, name), batch in self._first.items() if name in names}
        if not here:
            return None
        keys = table["step"].to_numpy() * len(names) + codes
        known = sorted((step * len(names) + code, batch) for (step, code), batch in here.items())
        wanted, counts = (np.array(column, np.int64) for column in zip(*known, strict=True))
        at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
        kept: NDArray[np.bool_] = ~((wanted[at] == keys) & of_layers & (self._batch[rank] != counts[at]))
        return kept

    def _found(self) -> dict[tuple[int, str], int]:
        """Return the batch whose rows count, of the evaluations that all ranks repeat, by step and phase."""
        told: defaultdict[tuple[int, str], list[tuple[int, float]]] = defaultdict(list)
        selection = Selection.of(DIGEST)
        for place, rank in enumerate(self._ranks):
            rows = decoded(selection.apply(read_scalars(rank.part, selection).table))
            columns = (rows[name].to_pylist() for name in ("step", "phase", "value"))
            for step, phase, value in zip(*columns, strict=True):
                told[step, phase].append((place, value))
        return {key: int(self._batch[found[0][0]]) for key, found in told.items() if self._same(found)}

    def _same(self, found: Sequence[tuple[int, float]]) -> bool:
        """Whether ranks of several batches have the same digests, shard by shard."""
        places = np.array([place for place, _ in found])
        pairs = {(int(self._shard[place]), digest) for place, digest in found}
        return len(set(self._batch[places].tolist())) > 1 and len(pairs) == len(set(self._shard[places].tolist()))


def without_digests(table: pa.Table) -> pa.Table:
    """Return scalars without those that only ranks need."""
    quantity = table["quantity"].combine_chunks()
    names = quantity.dictionary.to_pylist()
    if DIGEST not in names:
        return table
    return table.filter(pa.array(quantity.indices.to_numpy() != names.index(DIGEST)))
