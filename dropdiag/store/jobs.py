"""What the writer's thread does: each job remembers what of it is done, so that it can be tried again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dropdiag.store.files import Target, write_segment
from dropdiag.store.meta_files import MetaFiles
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class Numbers:
    """Numbers of a rank's segments: each is used once, in order.

    Parameters
    ----------
    folder : Path
        A ``rank-N`` folder.
    last : int
        The last number that is taken.
    session : str
        What names of files have of the identifier of the session that records.
    files : MetaFiles
        They tell, before rows are written, where another session has begun meanwhile.
    """

    def __init__(self, folder: Path, last: int, session: str, files: MetaFiles) -> None:
        self._folder, self._next, self._session, self._files = folder, last + 1, session, files

    def write(self, table_name: str, *tables: pa.Table) -> None:
        """Write tables as the next segment, each a row group of it."""
        self._files.mark_superseded()
        write_segment(Target(self._folder, table_name, self._next, self._next, self._session), tables)
        self._next += 1  # only now: an attempt that failed is made again under the same number


class Rows:
    """Write the rows of one flush.

    Parameters
    ----------
    numbers : Numbers
    scalars, histograms, states : list of rows
    counts : bool
        Whether the table of scalars has the column ``count``.
    """

    def __init__(
        self,
        numbers: Numbers,
        scalars: list[ScalarRow],
        histograms: list[HistogramRow],
        states: list[StateRow],
        *,
        counts: bool = False,
    ) -> None:
        self._numbers, self._scalars, self._histograms, self._states = numbers, scalars, histograms, states
        self._counts = counts
        self.bins = sum(len(row.bins) for row in histograms)

    @property
    def rows(self) -> int:
        """Rows that are not written yet."""
        return len(self._scalars) + len(self._histograms) + len(self._states)

    def __call__(self) -> None:
        """Write the tables that are left."""
        from dropdiag.store import tables  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`

        if self._scalars:
            self._numbers.write("scalars", tables.scalars(self._scalars, counts=self._counts))
            self._scalars = []  # a second attempt must not write them again
        if self._histograms:
            self._numbers.write("histograms", tables.histograms(self._histograms))
            self._histograms, self.bins = [], 0
        if self._states:
            self._numbers.write("states", *tables.states(self._states))
            self._states = []


class Derivatives:
    """Write |phi'| of activations."""

    bins = 0

    def __init__(self, numbers: Numbers, derivatives: Mapping[str, NDArray[np.float64]]) -> None:
        self._numbers, self._left = numbers, dict(derivatives)

    @property
    def rows(self) -> int:
        """Rows that are not written yet."""
        return sum(len(values) for values in self._left.values())

    def __call__(self) -> None:
        """Write the activations that are left."""
        from dropdiag.store import tables  # noqa: PLC0415

        for name in tuple(self._left):
            self._numbers.write("derivatives", tables.derivative(name, self._left[name]))
            del self._left[name]


class Meta:
    """Put ``run.json``, or a rank's ``rank.json``, in place."""

    bins = rows = 0

    def __init__(self, files: MetaFiles, text: str, *, both: bool = False) -> None:
        # text, not the dict: training goes on meanwhile and changes it
        self._files, self._text, self._both = files, text, both

    def __call__(self) -> None:
        """Write the file."""
        self._files.write(self._text, both=self._both)
