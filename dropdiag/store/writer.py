"""Write a run folder: append-only Parquet segments and one ``run.json``, each put in place atomically."""

from __future__ import annotations

import json
import operator
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.schema import FORMAT, SCHEMA_VERSION, TRAIN
from dropdiag.store.segments import Segment, list_segments, segment_path, session_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FLUSH_ROWS: Final = 20_000
FLUSH_BINS: Final = 1_000_000
FLUSH_SECONDS: Final = 10.0


class ScalarRow(NamedTuple):
    """One number: a quantity of a site (or of the run, where ``layer`` is None) at a step."""

    step: int
    phase: str
    layer: str | None
    call: int
    quantity: str
    value: float | None


class HistogramRow(NamedTuple):
    """One sparse histogram: bin numbers ascending, counts positive."""

    step: int
    phase: str
    layer: str
    call: int
    quantity: str
    bins: NDArray[np.uint16]
    counts: NDArray[np.int64]


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
            meta = _joined_meta(old, meta, resume_from)
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


def check_new(path: Path) -> None:
    """Raise `RunError` unless a run can be begun at ``path`` (it does not exist, or is an empty folder)."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder: choose another path")
    if path.is_dir() and any(path.iterdir()):
        what = "holds a run" if (path / "run.json").exists() else "is not empty"
        raise RunError(
            f"{path} {what} already and nothing is ever overwritten; "
            "choose another path, or resume=True to go on in an existing run"
        )


def _joined_meta(old: dict[str, Any], new: dict[str, Any], resume_from: int) -> dict[str, Any]:
    gap = f"steps {old['steps'] + 1} to {resume_from} were lost: the run was resumed beyond its last flushed step"
    return {
        **new,
        "created": old["created"],
        "activations": {**old["activations"], **new["activations"]},
        "disabled_probes": [*old["disabled_probes"], *new["disabled_probes"]],
        "warnings": [*old["warnings"], *([gap] if resume_from > old["steps"] else []), *new["warnings"]],
    }


def resume_step(path: Path, resume: bool | int) -> int | None:
    """Turn ``resume=`` into the step to go on from; None for a new run.

    Raises
    ------
    RunError
        If there is no run to go on in, or there is one and ``resume`` is False.
    ArgumentError
        If it is no step.
    """
    if resume is False:
        check_new(path)
        return None
    steps = int(read_meta(path)["steps"])
    if resume is True:
        return steps
    try:
        step = operator.index(resume)
    except TypeError:
        step = -1
    if step < 0:
        raise ArgumentError(f"resume= takes True or a step of at least 0 (the run came to {steps}), got {resume!r}")
    return step


def evaluated_phases(path: Path, step: int, rank: int = 0) -> set[str]:
    """Return the held-out phases that a run has recorded at a step."""
    from dropdiag.store import tables  # noqa: PLC0415

    found: set[str] = set()
    for segment in list_segments(path / f"rank-{rank}"):
        if segment.table == "scalars":
            table = tables.read(segment, columns=["phase", "layer"], filters=[("step", "=", step)])
            rows = [] if table is None else table.to_pylist()
            found |= {row["phase"] for row in rows if row["layer"] is not None and row["phase"] != TRAIN}
    return found


def read_meta(path: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    RunError
        If there is none, or it is not that of a run this version can read.
    """
    file = path / "run.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is not a run: it has no run.json") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise RunError(f"{file} is not that of a dropdiag run: its format is {_format_of(meta)!r}, not {FORMAT!r}")
    if meta.get("schema") != SCHEMA_VERSION:
        raise RunError(
            f"{path} has run schema {meta.get('schema')!r} and this version reads {SCHEMA_VERSION}; "
            "read it with the version that wrote it: " + str(meta.get("versions", {}).get("dropdiag", "unknown"))
        )
    return meta


def _format_of(meta: object) -> object:
    return meta.get("format") if isinstance(meta, dict) else type(meta).__name__


def as_json(meta: dict[str, Any]) -> str:
    """Return ``meta`` as strict JSON; raise `ArgumentError` where it is none."""
    try:
        return json.dumps(meta, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"config= must hold only what JSON knows (text, finite numbers, true/false, null, lists, dicts): {error}"
        ) from error


def write_segment(path: Path, parts: Iterable[pa.Table]) -> None:
    """Write tables of one schema as one segment: under a temporary name, synced, then given its name."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    from dropdiag.store import tables  # noqa: PLC0415

    temporary = path.with_suffix(".tmp")
    try:
        parts = iter(parts)
        first = next(parts)
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, first.schema, **tables.encoding(first)) as writer:
                writer.write_table(first)
                for part in parts:  # one at a time: a long run is larger than memory
                    writer.write_table(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` in place of a file's, atomically."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable, where the system has a notion of it."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def compact(folder: Path, session_starts: Sequence[int]) -> None:
    """Join the segments that each session wrote of each table into one.

    The joined segment's name says which it stands for (``scalars-000001-000007``), and readers prefer it, so a
    kill between its rename and the removal of the parts loses and doubles nothing. Where a part cannot be read,
    all are left as they are.

    Parameters
    ----------
    folder : Path
        A ``rank-N`` folder.
    session_starts : sequence of int
        Number of each session's first segment, ascending.
    """
    groups: dict[tuple[str, int], list[Segment]] = {}
    for segment in list_segments(folder):
        groups.setdefault((segment.table, session_of(segment, session_starts)), []).append(segment)
    for (name, _), parts in groups.items():
        if len(parts) > 1:
            _join(folder, name, parts)


def _join(folder: Path, name: str, parts: list[Segment]) -> None:
    from dropdiag.store import tables  # noqa: PLC0415

    try:
        write_segment(segment_path(folder, name, parts[0].first, parts[-1].last), map(tables.read_or_raise, parts))
    except RunError as error:
        warnings.warn(f"{error}; the run is not compacted", DropdiagWarning, stacklevel=4)
        return
    for part in parts:
        part.path.unlink()


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
