"""Histograms that are kept for the next question: their files are opened once, counts take as few bytes as they can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdiag.store.one_rank import Tables
from dropdiag.store.reading import Rows, coded, one_chunk

NARROWED: Final = 4
"""Bytes of histograms in memory for each byte of their files, about, once counts are narrow: most take two of eight."""


class KeptHistograms:
    """Histograms of runs that are asked for several times. May be shared by threads.

    Parameters
    ----------
    room : int
        Bytes that are kept at most. Where there is no more room, the files are read each time, for what is asked alone.
    """

    def __init__(self, room: int) -> None:
        self._room, self._lock = room, Lock()
        self._of: dict[Path, Rows] = {}

    def histograms(self, run: Path, tables: Tables, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
        """Read histograms of a run as `dropdiag.store.lists.read_histograms` does, or take them from what is kept."""
        kept = self._of.get(run) or self._read(run, tables)
        if kept is None:
            return tables.histograms(choose)
        keys = one_chunk(kept.table.select(coded("histograms", lists=False).names))
        table = kept.table.filter(pa.array(choose(keys)))
        return kept._replace(table=_with_counts(table, table["counts"].cast(coded("histograms").field("counts").type)))

    def forget(self, run: Path) -> None:
        """Keep nothing of a run any more."""
        with self._lock:
            found = self._of.pop(run, None)
            self._room += 0 if found is None else found.table.nbytes

    def _read(self, run: Path, tables: Tables) -> Rows | None:
        """Read all histograms of a run, and keep them; None where there is no room."""
        if NARROWED * tables.size("histograms") > self._room:
            return None
        found = tables.histograms(lambda keys: np.ones(len(keys), np.bool_))
        found = found._replace(table=_narrow(found.table))
        with self._lock:
            if found.table.nbytes <= self._room:
                self._room -= found.table.nbytes
                self._of[run] = found
        return found


def _narrow(table: pa.Table) -> pa.Table:
    """Return histograms, in one chunk, with counts of as few bytes as hold the greatest."""
    table = one_chunk(table)
    most = pc.max(table["counts"].combine_chunks().flatten()).as_py() or 0
    return _with_counts(table, table["counts"].cast(pa.list_(pa.from_numpy_dtype(np.min_scalar_type(most)))))


def _with_counts(table: pa.Table, counts: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index("counts"), "counts", counts)
