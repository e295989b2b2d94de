"""What a footer says of one column of a row group."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeGuard

from dropdiag.store.guard.damage import SegmentError
from dropdiag.store.guard.thrift import Fields, nested, number

_PATH_OF_FILE, _META, _CRYPTO = 1, 3, 8
_TYPE, _CODEC, _VALUES, _COMPRESSED, _DATA, _DICTIONARY, _STATISTICS, _SIZES = 1, 4, 5, 7, 9, 11, 12, 16
_MAX, _MIN = 5, 6  # of the statistics
_TEXT_BYTES, _REPEATED, _DEFINED = 1, 2, 3  # of the sizes
_INT64, _BYTE_ARRAY = 2, 6
COMPRESSIONS: Final = (0, 6)  # none, zstd


class Column(NamedTuple):
    """A column of a row group.

    Attributes
    ----------
    name : str
        ``bins.list.element`` of one of lists.
    kind : int
        Parquet's number of its type.
    codec : int
        Of its compression.
    values : int
        Of a column of lists, elements; an empty list counts as one.
    begin, end : int
        Where its pages lie.
    least, most : int or None
        Of a column of steps, where it says so.
    """

    name: str
    kind: int
    codec: int
    values: int
    begin: int
    end: int
    least: int | None
    most: int | None

    @property
    def is_text(self) -> bool:
        """Whether it is one of names."""
        return self.kind == _BYTE_ARRAY

    @property
    def is_list(self) -> bool:
        """Whether it is one of lists."""
        return self.name.endswith(".element")


def column_of(told: Fields, name: str, rows: int) -> Column:
    """Return what is said of a column; raise `SegmentError` if it is not what dropdiag writes."""
    meta = nested(told, _META)
    kind, codec, values = (number(meta, field) for field in (_TYPE, _CODEC, _VALUES))
    if codec not in COMPRESSIONS or told.get(_PATH_OF_FILE) or _CRYPTO in told:
        raise SegmentError(f"its column {name} is compressed by codec {codec}, encrypted, or in another file")
    begin, dictionary = number(meta, _DATA), meta.get(_DICTIONARY)
    if isinstance(dictionary, int) and 0 < dictionary < begin:
        begin = dictionary
    least, most = _bounds(meta) if kind == _INT64 else (None, None)
    found = Column(name, kind, codec, values, begin, begin + number(meta, _COMPRESSED), least, most)
    if values < rows or (values > rows and not found.is_list):
        raise SegmentError(f"its column {name} claims {values:,} values in {rows:,} rows")
    if _SIZES in meta:
        _check_levels(nested(meta, _SIZES), found)
    return found


def _bounds(meta: Fields) -> tuple[int | None, int | None]:
    statistics = meta.get(_STATISTICS)
    told = [statistics.get(field) for field in (_MIN, _MAX)] if isinstance(statistics, dict) else [None, None]
    least, most = (int.from_bytes(one, "little", signed=True) if _is_int64(one) else None for one in told)
    return least, most


def _is_int64(told: Any) -> TypeGuard[bytes]:
    return isinstance(told, bytes) and len(told) == 8


def _check_levels(sizes: Fields, column: Column) -> None:
    """Check how many levels are counted: Arrow ends the process where they are others than the schema's."""
    expected = {_REPEATED: 2, _DEFINED: 4} if column.is_list else {_REPEATED: 1, _DEFINED: 2}
    for field, levels in expected.items():
        counted = sizes.get(field, [])
        if not isinstance(counted, list) or len(counted) not in (0, levels):
            raise SegmentError(f"its column {column.name} counts other levels than it has")
    if _TEXT_BYTES in sizes and not column.is_text:
        raise SegmentError(f"its column {column.name} counts bytes of names, and has none")
