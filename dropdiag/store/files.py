"""Segments, put in place atomically under names that one writer alone has, and their compaction."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.leftovers import is_leftover, is_session_file
from dropdiag.store.segments import (
    NO_SESSION,
    Part,
    Segment,
    list_segments,
    numbered,
    place_name,
    place_of,
    replaced_segments,
    segment_name,
)
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import is_remote

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS: Final = 65_536  # scalars of a row group of a compacted run
_TEMPORARY: Final = re.compile(
    r"(?:[a-z]+-\d{6,}(?:-\d{6,})?|run|rank|session-\d{6,}|\.rank-\d+)(?:\.(?P<session>[0-9a-f]{16}))?\.tmp"
)
STALE_SECONDS: Final = 600.0


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
        return self.folder / f"{numbered(self.table, self.first, self.last)}.{writer}.tmp"

    def path(self, digest: str) -> Path:
        """Return its name."""
        return self.folder / segment_name(self.table, self.first, self.last, self.session, digest)


def write_segment(target: Target, parts: Iterable[pa.Table], writer: str | None = None) -> None:
    """Write tables of one schema as one segment, which is there whole or not at all.

    Parameters
    ----------
    target : Target
    parts : iterable of Table
        A row group each.
    writer : str, optional
        The session that writes, where that is not the one that recorded: it joins segments, at the end.
    """
    from dropdiag.store import tables  # noqa: PLC0415
    from dropdiag.store.encoder import encoder  # noqa: PLC0415

    parts = iter(parts)
    first = next(parts)
    place = place_name(target.folder, target.table, target.first, target.last, target.session)
    schema = tables.placed(first.schema, place)
    with (
        storage_of(target.folder).put(target.path, target.temporary(writer or target.session), replaces=False) as file,
        encoder(file, schema, tables.LEVEL if writer is None else tables.JOINED_LEVEL) as out,
    ):
        out.write_table(first)
        for part in parts:  # one at a time: a long run is larger than memory
            out.write_table(part)


def replace_file(path: Path, content: bytes, temporary: Path) -> None:
    """Put ``content`` in place of a file's, atomically."""
    with storage_of(path).put(path, temporary, replaces=True) as file:
        file.write(content)


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
    _remove_replaced(part.folder, but)


def _remove_replaced(folder: Path, but: Collection[str]) -> None:
    """Remove parts of joined segments that a kill left, if what stands for them is whole."""
    from dropdiag.store.reading import UNREADABLE, open_segment  # noqa: PLC0415 - pyarrow, as above

    for joined, parts in replaced_segments(folder):
        if joined.session in but:
            continue
        try:
            with open_segment(joined):
                pass
        except UNREADABLE as error:
            message = f"{joined.path} cannot be read: {error}; the parts that it was made of are kept beside it"
            warnings.warn(message, DropdiagWarning, stacklevel=4)
        else:
            storage_of(folder).remove(part.path for part in parts)


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
    storage_of(target.folder).remove(part.path for part in parts)


def sweep(folder: Path, over: Collection[str], known: Collection[str] = ()) -> None:
    """Remove what writers that were killed left under temporary names.

    Parameters
    ----------
    folder : Path
        Of a run or of a rank.
    over : collection of str
        Sessions whose files may go, as names have them; "" stands for those before schema 3. Nothing else is touched:
        no name that the writer does not give, no link. An object store has none.
    known : collection of str
        Sessions that may still write. What is of none that is known, as of one that was killed while it began, goes
        when it has not been written for `STALE_SECONDS`, by the clock of the file system.
    """
    if is_remote(folder):
        return
    with os.scandir(folder) as entries:
        told = [(entry, match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for entry, match in told:
        session, path = match["session"] or "", Path(entry.path)
        if is_leftover(entry.name):  # of another rank of the session that begins, perhaps
            if entry.is_dir(follow_symlinks=False) and _is_stale(path):
                _remove_leftover(path)
        elif entry.is_file(follow_symlinks=False) and (
            session in over or (session and session not in known and _is_stale(path))
        ):
            path.unlink(missing_ok=True)


def _is_stale(path: Path) -> bool:
    try:
        return storage_of(path).written_ago(path) > STALE_SECONDS
    except OSError:  # it went just now
        return False


def _remove_leftover(folder: Path) -> None:
    """Remove a folder that a session was making, if it holds what that puts there and nothing else."""
    with suppress(FileNotFoundError):  # another one removes it, too
        inside = list(folder.iterdir())
        if all(is_session_file(file.name) and not file.is_symlink() for file in inside):
            for file in inside:
                file.unlink()
            folder.rmdir()
