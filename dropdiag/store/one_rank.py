"""The tables of a run that one process recorded, and of one rank of a run by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.errors import DropdiagWarning
from dropdiag.store.lists import read_histograms
from dropdiag.store.reading import KnownKeys, Rows, read_derivatives, read_scalars, stream
from dropdiag.store.segments import Part
from dropdiag.store.selection import Selection
from dropdiag.store.storage.chosen import storage_of


class Tables(Protocol):
    """The tables of a run, whoever recorded it."""

    def scalars(self, selection: Selection, known: KnownKeys | None = None) -> Rows:
        """Read scalars, as `dropdiag.store.reading.read_scalars` does."""
        ...

    def names(self) -> pa.Table:
        """Return the columns phase, layer and quantity of all scalars."""
        ...

    def histograms(self, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
        """Read histograms, as `dropdiag.store.lists.read_histograms` does."""
        ...

    def derivatives(self) -> Rows:
        """Read derivatives, as `dropdiag.store.reading.read_derivatives` does."""
        ...

    def stream(self, name: str) -> Iterator[pa.Table]:
        """Yield all rows of a table, as `dropdiag.store.reading.stream` does."""
        ...

    def size(self, *names: str) -> int:
        """Size in bytes of some tables on the disk."""
        ...


class OneRank:
    """The tables of one rank.

    Parameters
    ----------
    part : Part
    problems : sequence of str
        What whoever reads rows is to be told: that other ranks are missing.
    """

    def __init__(self, part: Part, problems: Sequence[str] = ()) -> None:
        self._part, self._problems = part, list(problems)

    def scalars(self, selection: Selection, known: KnownKeys | None = None) -> Rows:
        """Read scalars; see `Tables`."""
        return self._with_problems(read_scalars(self._part, selection, known))

    def names(self) -> pa.Table:
        """Return names of scalars; see `Tables`."""
        return read_scalars(self._part, Selection()).table

    def histograms(self, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
        """Read histograms; see `Tables`."""
        return self._with_problems(read_histograms(self._part, choose))

    def derivatives(self) -> Rows:
        """Read derivatives; see `Tables`."""
        return read_derivatives(self._part)

    def stream(self, name: str) -> Iterator[pa.Table]:
        """Yield all rows of a table; see `Tables`."""
        for problem in self._problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=2)
        yield from stream(self._part, name)

    def size(self, *names: str) -> int:
        """Size of tables; see `Tables`."""
        return size(self._part.folder, *names)

    def _with_problems(self, found: Rows) -> Rows:
        return found._replace(problems=[*self._problems, *found.problems]) if self._problems else found


def size(folder: Path, *names: str) -> int:
    """Size in bytes of some tables of a rank on the disk."""
    try:
        return sum(file.size for file in storage_of(folder).files(folder) if file.name.startswith(names))
    except FileNotFoundError:  # just compacted: reading it will tell
        return 0
