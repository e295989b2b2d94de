"""The rows of one run's tables, each file opened once.

A small file is read whole and decoded from memory, a large one by row group. Names come as dictionaries (a code a row,
each name once), which are several times as fast as text and a fraction of its size. A segment that cannot be read is
left out and named; whoever calls tells the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.segments import Segment, VisibleSegment, rank_folder, rank_name, visible_segments
from dropdiag.store.selection import NAMES, Selection
from dropdiag.store.tables import SCHEMAS

BIN_COLUMNS: Final = ("bins", "counts")
WHOLE_BYTES: Final = 8 << 20  # of a file that is read at once; of a larger one, the wanted columns alone
WHOLE_ROWS: Final = 200_000  # scalars of a segment that are decoded at once: choosing among so few costs more
STREAM_ROWS: Final = {"scalars": 65_536, "histograms": 128}
OPEN_FILES: Final = 32  # files of histograms that stay open between their keys and their counts
ATTEMPTS: Final = 5
UNREADABLE: Final = (OSError, KeyError, pa.ArrowException)
_CODED: Final = pa.dictionary(pa.int32(), pa.string())
Sessions: TypeAlias = Sequence[Mapping[str, Any]]
T = TypeVar("T")


class Rows(NamedTuple):
    """Rows of one table of a run.

    Attributes
    ----------
    table : Table
    problems : list of str
        A sentence on each segment that could not be read.
    keys : Table or None
        The scalars' columns but ``value``, one object for all runs of which `KnownKeys` saw that they are the same.
    """

    table: pa.Table
    problems: list[str]
    keys: pa.Table | None = None


class KnownKeys:
    """The keys of the segment that was decoded last, and the bytes from which they came.

    The runs of a sweep record the same things at the same steps, and the same columns are written as the same bytes:
    then the values alone are decoded, a sixth of the work. May be shared by threads.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, pa.Table | None] = b"", None

    def decode(self, file: pq.ParquetFile, content: pa.Buffer) -> tuple[pa.Table, pa.Table]:
        """Return a segment of scalars whole, and its columns but ``value``."""
        written = _bytes_of_keys(file.metadata, content)
        known, keys = self._last
        if keys is not None and written == known:
            return keys.append_column("value", file.read(["value"], use_threads=False)["value"]), keys
        table = _decoded_whole(file)
        keys = table.drop_columns("value")
        self._last = written, keys  # at once, so that no thread sees the bytes of one with the keys of another
        return table, keys


@cache
def coded(name: str, *, bins: bool = True) -> pa.Schema:
    """Return the schema of a table with its names as dictionaries, with the lists of bins and counts or without."""
    fields = (field for field in SCHEMAS[name] if bins or field.name not in BIN_COLUMNS)
    return pa.schema([field.with_type(_CODED) if field.name in NAMES else field for field in fields])


def decoded(table: pa.Table) -> pa.Table:
    """Return the table with its names as text."""
    return table.cast(pa.schema([f.with_type(pa.string()) if f.name in NAMES else f for f in table.schema]))


def one_chunk(table: pa.Table) -> pa.Table:
    """Return the table with one dictionary a column, in one chunk."""
    return table.unify_dictionaries().combine_chunks()


def in_large_tables(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Join neighbouring tables, each in one chunk, to as many rows; one table alone may have more."""
    waiting: list[pa.Table] = []
    for table in tables:
        if waiting and sum(map(len, waiting)) + len(table) > rows:
            yield one_chunk(pa.concat_tables(waiting))
            waiting = []
        waiting.append(table)
    if waiting:
        yield one_chunk(pa.concat_tables(waiting))


def read_scalars(path: Path, sessions: Sessions, selection: Selection, known: KnownKeys | None = None) -> Rows:
    """Read a run's scalars, without those that a later session recorded anew.

    Parameters
    ----------
    path : Path
        The run folder.
    sessions : sequence of dict
        As ``run.json`` has them.
    selection : Selection
        All wanted rows are among those returned; others of small segments may be, too.
    known : KnownKeys, optional
        Of the runs that are read together; None for one run by itself.

    Raises
    ------
    RunError
        If the run is gone.
    """

    def read() -> Rows:
        found, problems = list[tuple[pa.Table, pa.Table | None]](), list[str]()
        for segment, last_step in visible_segments(path, "scalars", sessions):
            with _problems(segment, problems):
                found += list(_scalars(segment, selection, last_step, known))
        if len(found) == 1:
            (table, keys), *_ = found
            return Rows(table, problems, keys)
        return Rows(pa.concat_tables([coded("scalars").empty_table(), *(table for table, _ in found)]), problems)

    return _whole(path, read)


def read_histograms(path: Path, sessions: Sessions, choose: Callable[[pa.Table], NDArray[np.bool_]]) -> Rows:
    """Read a run's histograms: the keys of all, then bins and counts of the chosen ones from the same open files.

    Parameters
    ----------
    path, sessions
        As for `read_scalars`.
    choose : callable
        Takes the keys of all histograms, in one chunk (the table without bins and counts), returns which of them are
        wanted.

    Raises
    ------
    RunError
        If the run is gone.
    """

    def read() -> Rows:
        problems = list[str]()
        with ExitStack() as stack:
            opened = list(_with_keys(visible_segments(path, "histograms", sessions), problems, stack))
            none = coded("histograms", bins=False).empty_table()
            keys = one_chunk(pa.concat_tables([none, *(one.keys.take(one.visible) for one in opened)]))
            wanted = np.split(choose(keys), np.cumsum([len(one.visible) for one in opened])[:-1])
            found = [coded("histograms").empty_table()]
            for one, mask in zip(opened, wanted, strict=False):
                with _problems(one.segment, problems):
                    found += one.read(one.visible[mask])
        return Rows(pa.concat_tables(found), problems)

    return _whole(path, read)


def read_derivatives(path: Path, sessions: Sessions) -> Rows:
    """Read a run's table of derivatives, names as text; raises as `read_scalars`."""

    def read() -> Rows:
        found, problems = [SCHEMAS["derivatives"].empty_table()], list[str]()
        for segment, _ in visible_segments(path, "derivatives", sessions):
            with _problems(segment, problems), _open(segment) as file:
                found.append(decoded(file.read(use_threads=False)))
        return Rows(pa.concat_tables(found), problems)

    return _whole(path, read)


def stream(path: Path, sessions: Sessions, name: str) -> Iterator[pa.Table]:
    """Yield all rows of a run's table in the order in which they were recorded, a bounded number at a time.

    Parameters
    ----------
    path, sessions
        As for `read_scalars`.
    name : {"scalars", "histograms"}

    Yields
    ------
    Table
        Columns as in ``docs/run-folder.md``, names as dictionaries; never empty. Rows that a later session recorded
        anew are left out.

    Raises
    ------
    RunError
        If the run is gone, or ended while it was read, so that its segments were joined.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read, whole or to its end; the others are.
    """
    _check_there(path)
    for segment, last_step in visible_segments(path, name, sessions):
        done, hidden = 0, Selection().until(last_step)
        try:
            with _open(segment) as file:
                for batch in file.iter_batches(STREAM_ROWS[name], columns=coded(name).names, use_threads=False):
                    rows = hidden.apply(pa.Table.from_batches([batch]).cast(coded(name)))
                    if rows.num_rows:
                        yield rows
                    done += batch.num_rows
        except FileNotFoundError as error:
            raise RunError(
                f"{segment.path} is gone: the run ended while it was read, and its segments were joined; try again"
            ) from error
        except UNREADABLE as error:
            what = f"its rows from number {done + 1:,} on are" if done else "it is"
            message = f"{segment.path} cannot be read: {error}; {what} left out, the rest of the run is read"
            warnings.warn(message, DropdiagWarning, stacklevel=3)


def read_segment(segment: Segment) -> pa.Table:
    """Read all of a segment, names as text.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    try:
        with _open(segment) as file:
            return decoded(file.read(use_threads=False))
    except UNREADABLE as error:
        raise RunError(f"{segment.path} cannot be read: {error}") from error


class _Histograms(NamedTuple):
    """An open segment of histograms, and the keys of all its rows."""

    segment: Segment
    file: pq.ParquetFile | None  # None: too many are open, it is opened again
    keys: pa.Table
    visible: NDArray[np.int64]  # rows that no later session recorded anew

    def read(self, rows: NDArray[np.int64]) -> list[pa.Table]:
        """Read some rows whole: bins and counts of the row groups that hold one of them."""
        if not len(rows):
            return []
        with ExitStack() as stack:
            lists = _read_bins(self.file or stack.enter_context(_open(self.segment)), rows)
        table = self.keys.take(rows)
        for name in BIN_COLUMNS:
            table = table.append_column(name, lists[name])
        return [table.select(coded("histograms").names).cast(coded("histograms"))]


def _with_keys(segments: Iterable[VisibleSegment], problems: list[str], stack: ExitStack) -> Iterator[_Histograms]:
    light = coded("histograms", bins=False)
    for place, (segment, last_step) in enumerate(segments):
        with _problems(segment, problems):
            with ExitStack() as closing:
                file = closing.enter_context(_open(segment))
                keys = file.read(light.names, use_threads=False).cast(light)
                mask = Selection().until(last_step).mask(keys)
                visible = np.arange(len(keys)) if mask is None else np.flatnonzero(mask)
                if place < OPEN_FILES:  # open until all is read; a run that was killed may have thousands of segments
                    stack.push(closing.pop_all())
            yield _Histograms(segment, file if place < OPEN_FILES else None, keys, visible)


def _read_bins(file: pq.ParquetFile, rows: NDArray[np.int64]) -> pa.Table:
    """Read bins and counts of some rows, ascending."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    ends = np.cumsum([0, *sizes])
    parts = []
    for group, (begin, end) in enumerate(pairwise(ends)):
        inside = rows[(rows >= begin) & (rows < end)] - begin
        if len(inside):
            table = file.read_row_group(group, list(BIN_COLUMNS), use_threads=False)
            parts.append(table if len(inside) == end - begin else table.take(inside))
    return pa.concat_tables(parts)


def _scalars(
    segment: Segment, selection: Selection, last_step: int | None, known: KnownKeys | None
) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """Yield the rows of a segment up to a step, and their keys where all are there: whole where it is small."""
    schema = coded(segment.table)
    with _source(segment) as (source, content), _parquet(segment, source) as file:
        if known is not None and content is not None and last_step is None and file.metadata.num_rows <= WHOLE_ROWS:
            yield known.decode(file, content)
        elif file.metadata.num_rows <= WHOLE_ROWS:
            yield Selection().until(last_step).apply(_decoded_whole(file)), None
        else:
            chosen = selection.until(last_step)
            for group in range(file.num_row_groups):
                if _may_hold(file.metadata.row_group(group), chosen):
                    yield chosen.apply(file.read_row_group(group, schema.names, use_threads=False).cast(schema)), None


def _decoded_whole(file: pq.ParquetFile) -> pa.Table:
    schema = coded("scalars")
    table = file.read(use_threads=False).select(schema.names)
    return table if table.schema.equals(schema) else table.cast(schema)


def _bytes_of_keys(metadata: pq.FileMetaData, content: pa.Buffer) -> bytes:
    """Return the bytes, as they are written, of the scalars' columns but ``value``, and what they are decoded by."""
    whole, parts = memoryview(content), list[bytes]()
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for place in range(columns.num_columns):
            column = columns.column(place)
            if column.path_in_schema == "value":
                continue
            begin = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
            told = f"{column.path_in_schema} {column.physical_type} {column.compression} {column.num_values} "
            parts += [told.encode(), whole[begin : begin + column.total_compressed_size].tobytes()]
    return b"".join(parts)


def _may_hold(group: pq.RowGroupMetaData, selection: Selection) -> bool:
    """Whether a row group can hold a wanted step, by what the file says of it."""
    if selection.steps == (None, None):
        return True
    statistics = group.column(0).statistics
    known = statistics is not None and statistics.has_min_max
    return not known or selection.may_hold(statistics.min, statistics.max)


@contextmanager
def _open(segment: Segment) -> Iterator[pq.ParquetFile]:
    """Open a segment, once."""
    with _source(segment) as (source, _), _parquet(segment, source) as file:
        yield file


@contextmanager
def _source(segment: Segment) -> Iterator[tuple[pa.NativeFile, pa.Buffer | None]]:
    """Open a file: its bytes where it is small (what is verified is then what is decoded), else the file itself."""
    source: pa.NativeFile = pa.OSFile(str(segment.path))
    content = None
    if source.size() <= WHOLE_BYTES:
        with source:
            content = source.read_buffer()
        source = pa.BufferReader(content)
    with source:
        yield source, content


def _parquet(segment: Segment, source: pa.NativeFile) -> pq.ParquetFile:
    names = list(NAMES) if set(NAMES) <= set(SCHEMAS[segment.table].names) else None
    # without pre_buffer: it reads ahead for object stores, and costs a thread and a copy on a disk
    return pq.ParquetFile(source, read_dictionary=names, pre_buffer=False)


@contextmanager
def _problems(segment: Segment, problems: list[str]) -> Iterator[None]:
    """Turn what makes a segment unreadable into a sentence; that it is gone is no such thing."""
    try:
        yield
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        problems.append(f"{segment.path} cannot be read: {error}; it is left out, the rest of the run is read")


def _check_there(path: Path) -> None:
    if not rank_folder(path).is_dir():
        raise RunError(f"{path} is gone, or its {rank_name()} is: it cannot be read any more")


def _whole(path: Path, read: Callable[[], T]) -> T:
    """Read a run, and again where it ended and was compacted after its segments were listed."""
    for _ in range(ATTEMPTS):
        _check_there(path)
        try:
            return read()
        except FileNotFoundError:
            continue
    raise RunError(f"{rank_folder(path)}: its segments vanish while they are read; try again")
