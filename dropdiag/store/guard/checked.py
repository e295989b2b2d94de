"""A segment that is read through its checks: what it claims before it is decoded, its rows after."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dropdiag.store.guard import footer, limits, pages, rows
from dropdiag.store.guard.column import Column
from dropdiag.store.guard.damage import SegmentError
from dropdiag.store.tables import SCHEMAS


class Checked:
    """A Parquet file of one table, opened.

    Parameters
    ----------
    source : NativeFile
    table : {"scalars", "histograms", "states", "derivatives"}

    Attributes
    ----------
    num_rows, nbytes : int
    groups : list of Group
        Its row groups.

    Raises
    ------
    SegmentError
        If it is not what dropdiag writes, or claims more than it can hold; so do all its methods.
    """

    def __init__(self, source: pa.NativeFile, table: str) -> None:
        self._source, self._table = source, table
        told, size = footer.read(source, table), source.size()
        names = [field.name for field in SCHEMAS[table] if field.type == pa.string()]
        # without pre_buffer: it reads ahead for object stores, and costs a thread and a copy on a disk
        self._file = pq.ParquetFile(
            source, read_dictionary=names, pre_buffer=False, thrift_string_size_limit=limits.FOOTER_BYTES,
            thrift_container_size_limit=limits.ROW_GROUPS,
        )  # fmt: skip
        footer.check_types(self._file.schema_arrow, table)
        self.num_rows, self.nbytes, self.groups = told.rows, size, told.groups
        self._text, self._most_text = 0, limits.TEXT + limits.TEXT_A_BYTE * size
        self._known = set[tuple[int, str]]()  # columns whose pages are checked

    def told(self, key: bytes) -> bytes | None:
        """Return what the file's metadata say under a key."""
        found: bytes | None = (self._file.schema_arrow.metadata or {}).get(key)
        return found

    def written(self, columns: Collection[str]) -> bytes:
        """Return the bytes of columns as written, with what they are decoded by: where they are the same, rows are."""
        parts = list[bytes]()
        for column in (one for group in self.groups for one in group.columns if one.name in columns):
            told = f"{column.name} {column.kind} {column.codec} {column.values} "
            parts += [told.encode(), self._source.read_at(column.end - column.begin, column.begin)]
        return b"".join(parts)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the file whole, or some columns of it."""
        for group in range(len(self.groups)):
            self._check_pages(group, columns)
        wanted = None if columns is None else list(columns)
        return self._checked(self._file.read(wanted, use_threads=False), self.num_rows)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a row group, or some columns of it; those that the file lacks are not read."""
        self._check_pages(group, columns)
        wanted = None if columns is None else list(columns)
        table = self._file.read_row_group(group, wanted, use_threads=False)
        return self._checked(table, self.groups[group].rows)

    def batches(self, rows: int, columns: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Yield so many rows at a time of all row groups, or of some; of long lists fewer."""
        for group in range(len(self.groups)) if groups is None else groups:
            size = max(min(rows, self._rows_at_once(group, columns)), 1)
            if size >= self.groups[group].rows:  # twice as fast as a batch
                yield self.read_row_group(group, columns)
                continue
            self._check_pages(group, columns)
            some = self._file.iter_batches(size, row_groups=[group], columns=list(columns), use_threads=False)
            for batch in some:
                yield self._checked(pa.Table.from_batches([batch]), batch.num_rows)

    def check_pages(self) -> None:
        """Check the pages of the whole file, without decoding them."""
        for group in range(len(self.groups)):
            self._check_pages(group, None)

    def _rows_at_once(self, group: int, columns: Sequence[str]) -> int:
        most = max((column.values for column in _columns(self.groups[group], columns)), default=0)
        return self.groups[group].rows * limits.ELEMENTS_AT_ONCE // max(most, 1)

    def _check_pages(self, group: int, columns: Sequence[str] | None) -> None:
        for column in _columns(self.groups[group], columns):
            key = group, column.name
            if key not in self._known:
                self._text += pages.check(self._source, column)
                self._known.add(key)
        if self._text > self._most_text:
            raise SegmentError(f"its names have more than {self._most_text:,} bytes")

    def _checked(self, table: pa.Table, expected: int) -> pa.Table:
        if len(table) != expected:
            raise SegmentError(f"{len(table):,} rows come out of it, and it claims {expected:,}")
        rows.check(table, self._table)
        return table


def _columns(group: footer.Group, names: Sequence[str] | None) -> list[Column]:
    """Return the columns of a row group of some names; a column of lists is one of its elements."""
    return [column for column in group.columns if names is None or column.name.partition(".")[0] in names]
