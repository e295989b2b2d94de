"""The rows of a run folder, read fast: what is wanted of each segment, names as dictionaries.

Dictionaries (a code a row, each name once) are read several times as fast as text, in a fraction of the memory.
What cannot be read is left out and named; who calls says so to the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dropdiag.errors import RunError
from dropdiag.store.segments import Segment, list_segments, session_of
from dropdiag.store.selection import NAMES, Selection
from dropdiag.store.tables import SCHEMAS

HEAVY: Final = ("bins", "counts")
SMALL: Final = 200_000  # rows of a segment that is read whole: choosing among so few costs more than reading them
ATTEMPTS: Final = 5
_CODED: Final = pa.dictionary(pa.int32(), pa.string())


class Rows(NamedTuple):
    """Rows of one table of a run, and a sentence on each segment that could not be read."""

    table: pa.Table
    problems: list[str]


def coded(name: str, *, heavy: bool = True) -> pa.Schema:
    """Return the schema of a table with its names as dictionaries."""
    return pa.schema([
        (field.name, _CODED if field.name in NAMES else field.type)
        for field in SCHEMAS[name]
        if heavy or field.name not in HEAVY
    ])  # fmt: skip


def decoded(table: pa.Table) -> pa.Table:
    """Return the table with its names as text."""
    plain = [(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(plain))


def one_chunk(table: pa.Table) -> pa.Table:
    """Return the table with one dictionary a column, in one chunk."""
    return table.unify_dictionaries().combine_chunks()


def read_rows(
    path: Path, sessions: Sequence[dict[str, Any]], name: str, selection: Selection, *, heavy: bool = True
) -> Rows:
    """Read a run's rows of a table, without those that a later session recorded anew.

    Parameters
    ----------
    path : Path
        The run folder.
    sessions : sequence of dict
        As ``run.json`` has them.
    name : {"scalars", "histograms"}
    selection : Selection
        All wanted rows are among those returned; others of small segments may be, too.
    heavy : bool
        With the bins and counts of histograms, or without.

    Raises
    ------
    RunError
        If the run is gone.
    """
    folder = path / "rank-0"
    for _ in range(ATTEMPTS):
        if not folder.is_dir():
            raise RunError(f"{path} is gone, or its rank-0 is: it cannot be read any more")
        try:
            return _read_listed(folder, sessions, name, selection, heavy=heavy)
        except FileNotFoundError:  # the run ended and was compacted after its segments were listed: list them anew
            continue
    raise RunError(f"{folder}: its segments vanish while they are read; try again")


def _read_listed(
    folder: Path, sessions: Sequence[dict[str, Any]], name: str, selection: Selection, *, heavy: bool
) -> Rows:
    starts = [session["first_segment"] for session in sessions]
    found, problems = [coded(name, heavy=heavy).empty_table()], []
    for segment in list_segments(folder):
        if segment.table != name:
            continue
        later = [session["from_step"] for session in sessions[session_of(segment, starts) + 1 :]]
        try:
            table = read_segment(segment, selection, heavy=heavy)
        except RunError as error:
            problems.append(f"{error}; it is left out, the rest of the run is read")
        else:
            found.append(Selection().until(min(later, default=None)).apply(table))
    return Rows(pa.concat_tables(found), problems)


def read_segment(segment: Segment, selection: Selection, *, heavy: bool = True) -> pa.Table:
    """Read one segment: whole where it is small, else the wanted rows alone, a row group at a time.

    Raises
    ------
    FileNotFoundError
        If it is not there (any more).
    RunError
        If it cannot be read.
    """
    schema = coded(segment.table, heavy=heavy)
    try:
        with pq.ParquetFile(segment.path, read_dictionary=list(NAMES), pre_buffer=False) as file:
            if file.metadata.num_rows <= SMALL and not set(HEAVY) & set(schema.names):
                table = file.read(schema.names, use_threads=False)
            else:
                table = pa.concat_tables([schema.empty_table(), *_wanted(file, selection, schema)])
    except FileNotFoundError:
        raise
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{segment.path} cannot be read: {error}") from error
    return table if table.schema.equals(schema) else table.cast(schema)


def _wanted(file: pq.ParquetFile, selection: Selection, schema: pa.Schema) -> list[pa.Table]:
    groups = [g for g in range(file.num_row_groups) if _may_hold(file, g, selection)]
    tables = (_read_group(file, group, selection, schema) for group in groups)
    return [table.cast(schema) for table in tables if table is not None]


def _read_group(file: pq.ParquetFile, group: int, selection: Selection, schema: pa.Schema) -> pa.Table | None:
    """Read the wanted rows of a row group: what is heavy only where one of them is wanted."""
    table = file.read_row_group(group, [name for name in schema.names if name not in HEAVY], use_threads=False)
    mask = selection.mask(table)
    if mask is not None and not pc.any(mask).as_py():
        return None
    heavy = [name for name in schema.names if name in HEAVY]
    if heavy:
        more = file.read_row_group(group, heavy, use_threads=False)
        for name in heavy:
            table = table.append_column(name, more[name])
    return table if mask is None else table.filter(mask)


def _may_hold(file: pq.ParquetFile, group: int, selection: Selection) -> bool:
    """Whether a row group can hold a wanted step, by what the file says of it."""
    if selection.steps == (None, None):
        return True
    least, most = known_range(file.metadata.row_group(group), 0)
    return least is None or selection.may_hold(least, most)


def known_range(group: pq.RowGroupMetaData, column: int) -> tuple[Any, Any]:
    """Return the least and the greatest value of a row group's column, None twice where the file does not say."""
    statistics = group.column(column).statistics
    known = statistics is not None and statistics.has_min_max
    return (statistics.min, statistics.max) if known else (None, None)
