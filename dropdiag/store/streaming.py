"""All rows of a run's table, a bounded number at a time: for runs that are larger than memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.reading import coded
from dropdiag.store.run import Run
from dropdiag.store.segments import Segment, list_segments, session_of
from dropdiag.store.selection import NAMES, Selection

ROWS: Final = {"scalars": 65_536, "histograms": 128}


def stream(run: Run, name: str) -> Iterator[pa.Table]:
    """Yield a run's rows of one table in the order in which they were recorded.

    Parameters
    ----------
    run : Run
    name : {"scalars", "histograms"}

    Yields
    ------
    Table
        Columns as in ``docs/run-folder.md``, names as dictionaries; never empty. Rows that a later session
        recorded anew are left out.

    Raises
    ------
    RunError
        If the run is gone, or ended while it was read, so that its segments were joined.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read, whole or to its end; the others are.
    """
    folder, sessions = run.path / "rank-0", run.meta["sessions"]
    if not folder.is_dir():
        raise RunError(f"{run.path} is gone, or its rank-0 is: it cannot be read any more")
    starts = [session["first_segment"] for session in sessions]
    for segment in list_segments(folder):
        if segment.table == name:
            later = [session["from_step"] for session in sessions[session_of(segment, starts) + 1 :]]
            hidden = Selection().until(min(later, default=None))
            for table in _tables(segment):
                rows = hidden.apply(table)
                if rows.num_rows:
                    yield rows


def _tables(segment: Segment) -> Iterator[pa.Table]:
    schema, done = coded(segment.table), 0
    try:
        with pq.ParquetFile(segment.path, read_dictionary=list(NAMES), pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS[segment.table], columns=schema.names, use_threads=False):
                yield pa.Table.from_batches([batch]).cast(schema)
                done += batch.num_rows
    except FileNotFoundError as error:
        raise RunError(
            f"{segment.path} is gone: the run ended while it was read, and its segments were joined; try again"
        ) from error
    except (OSError, KeyError, pa.ArrowException) as error:
        what = f"its rows from number {done + 1:,} on are" if done else "it is"
        message = f"{segment.path} cannot be read: {error}; {what} left out, the rest of the run is read"
        warnings.warn(message, DropdiagWarning, stacklevel=3)
