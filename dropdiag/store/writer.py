"""Write a run folder: append-only Parquet segments and one ``run.json``, each put in place atomically."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import RunError
from dropdiag.store.files import compact, replace_file, write_segment
from dropdiag.store.folder import as_json, check_new, joined_meta, now, read_meta
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.schema import FORMAT, SCHEMA_VERSION
from dropdiag.store.segments import list_segments, segment_path

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FLUSH_ROWS: Final = 20_000
FLUSH_BINS: Final = 1_000_000
FLUSH_SECONDS: Final = 10.0


@dataclass
class _Buffer:
    scalars: list[ScalarRow]
    histograms: list[HistogramRow]
    bins: int = 0


class RunWriter:
    """The one writer of one run folder (one rank).

    Rows are kept in memory until there are many or `FLUSH_SECONDS` have passed; a flush writes each table to a
    temporary name, syncs it to disk, and renames it to the next segment. A job killed at any moment keeps all
    segments that have their name. Memory: the unflushed rows, about 20 MB at most.

    Parameters
    ----------
    path : path
        The run folder. Created with its parents.
    meta : dict
        What ``run.json`` says of the run; must be JSON (checked before anything is written).
    resume_from : int or None
        None: the folder must not hold a run. A step: go on in the existing run; what was recorded there after
        that step stays on disk and is hidden by the reader.
    rank : int
        Rank of this process.

    Raises
    ------
    RunError
        If the folder holds something already, or none can be made there.
    ArgumentError
        If ``meta`` cannot be written as JSON.
    """

    def __init__(self, path: Path, meta: dict[str, Any], *, resume_from: int | None = None, rank: int = 0) -> None:
        self.path = path
        self.rank = rank
        self._buffer = _Buffer([], [])
        self._flushed_at = time.monotonic()
        self._known_derivatives: set[str] = set()
        session = {"started": now(), "from_step": resume_from or 0, "first_segment": 1}
        sessions = []
        if resume_from is not None:
            old = read_meta(path)
            sessions = old["sessions"]
            self._known_derivatives = set(old["activations"])
            session["first_segment"] = self._next_number()
            meta = joined_meta(old, meta, resume_from)
        self.meta: dict[str, Any] = {
            "format": FORMAT,
            "schema": SCHEMA_VERSION,
            "name": path.name,
            "created": now(),
            "ended": None,
            "state": "running",
            "error": None,
            **meta,
            "sessions": [*sessions, session],
        }
        as_json(self.meta)
        self._create(resume=resume_from is not None)
        self._number = self._next_number()
        self.save_meta()

    def _create(self, *, resume: bool) -> None:
        if not resume:
            check_new(self.path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make the run folder {self.path}: {error}; choose a path that can be written"
            ) from error

    @property
    def _folder(self) -> Path:
        return self.path / f"rank-{self.rank}"

    def _next_number(self) -> int:
        return max((s.last for s in list_segments(self._folder)), default=0) + 1

    @property
    def waiting_bins(self) -> int:
        """Histogram bins that wait to be written."""
        return self._buffer.bins

    @property
    def waiting_rows(self) -> int:
        """Rows that wait to be written."""
        return len(self._buffer.scalars) + len(self._buffer.histograms)

    def add_scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Append scalar rows (they reach the disk at the next flush)."""
        self._buffer.scalars.extend(rows)

    def add_histograms(self, rows: Sequence[HistogramRow]) -> None:
        """Append histogram rows (they reach the disk at the next flush)."""
        self._buffer.histograms.extend(rows)
        self._buffer.bins += sum(len(row.bins) for row in rows)

    @property
    def due(self) -> bool:
        """Whether many rows wait or the last flush is long ago."""
        many = len(self._buffer.scalars) >= FLUSH_ROWS or self._buffer.bins >= FLUSH_BINS
        return many or time.monotonic() - self._flushed_at >= FLUSH_SECONDS

    def flush(self) -> None:
        """Write all waiting rows as new segments.

        Raises
        ------
        OSError
            If the disk refuses them. The rows are kept and the next flush tries again.
        """
        from dropdiag.store import tables  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`

        self._flushed_at = time.monotonic()
        if not self._buffer.scalars and not self._buffer.histograms:
            return
        if self._buffer.scalars:
            self._write("scalars", tables.scalars(self._buffer.scalars))
            self._buffer.scalars = []
        if self._buffer.histograms:
            self._write("histograms", tables.histograms(self._buffer.histograms))
            self._buffer.histograms, self._buffer.bins = [], 0
        self.save_meta()

    def add_derivatives(self, derivatives: Mapping[str, NDArray[np.float64]]) -> None:
        """Store |phi'| of activations on the grid, at once; those that the run has already are passed over.

        Parameters
        ----------
        derivatives : dict
            Activation's name -> ndarray of float64, shape (32640,), at the centre of every finite bin, in order
            of the real line.
        """
        from dropdiag.store import tables  # noqa: PLC0415

        for name in sorted(derivatives.keys() - self._known_derivatives):
            self._write("derivatives", tables.derivative(name, derivatives[name]))
            self._known_derivatives.add(name)

    def _write(self, table_name: str, table: pa.Table) -> None:
        number, self._number = self._number, self._number + 1
        write_segment(segment_path(self._folder, table_name, number, number), [table])

    def save_meta(self, **changes: Any) -> None:
        """Change ``run.json`` (whole, atomically)."""
        self.meta.update(changes)
        replace_file(self.path / "run.json", as_json(self.meta).encode())

    def close(self, state: str, error: str | None = None) -> None:
        """Flush, note how the run ended, and compact it if it ended well.

        Parameters
        ----------
        state : {"completed", "failed", "interrupted"}
        error : str or None
            What ended it, if not well.
        """
        self.flush()
        if state == "completed":
            compact(self._folder, [s["first_segment"] for s in self.meta["sessions"]])
        self.save_meta(state=state, error=error, ended=now())
