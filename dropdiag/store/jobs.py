"""What the writer's thread does: each job remembers what of it is done, so that it can be tried again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dropdiag.store import memory
from dropdiag.store.background import Job
from dropdiag.store.files import Target, write_segment
from dropdiag.store.meta_files import MetaFiles
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

JOB_ROWS: Final = 20_000
JOB_BYTES: Final = 4_000_000
"""Flushes that wait for a disk which refuses them are put together up to so much: each attempt costs as much."""


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

    @property
    def last(self) -> int:
        """The last number that is used."""
        return self._next - 1

    def write(self, table_name: str, *tables: pa.Table) -> None:
        """Write tables as the next segment, each a row group of it."""
        self._files.mark_superseded()
        write_segment(Target(self._folder, table_name, self._next, self._next, self._session), tables)
        self._next += 1  # only now: an attempt that failed is made again under the same number


class Rows(Job):
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
        self.bytes = memory.of_rows(scalars, histograms, states)

    @property
    def rows(self) -> int:  # type: ignore[override]  # what is left
        """Rows that are not written yet."""
        return len(self._scalars) + len(self._histograms) + len(self._states)

    def steps(self) -> set[int]:
        """Return the steps of the rows that are not written yet."""
        return {row.step for rows in (self._scalars, self._histograms, self._states) for row in rows}

    def absorb(self, other: Job) -> bool:
        """Take in the rows of a later flush, if both together are not too many."""
        if not isinstance(other, Rows) or self.rows + other.rows > JOB_ROWS or self.bytes + other.bytes > JOB_BYTES:
            return False
        # Nothing is called from here on, so that no KeyboardInterrupt leaves half of it.
        self._scalars += other._scalars
        self._histograms += other._histograms
        self._states += other._states
        self.bytes += other.bytes
        other.handed = True
        return True

    def __call__(self) -> None:
        """Write the tables that are left."""
        from dropdiag.store import tables  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`

        memory.check_for_arrow(self.bytes)
        if self._scalars:
            self._numbers.write("scalars", tables.scalars(self._scalars, counts=self._counts))
            self._scalars = []  # a second attempt must not write them again
        if self._histograms:
            self._numbers.write("histograms", tables.histograms(self._histograms))
            self._histograms = []
        if self._states:
            self._numbers.write("states", *tables.states(self._states))
            self._states = []


class Derivatives(Job):
    """Write |phi'| of activations."""

    def __init__(self, numbers: Numbers, derivatives: Mapping[str, NDArray[np.float64]]) -> None:
        self._numbers, self._left = numbers, dict(derivatives)

        self.bytes = sum(values.nbytes for values in derivatives.values())

    @property
    def rows(self) -> int:  # type: ignore[override]  # as above
        """Rows that are not written yet."""
        return sum(len(values) for values in self._left.values())

    def __call__(self) -> None:
        """Write the activations that are left."""
        from dropdiag.store import tables  # noqa: PLC0415

        memory.check_for_arrow(self.bytes)
        for name in tuple(self._left):
            self._numbers.write("derivatives", tables.derivative(name, self._left[name]))
            del self._left[name]


class Meta(Job):
    """Put ``run.json``, or a rank's ``rank.json``, in place."""

    def __init__(self, files: MetaFiles, text: str, *, both: bool = False) -> None:
        # text, not the dict: training goes on meanwhile and changes it
        self._files, self._text, self._both = files, text, both
        self.bytes = len(text)

    def absorb(self, other: Job) -> bool:
        """Write what a later one says instead: rows that come in between are written first."""
        if not isinstance(other, Meta) or other._files is not self._files:
            return False
        self._text, self._both, self.bytes = other._text, self._both or other._both, other.bytes
        other.handed = True
        return True

    def __call__(self) -> None:
        """Write the file."""
        self._files.write(self._text, both=self._both)


class Prepare(Job):
    """Let Arrow take the memory that it works with, in the thread that will write."""

    def __call__(self) -> None:
        """Write a table to memory."""
        memory.prepare_arrow()
