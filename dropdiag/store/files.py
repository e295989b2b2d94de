"""Files put in place atomically, under names that one writer alone has, and their compaction."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.digests import Digesting
from dropdiag.store.segments import NO_SESSION, Part, Segment, list_segments, place_of, segment_name

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS: Final = 65_536  # scalars of a row group of a compacted run
_TEMPORARY: Final = re.compile(
    r"(?:[a-z]+-\d{6,}(?:-\d{6,})?|run|rank|session-\d{6,})(?:\.(?P<session>[0-9a-f]{16}))?\.tmp"
)


class Target(NamedTuple):
    """Where a segment is to lie; its name is known when it is written.

    Attributes
    ----------
    folder : Path
    table : str
    first, last : int
    session : str
        What names of files have of the identifier of the session that records, which is the writer's own.
    """

    folder: Path
    table: str
    first: int
    last: int
    session: str

    def temporary(self, writer: str) -> Path:
        """Return the name that it has meanwhile, of the session that writes it."""
        numbers = f"{self.first:06d}" if self.first == self.last else f"{self.first:06d}-{self.last:06d}"
        return self.folder / f"{self.table}-{numbers}.{writer}.tmp"

    def path(self, digest: str) -> Path:
        """Return its name."""
        return self.folder / segment_name(self.table, self.first, self.last, self.session, digest)


def write_segment(target: Target, parts: Iterable[pa.Table], writer: str | None = None) -> None:
    """Write tables of one schema as one segment: under a temporary name, synced, then given its name.

    Parameters
    ----------
    target : Target
    parts : iterable of Table
        A row group each.
    writer : str, optional
        The session that writes, where that is not the one that recorded.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    from dropdiag.store import tables  # noqa: PLC0415

    parts = iter(parts)
    first = next(parts)
    schema = tables.numbered(first.schema, target.first, target.last)
    with (
        put_in_place(target.path, Path.rename, target.temporary(writer or target.session)) as file,
        pq.ParquetWriter(file, schema, **tables.encoding(first)) as out,
    ):
        out.write_table(first)
        for part in parts:  # one at a time: a long run is larger than memory
            out.write_table(part)


def replace_file(path: Path, content: bytes, temporary: Path) -> None:
    """Put ``content`` in place of a file's, atomically."""
    with put_in_place(path, Path.replace, temporary) as file:
        file.write(content)


@contextmanager
def put_in_place(
    path: Path | Callable[[str], Path], move: Callable[[Path, Path], Path], temporary: Path
) -> Iterator[Digesting]:
    """Open a file under a temporary name; at the end it is synced and given its name, after an exception removed.

    Parameters
    ----------
    path : Path or callable
        Its name, or what makes it of the digest of its bytes.
    move : callable
        `Path.rename` for a new name, `Path.replace` for one that may be taken.
    temporary : Path
        The temporary name, in the same folder, which no other writer has.
    """
    try:
        with temporary.open("wb") as file:
            draft = Digesting(file)
            yield draft
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path if isinstance(path, Path) else path(draft.digest))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(temporary.parent)


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable, where the system has a notion of it."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def compact(part: Part, writer: str, but: Collection[str] = ()) -> None:
    """Join the segments that each session wrote of each table into one.

    The joined segment's name says which it stands for (``scalars-000001-000007``), and readers prefer it, so a
    kill between its rename and the removal of the parts loses and doubles nothing. Where a part cannot be read,
    all are left as they are.

    Parameters
    ----------
    part : Part
        A rank's segments, of all sessions.
    writer : str
        What names of files have of the identifier of the session that writes.
    but : collection of str
        Sessions that may still record: their segments are left alone.
    """
    groups: dict[tuple[str, int, str], list[Segment]] = {}
    for segment in list_segments(part.folder):
        place = place_of(segment, part.spans)
        if place >= 0 and segment.session not in but:
            groups.setdefault((segment.table, place, segment.session), []).append(segment)
    for (name, _, session), segments in groups.items():
        if len(segments) > 1:
            first, last = segments[0].first, segments[-1].last
            _join(Target(part.folder, name, first, last, session or NO_SESSION), segments, writer)


def _join(target: Target, parts: list[Segment], writer: str) -> None:
    from dropdiag.store.reading import in_large_tables, row_groups  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`

    try:
        tables = chain.from_iterable(map(row_groups, parts))
        # Each table of a flush would be a row group, and decoding costs more a group than a row. Histograms stay a row
        # group a flush, states one of each quantity: they are large, and a reader of one step reads its group alone.
        groups = in_large_tables(tables, GROUP_ROWS) if target.table == "scalars" else tables
        write_segment(target, groups, writer)
    except RunError as error:
        warnings.warn(f"{error}; the run is not compacted", DropdiagWarning, stacklevel=4)
        return
    for part in parts:
        part.path.unlink()


def sweep(folder: Path, sessions: Collection[str]) -> None:
    """Remove what writers that were killed left under temporary names.

    Parameters
    ----------
    folder : Path
        Of a run or of a rank.
    sessions : collection of str
        Whose files may go, as names have them; "" stands for those before schema 3. Nothing else is touched: no name
        that the writer does not give, no link, no folder.
    """
    with os.scandir(folder) as entries:
        told = [(entry, match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
        found = [
            entry
            for entry, match in told
            if (match["session"] or "") in sessions and entry.is_file(follow_symlinks=False)
        ]
    for entry in found:
        Path(entry.path).unlink(missing_ok=True)


def written_ago(path: Path) -> float:
    """Return how many seconds ago a file was written, by the clock of the file system and not of this machine."""
    probe = path.with_name(f"run.{secrets.token_hex(8)}.tmp")
    try:
        probe.touch()
        return max(probe.stat().st_mtime - path.stat().st_mtime, 0.0)
    finally:
        probe.unlink(missing_ok=True)
