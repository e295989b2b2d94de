"""The rows of one rank's tables, each file opened once.

A small file is read whole and decoded from memory, a large one by row group. Names come as dictionaries (a code a row,
each name once), which are several times as fast as text and a fraction of its size. A segment that cannot be read is
left out and named; whoever calls tells the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.printable import bare
from dropdiag.store.digests import check_content, check_file
from dropdiag.store.guard import rows
from dropdiag.store.guard.checked import Checked
from dropdiag.store.guard.footer import Group, check_ends
from dropdiag.store.segments import Part, Segment, check_place, visible_segments
from dropdiag.store.selection import NAMES, Selection
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.tables import COUNT, PLACE, SCHEMAS

BIN_COLUMNS: Final = ("bins", "counts")
LISTS: Final = {"histograms": BIN_COLUMNS, "states": ("state",)}
"""Columns of lists, by table: they are read of the rows that are wanted alone."""
NO_KEYS: Final = ("value", "n", COUNT.name)
"""Columns that say what was found and not of what: they differ from run to run."""
WHOLE_BYTES: Final = 8 << 20  # of a file that is read at once; of a larger one, the wanted columns alone
WHOLE_ROWS: Final = 200_000  # scalars of a segment that are decoded at once: choosing among so few costs more
STREAM_ROWS: Final = {"scalars": 65_536, "histograms": 128}
ATTEMPTS: Final = 5
UNREADABLE: Final = (
    RunError, OSError, ValueError, LookupError, ArithmeticError, MemoryError, RuntimeError, TypeError,
    pa.ArrowException,
)  # fmt: skip
"""What Arrow and numpy can raise of a file that is not what it should be."""
_CODED: Final = pa.dictionary(pa.int32(), pa.string())
T = TypeVar("T")


class Rows(NamedTuple):
    """Rows of one table of a run, or of one rank of it.

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
    """The keys of the segment of a table that was decoded last, and the bytes from which they came.

    The runs of a sweep record the same things at the same steps, and the same columns are written as the same bytes:
    then the others alone are decoded, a sixth of the work. May be shared by threads.

    Parameters
    ----------
    name : {"scalars", "histograms", "states"}
    """

    def __init__(self, name: str = "scalars") -> None:
        self._schema = coded(name, lists=False)
        self._keys = [column for column in self._schema.names if column not in NO_KEYS]
        self._others = [column for column in self._schema.names if column in NO_KEYS]
        self._read = self._schema.names if name in LISTS else None
        self._last: tuple[bytes, pa.Table | None] = b"", None

    @staticmethod
    def takes(file: Checked) -> bool:
        """Whether a segment is so small that its keys may be kept."""
        return file.nbytes <= WHOLE_BYTES and file.num_rows <= WHOLE_ROWS

    def decode(self, file: Checked) -> tuple[pa.Table, pa.Table]:
        """Return a segment without its lists, in one chunk, and its keys."""
        written = file.written(self._keys)
        known, keys = self._last
        if keys is not None and written == known:
            return self._with_others(keys, file.read(self._others)), keys
        table = one_chunk(_fitted(file.read(self._read), self._schema))
        keys = table.select(self._keys)
        self._last = written, keys  # at once, so that no thread sees the bytes of one with the keys of another
        return table, keys

    def _with_others(self, keys: pa.Table, others: pa.Table) -> pa.Table:
        for name in self._others:
            keys = keys.append_column(name, pa.chunked_array([others[name].combine_chunks()]))
        return keys.select(self._schema.names)


@cache
def coded(name: str, *, lists: bool = True) -> pa.Schema:
    """Return the schema of a table with its names as dictionaries, with its columns of lists or without."""
    fields = (field for field in SCHEMAS[name] if lists or field.name not in LISTS.get(name, ()))
    return pa.schema([field.with_type(_CODED) if field.name in NAMES else field for field in fields])


@cache
def counted() -> pa.Schema:
    """Return the schema of scalars with how many values each is made of."""
    return coded("scalars").append(COUNT)


def decoded(table: pa.Table) -> pa.Table:
    """Return the table with its names as text."""
    fields = (f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in table.schema)
    return table.cast(pa.schema(list(fields)))


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


def read_scalars(part: Part, selection: Selection, known: KnownKeys | None = None, *, counts: bool = False) -> Rows:
    """Read a rank's scalars, without those that a later session recorded anew.

    Parameters
    ----------
    part : Part
    selection : Selection
        All wanted rows are among those returned; others of small segments may be, too.
    known : KnownKeys, optional
        Of the runs that are read together; None for one run by itself.
    counts : bool
        Whether to read how many values each is made of, a column ``count`` that is null where nobody said.

    Raises
    ------
    RunError
        If the run is gone.
    """
    schema = counted() if counts else coded("scalars")

    def read() -> Rows:
        found, problems = list[tuple[pa.Table, pa.Table | None]](), list[str]()
        for segment, last_step in visible_segments(part, "scalars", problems):
            with noted(segment, problems):
                found += list(_scalars(segment, schema, selection, last_step, known))
        if len(found) == 1:
            (table, keys), *_ = found
            return Rows(table, problems, keys)
        return Rows(pa.concat_tables([schema.empty_table(), *(table for table, _ in found)]), problems)

    return whole([part], read)


def read_derivatives(part: Part) -> Rows:
    """Read a rank's table of derivatives, names as text; raises as `read_scalars`."""

    def read() -> Rows:
        found, problems = [SCHEMAS["derivatives"].empty_table()], list[str]()
        for segment, _ in visible_segments(part, "derivatives", problems):
            with noted(segment, problems), open_segment(segment) as file:
                found.append(decoded(file.read()))
        return Rows(pa.concat_tables(found), problems)

    return whole([part], read)


def stream(part: Part, name: str) -> Iterator[pa.Table]:
    """Yield all rows of a rank's table in the order in which they were recorded, a bounded number at a time.

    Parameters
    ----------
    part : Part
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
    _check_there(part)
    problems: list[str] = []
    segments = visible_segments(part, name, problems)
    for problem in problems:
        warnings.warn(problem, DropdiagWarning, stacklevel=3)
    for segment, last_step in segments:
        done, hidden = 0, Selection().until(last_step)
        with not_gone(part):
            try:
                with open_segment(segment) as file:
                    for batch in file.batches(STREAM_ROWS[name], coded(name).names):
                        found = hidden.apply(_with_lists(batch, name).cast(coded(name)))
                        if found.num_rows:
                            yield found
                        done += batch.num_rows
            except FileNotFoundError:
                raise
            except UNREADABLE as error:
                what = f"its rows from number {done + 1:,} on are" if done else "it is"
                message = f"{unreadable(segment, error)}; {what} left out, the rest of the run is read"
                warnings.warn(message, DropdiagWarning, stacklevel=3)


def read_steps(part: Part, name: str) -> NDArray[np.int64]:
    """Return the step of each row of a rank's table; segments that cannot be read are passed over here."""

    def read() -> NDArray[np.int64]:
        found = [np.empty(0, np.int64)]
        for segment, last_step in visible_segments(part, name):
            with noted(segment, []), open_segment(segment) as file:
                steps = file.read(["step"])["step"].to_numpy()
                found.append(steps if last_step is None else steps[steps <= last_step])
        return np.concatenate(found)

    return whole([part], read)


def row_groups(segment: Segment) -> Iterator[pa.Table]:
    """Yield the row groups of a segment, names as text.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    try:
        with open_segment(segment) as file:
            for group in range(len(file.groups)):
                yield decoded(_with_lists(file.read_row_group(group), segment.table))
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise RunError(unreadable(segment, error)) from error


def _with_lists(table: pa.Table, name: str) -> pa.Table:
    """Return rows whose lists, where they have any, are checked."""
    if name in LISTS:
        rows.check_lists(table)
    return table


def _scalars(
    segment: Segment, schema: pa.Schema, selection: Selection, last_step: int | None, known: KnownKeys | None
) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """Yield the rows of a segment up to a step, and their keys where all are there: whole where it is small."""
    with open_segment(segment) as file:
        if known is not None and last_step is None and known.takes(file):
            yield known.decode(file)
        elif file.num_rows <= WHOLE_ROWS:
            yield Selection().until(last_step).apply(_fitted(file.read(), schema)), None
        else:
            chosen = selection.until(last_step)
            for group in range(len(file.groups)):
                if _may_hold(file.groups[group], chosen):
                    # a column that the file lacks is not read
                    yield chosen.apply(_fitted(file.read_row_group(group, schema.names), schema)), None


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return scalars with the columns of a schema; nobody said how many values they are of where there is no count."""
    if COUNT.name in schema.names and COUNT.name not in table.column_names:
        table = table.append_column(COUNT, pa.nulls(len(table), COUNT.type))
    table = table.select(schema.names)
    return table if table.schema.equals(schema) else table.cast(schema)


def _may_hold(group: Group, selection: Selection) -> bool:
    """Whether a row group can hold a wanted step, by what the file says of it."""
    steps = group.columns[0]
    return steps.least is None or steps.most is None or selection.may_hold(steps.least, steps.most)


@contextmanager
def open_segment(segment: Segment) -> Iterator[Checked]:
    """Open a segment, once."""
    with _source(segment) as source:
        file = Checked(source, segment.table)
        check_place(segment, file.told(PLACE))
        yield file


@contextmanager
def _source(segment: Segment) -> Iterator[pa.NativeFile]:
    """Open a file, whole: its bytes where it is small (what is verified is then what is decoded), else the file."""
    with storage_of(segment.path).open(segment.path, segment.path.parent.parent) as (file, size, version):
        if size > WHOLE_BYTES:
            check_ends(file, size)
            check_file(segment, file, version)
            with pa.PythonFile(file, mode="r") as source:  # the one that was verified, whatever has its name by now
                yield source
            return
        content = pa.py_buffer(file.read())
    check_content(segment, content, version)
    with pa.BufferReader(content) as source:
        yield source


@contextmanager
def noted(segment: Segment, problems: list[str]) -> Iterator[None]:
    """Turn what makes a segment unreadable into a sentence; that it is gone is no such thing."""
    try:
        yield
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        problems.append(f"{unreadable(segment, error)}; it is left out, the rest of the run is read")


def unreadable(segment: Segment, error: BaseException) -> str:
    """Say that a segment cannot be read, and why: in one line, whatever bytes of the file the reason quotes."""
    why = " ".join(bare(str(error)[:500], " ").split()) or type(error).__name__
    return why if why.startswith(str(segment.path)) else f"{segment.path} cannot be read: {why}"


@contextmanager
def not_gone(part: Part) -> Iterator[None]:
    """Turn a file that is gone into a `RunError`: what was yielded already cannot be read again."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(
            f"{error.filename or part.folder} is gone: the run ended while it was read, and its segments were joined; "
            "try again"
        ) from error


def _check_there(part: Part) -> None:
    if storage_of(part.folder).kind(part.folder) != "folder":
        run, name = part.folder.parent, part.folder.name
        raise RunError(f"{run} is gone, or its {name} is: it cannot be read any more")


def whole(parts: Sequence[Part], read: Callable[[], T]) -> T:
    """Read ranks of a run, and again where it ended and was compacted after its segments were listed."""
    for _ in range(ATTEMPTS):
        for part in parts:
            _check_there(part)
        try:
            return read()
        except FileNotFoundError:
            continue
    folders = " or ".join(str(part.folder) for part in parts)
    raise RunError(f"{folders}: its segments vanish while they are read; try again")
