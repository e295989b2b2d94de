"""What the footer of a segment claims, beside what the file can hold; read here before Arrow reads it.

Arrow makes of each entry, of a few bytes, an object of several hundred, and ends the process where what a column says
of its levels does not fit the schema. So nothing that Arrow has made of a footer is asked for.
"""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO, Final, NamedTuple

import pyarrow as pa

from dropdiag.histograms.grid import POSITIVE_INFINITY
from dropdiag.store.guard import limits
from dropdiag.store.guard.column import Column, column_of
from dropdiag.store.guard.damage import SegmentError
from dropdiag.store.guard.thrift import Fields, number, structure, structures
from dropdiag.store.tables import COUNT, SCHEMAS

_MAGIC: Final = b"PAR1"
_TAIL: Final = 8  # the length of the footer, and the magic
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4
_COLUMNS, _ROWS_OF_GROUP = 1, 3
_REPETITION, _NAME = 3, 4
_OPTIONAL, _REPEATED = 1, 2
_NAMES: Final = -1  # no field of Parquet
FUNCTION: Final = 2 * POSITIVE_INFINITY
"""Rows of a function: all finite bins."""
_MOST_KNOWN: Final = 16
_known: dict[tuple[str, bytes], Footer] = {}
"""Large footers, by their digests: a second goes into each 4 MB."""


class Group(NamedTuple):
    """A row group.

    Attributes
    ----------
    rows : int
    columns : list of Column
        In the order of the table.
    """

    rows: int
    columns: list[Column]


class Footer(NamedTuple):
    """What a footer says.

    Attributes
    ----------
    rows : int
    groups : list of Group
    nbytes : int
    """

    rows: int
    groups: list[Group]
    nbytes: int


def check_ends(file: BinaryIO, size: int) -> None:
    """Raise `SegmentError` unless a file may be a segment by its ends and size, before all of it is read."""
    begin = file.read(len(_MAGIC))
    file.seek(-len(_MAGIC), os.SEEK_END)
    end = file.read(len(_MAGIC))
    file.seek(0)
    if begin != _MAGIC or end != _MAGIC or size > limits.FILE_BYTES:
        raise SegmentError(f"it is no Parquet file of dropdiag ({size:,} bytes)")


def read(source: pa.NativeFile, table: str) -> Footer:
    """Read the footer of a segment.

    Raises
    ------
    SegmentError
        If the file is no Parquet file, its columns are not those that dropdiag writes, or it cannot hold what it
        claims, or does so nowhere.
    """
    size = source.size()
    if size < len(_MAGIC) + _TAIL or source.read_at(4, 0) != _MAGIC:
        raise SegmentError(f"it is no Parquet file ({size:,} bytes)")
    tail = source.read_at(_TAIL, size - _TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - _TAIL - len(_MAGIC):
        raise SegmentError(f"it ends as no Parquet file does ({size:,} bytes)")
    if length > limits.FOOTER_BYTES:
        raise SegmentError(f"its footer has {length:,} bytes, and one of dropdiag {limits.FOOTER_BYTES:,} at most")
    found = _decoded(source.read_at(length, size - _TAIL - length), table)
    _check_sizes(found, size)
    if table == "derivatives" and any(group.rows % FUNCTION for group in found.groups):
        raise SegmentError(f"its functions do not have each of the {FUNCTION:,} bins once, a row group each")
    return found


def _decoded(footer: bytes, table: str) -> Footer:
    if len(footer) < limits.SMALL_FOOTER:
        return _footer(footer, table)
    key = table, hashlib.sha256(footer).digest()
    if key not in _known:
        while len(_known) >= _MOST_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[key] = _footer(footer, table)
    return _known[key]


def _footer(footer: bytes, table: str) -> Footer:
    def group(before: Fields, told: Fields) -> Group:
        if _NAMES not in before:
            before[_NAMES] = _names(structures(before, _SCHEMA), table)
        return _group(told, before[_NAMES])

    try:
        found, _ = structure(footer, each={_GROUPS: group})
    except IndexError:
        raise SegmentError("its footer is cut off") from None
    _names(structures(found, _SCHEMA), table)
    groups: list[Group] = found.get(_GROUPS, [])
    columns = sum(len(one.columns) for one in groups)
    if len(groups) > limits.ROW_GROUPS or columns * limits.COLUMN_BYTES > len(footer):
        raise SegmentError(f"its footer lists {len(groups):,} row groups in {len(footer):,} bytes")
    return Footer(number(found, _ROWS), groups, len(footer))


def _names(elements: list[Fields], table: str) -> list[str]:
    """Return the names of the columns, those of a list with their levels, once they are those of a table."""
    told = [(element.get(_NAME), element.get(_REPETITION)) for element in elements[1:]]
    for schema in (SCHEMAS[table], SCHEMAS[table].append(COUNT)) if table == "scalars" else (SCHEMAS[table],):
        if told == [level for field in schema for level in _levels(field)]:
            return [_path(field) for field in schema]
    names = ", ".join(repr(name.decode(errors="replace"))[:60] for name, _ in told[:20] if isinstance(name, bytes))
    raise SegmentError(
        f"its columns are {names}, and those of {table} are {', '.join(SCHEMAS[table].names)}, all optional"
    )


def _levels(field: pa.Field) -> list[tuple[bytes, int]]:
    name = field.name.encode()
    inside = [(b"list", _REPEATED), (b"element", _OPTIONAL)] if pa.types.is_list(field.type) else []
    return [(name, _OPTIONAL), *inside]


def _path(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name


def _group(group: Fields, names: list[str]) -> Group:
    columns, rows = structures(group, _COLUMNS), number(group, _ROWS_OF_GROUP)
    if len(columns) != len(names) or rows < 0:
        raise SegmentError(f"it has a row group of {rows:,} rows and {len(columns):,} columns")
    return Group(rows, [column_of(column, name, rows) for column, name in zip(columns, names, strict=True)])


def _check_sizes(footer: Footer, size: int) -> None:
    end = size - _TAIL - footer.nbytes
    rows = elements = 0
    for group in footer.groups:
        rows += group.rows
        elements += max((column.values for column in group.columns if column.is_list), default=0)
        for column in group.columns:
            if not len(_MAGIC) <= column.begin < column.end <= end:
                raise SegmentError(
                    f"its column {column.name} lies from byte {column.begin:,} to {column.end:,}, of {end:,}"
                )
    if rows != footer.rows:
        raise SegmentError(f"its footer says {footer.rows:,} rows, and its row groups {rows:,}")
    if rows > limits.ROWS + limits.ROWS_A_BYTE * size:
        raise SegmentError(f"it claims {rows:,} rows in {size:,} bytes: so few cannot hold them")
    if elements > limits.ELEMENTS + limits.ELEMENTS_A_BYTE * size:
        raise SegmentError(f"it claims {elements:,} numbers in lists in {size:,} bytes: so few cannot hold them")


def check_types(schema: pa.Schema, table: str) -> None:
    """Raise `SegmentError` unless the columns, as Arrow makes them, are of the types of a table."""
    known = SCHEMAS[table].append(COUNT) if len(schema) > len(SCHEMAS[table]) else SCHEMAS[table]
    if schema.names != known.names:
        raise SegmentError("its columns have other names for Arrow")
    for field in schema:
        expected = known.field(field.name).type
        found = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if found != expected or (found != field.type and expected != pa.string()):
            raise SegmentError(f"its column {field.name} is of type {str(field.type)[:200]}, and not {expected}")
