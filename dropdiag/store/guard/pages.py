"""What the header of each page of a segment claims: Arrow makes room for it before it decodes anything."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeGuard

import pyarrow as pa

from dropdiag.store.guard import limits
from dropdiag.store.guard.column import Column
from dropdiag.store.guard.damage import SegmentError
from dropdiag.store.guard.thrift import Fields, structure

_NEARLY_ALWAYS, _ALWAYS = 512, 64 << 10  # bytes in which a header ends
_KIND, _UNCOMPRESSED, _COMPRESSED, _DATA, _DICTIONARY = 1, 2, 3, 5, 7
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_VALUES, _ENCODING = 1, 2
_ENCODINGS: Final = {_DATA: {0, 2, 5, 8}, _DICTIONARY: {0, 2}}  # plain, dictionary, deltas of integers


class _Page(NamedTuple):
    is_dictionary: bool
    uncompressed: int
    compressed: int
    values: int


def check(source: pa.NativeFile, column: Column) -> int:
    """Check all pages of a column of a row group; return the bytes of its names, none of a column of numbers.

    Raises
    ------
    SegmentError
        If a page claims more than its values take, or pages are not what the footer says.
    """
    name, is_text = column.name, column.is_text
    at, values, total = column.begin, 0, 0
    while at < column.end:
        header, size = _header(source, at, column.end)
        page = _page(header, name)
        if page.is_dictionary and at != column.begin:
            raise SegmentError(f"its column {name} has a dictionary behind its values")
        _check_page(page, name, is_text=is_text)
        at += size + page.compressed
        values += 0 if page.is_dictionary else page.values
        total += page.uncompressed
    if at != column.end or values != column.values:
        raise SegmentError(
            f"the pages of its column {name} hold {values:,} values, not the {column.values:,} it claims"
        )
    return total if is_text else 0


def _header(source: pa.NativeFile, at: int, end: int) -> tuple[Fields, int]:
    try:
        return structure(source.read_at(min(_NEARLY_ALWAYS, end - at), at))
    except IndexError:
        pass
    try:
        return structure(source.read_at(min(_ALWAYS, end - at), at))
    except IndexError:
        raise SegmentError(f"the header of a page at byte {at:,} is cut off") from None


def _page(header: Fields, name: str) -> _Page:
    kind = header.get(_KIND)
    field = _DATA if kind == _DATA_PAGE else _DICTIONARY
    told = header.get(field)
    if kind not in (_DATA_PAGE, _DICTIONARY_PAGE) or not isinstance(told, dict):
        raise SegmentError(f"its column {name} has a page of kind {kind!r}, which dropdiag does not write")
    if told.get(_ENCODING) not in _ENCODINGS[field]:
        raise SegmentError(f"its column {name} has a page of encoding {told.get(_ENCODING)!r}, not one of dropdiag's")
    sizes: list[int] = [
        size for size in (header.get(_UNCOMPRESSED), header.get(_COMPRESSED), told.get(_VALUES)) if _is_size(size)
    ]
    if len(sizes) < len(_Page._fields) - 1:
        raise SegmentError(f"its column {name} has a page without a size, or of a negative one")
    return _Page(field == _DICTIONARY, *sizes)


def _is_size(told: Any) -> TypeGuard[int]:
    return type(told) is int and 0 <= told < 1 << 31


def _check_page(page: _Page, name: str, *, is_text: bool) -> None:
    most = limits.TEXT_PAGE if is_text else limits.PAGE_BYTES + limits.VALUE_BYTES * page.values
    if page.uncompressed > most:
        raise SegmentError(f"its column {name} has a page of {page.uncompressed:,} bytes, more than its values take")
    if page.is_dictionary and page.values > page.uncompressed // 4:
        raise SegmentError(f"its column {name} claims {page.values:,} names in {page.uncompressed:,} bytes")
