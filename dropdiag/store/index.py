"""The index of a catalog: which runs it knows, as they were when they were read, and where their scalars lie."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.files import put_in_place
from dropdiag.store.segments import list_segments

FOLDER: Final = ".catalog"
FILE: Final = "index.parquet"
VERSION: Final = b"2"  # 1 lost a condition of 0


class Stamp(NamedTuple):
    """What tells one state of a ``run.json`` from another: it is replaced whole, so its inode changes, too."""

    size: int
    mtime_ns: int
    inode: int


class Entry(NamedTuple):
    """One run, as it was when the catalog read it.

    ``config`` and ``problems`` are JSON; ``segments`` are the names and sizes of its scalars' segments.
    """

    entry: int
    path: str
    name: str
    condition: str
    seed: int | None
    state: str
    steps: int
    config: str
    size: int
    mtime_ns: int
    inode: int
    segments: str
    problems: str
    part: str
    rows: int

    @property
    def stamp(self) -> Stamp:
        """State of its ``run.json``."""
        return Stamp(self.size, self.mtime_ns, self.inode)


_INTEGERS: Final = ("entry", "seed", "steps", "size", "mtime_ns", "inode", "rows")
SCHEMA: Final = pa.schema([(name, pa.int64() if name in _INTEGERS else pa.string()) for name in Entry._fields])


def find_runs(root: Path) -> Iterator[tuple[str, Stamp]]:
    """Find the run folders below a folder: one look at each folder, none into a run.

    Yields
    ------
    path : str
        From ``root``, with slashes. Hidden folders are passed over; links are followed
        to runs alone.
    stamp : Stamp
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        except OSError as error:
            if folder == root:
                raise RunError(f"{root} cannot be read: {error}; give a folder that can") from error
            warnings.warn(f"{folder} cannot be read and is left out: {error}", DropdiagWarning, stacklevel=3)
            continue
        for entry in inside:
            stamp = stamp_of(Path(entry.path))
            if stamp is not None:
                yield Path(entry.path).relative_to(root).as_posix(), stamp
            elif not entry.is_symlink():
                waiting.append(Path(entry.path))


def stamp_of(run: Path) -> Stamp | None:
    """Return the state of a run's ``run.json``; None where there is none."""
    try:
        found = (run / "run.json").stat()
    except OSError:  # there is none, or it may not be looked at
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def segments_of(run: Path) -> str:
    """Return the names and sizes of a run's segments of scalars, as JSON; torn ones tell themselves by their size."""
    try:
        found = [s.path for s in list_segments(run / "rank-0") if s.table == "scalars"]
        return json.dumps([[path.name, path.stat().st_size] for path in found])
    except FileNotFoundError:  # just compacted: like no other state, so it is read again next time
        return "changing"


def read_index(root: Path) -> list[Entry]:
    """Read a catalog's index.

    Raises
    ------
    RunError
        If there is none, or it cannot be read.
    """
    path = root / FOLDER / FILE
    if not path.exists():
        raise RunError(
            f"{root} has no catalog yet; make it with dropdiag.Catalog({str(root)!r}).update() or `dropdiag catalog`"
        )
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read: {error}; update() makes it anew") from error
    version = (table.schema.metadata or {}).get(b"dropdiag-catalog")
    if version != VERSION:
        raise RunError(f"{path} is of version {version!r} and this dropdiag reads {VERSION!r}; update() makes it anew")
    columns = (table[name].to_pylist() for name in Entry._fields)
    return [Entry(*values) for values in zip(*columns, strict=True)]


def write_index(root: Path, entries: Iterable[Entry]) -> None:
    """Put an index in place, atomically: until then, readers see the one before."""
    columns: list[Any] = list(zip(*entries, strict=True)) or [()] * len(Entry._fields)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata({b"dropdiag-catalog": VERSION}))
    temporary = root / FOLDER / f"index-{uuid.uuid4().hex}.tmp"  # of two updates at once, each its own
    with put_in_place(root / FOLDER / FILE, Path.replace, temporary) as file:
        pq.write_table(table, file, compression="zstd")
