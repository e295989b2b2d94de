"""Files put in place atomically, and their compaction."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.segments import Segment, list_segments, segment_path, session_of

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS: Final = 65_536  # scalars of a row group of a compacted run


def write_segment(path: Path, parts: Iterable[pa.Table]) -> None:
    """Write tables of one schema as one segment: under a temporary name, synced, then given its name."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    from dropdiag.store import tables  # noqa: PLC0415

    parts = iter(parts)
    first = next(parts)
    with (
        put_in_place(path, Path.rename) as file,
        pq.ParquetWriter(file, first.schema, **tables.encoding(first)) as writer,
    ):
        writer.write_table(first)
        for part in parts:  # one at a time: a long run is larger than memory
            writer.write_table(part)


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` in place of a file's, atomically."""
    with put_in_place(path, Path.replace) as file:
        file.write(content)


@contextmanager
def put_in_place(path: Path, move: Callable[[Path, Path], Path], temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file under a temporary name; at the end it is synced and given its name, after an exception removed.

    Parameters
    ----------
    path : Path
        Its name.
    move : callable
        `Path.rename` for a new name, `Path.replace` for one that may be taken.
    temporary : Path, optional
        The temporary name. Default: that of ``path`` with ``.tmp``, for names that have one writer.
    """
    temporary = temporary or path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
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
    from dropdiag.store.reading import in_large_tables, row_groups  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`

    try:
        tables = chain.from_iterable(map(row_groups, parts))
        # Each table of a flush would be a row group, and decoding costs more a group than a row. Histograms stay a row
        # group a flush, states one of each quantity: they are large, and a reader of one step reads its group alone.
        groups = in_large_tables(tables, GROUP_ROWS) if name == "scalars" else tables
        write_segment(segment_path(folder, name, parts[0].first, parts[-1].last), groups)
    except RunError as error:
        warnings.warn(f"{error}; the run is not compacted", DropdiagWarning, stacklevel=4)
        return
    for part in parts:
        part.path.unlink()
