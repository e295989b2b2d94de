"""The compact protocol of Thrift, as far as Parquet's headers need it, read from bytes that nobody vouches for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from dropdiag.store.guard.damage import SegmentError

Fields: TypeAlias = dict[int, Any]
"""What a structure holds: the number of each field -> a number, truth, bytes, list or structure."""
Each: TypeAlias = Mapping[int, Callable[[Fields, Fields], Any]]
DEPTH: Final = 12
ENTRIES: Final = 64
"""Of a list: what Parquet has a few of for each file and column."""
_LIST, _STRUCTURE, _LONG = 9, 12, 15
_LONGEST: Final = 10  # bytes of a number of 64 bits


def structure(data: bytes, at: int = 0, depth: int = 0, each: Each | None = None) -> tuple[Fields, int]:
    """Return the structure at a place, and where it ends.

    Parameters
    ----------
    data : bytes
    at : int
    depth : int
        How many structures it lies in.
    each : mapping of int to callable, optional
        What becomes of each structure in the list of a field: what is there of it as it lies is many times as large. It
        takes the fields before the list as well. Other lists are short.

    Raises
    ------
    IndexError
        If the bytes end before it does.
    SegmentError
        If it is none.
    """
    if depth > DEPTH:
        raise SegmentError("a header is nested too deep")
    found: Fields = {}
    field = 0
    while head := data[at]:
        at += 1
        if head > 15:
            field += head >> 4
        else:
            field, at = _signed(data, at, depth)
        if field in found:
            raise SegmentError(f"field {field} of a header comes twice")
        kind, value = head & 15, data[at]
        if 4 <= kind <= 6 and value < 128:  # as nearly all are: half of the time goes into calls
            found[field], at = (value >> 1) ^ -(value & 1), at + 1
            continue
        read = _READERS.get(kind)
        if read is None:
            raise SegmentError(f"a header holds a field of no known kind ({kind})")
        if each and field in each and kind == _LIST:
            found[field], at = _made(data, at, partial(each[field], found))
        else:
            found[field], at = read(data, at, depth)
    return found, at + 1


def _made(data: bytes, at: int, make: Callable[[Fields], Any]) -> tuple[list[Any], int]:
    """Read a list of structures, and make something of each."""
    size, kind, at = _head(data, at)
    if kind != _STRUCTURE:
        raise SegmentError("a header holds a list of another kind than it should")
    found = []
    for _ in range(size):
        one, at = structure(data, at, 1)
        found.append(make(one))
    return found, at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return how long a list is, of what kind, and where its first entry begins."""
    head, at = data[at], at + 1
    size = head >> 4
    if size == _LONG:
        size, at = _unsigned(data, at)
    if size > len(data) - at:  # each of its entries takes a byte at least
        raise IndexError(at + size)
    return size, head & 15, at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    if value < 128:
        return value, at + 1
    value, shift = value & 127, 7
    for place in range(at + 1, at + _LONGEST):
        part = data[place]
        value |= (part & 127) << shift
        if part < 128:
            return value, place + 1
        shift += 7
    raise SegmentError("a number in a header has no end")


def _signed(data: bytes, at: int, _: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at


def _bytes(data: bytes, at: int, _: int) -> tuple[bytes, int]:
    size, at = (data[at], at + 1) if data[at] < 128 else _unsigned(data, at)
    end = at + size
    if end > len(data):
        raise IndexError(end)
    return data[at:end], end


def _byte(data: bytes, at: int, _: int) -> tuple[int, int]:
    return data[at], at + 1


def _float(data: bytes, at: int, _: int) -> tuple[bytes, int]:
    if at + 8 > len(data):
        raise IndexError(at + 8)
    return data[at : at + 8], at + 8


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    size, kind, at = _head(data, at)
    if size > ENTRIES:
        raise SegmentError(f"a header has a list of {size:,} entries")
    read = _byte if kind in (1, 2) else _READERS.get(kind)
    if read is None:
        raise SegmentError(f"a header holds a list of no known kind ({kind})")
    found: list[Any] = []
    for _ in range(size):
        value, at = read(data, at, depth)
        found.append(value)
    return found, at


def _nested(data: bytes, at: int, depth: int) -> tuple[Fields, int]:
    return structure(data, at, depth + 1)


_READERS: Final[dict[int, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    1: lambda _, at, __: (True, at), 2: lambda _, at, __: (False, at), 3: _byte, 4: _signed, 5: _signed, 6: _signed,
    7: _float, 8: _bytes, 9: _list, 10: _list, 12: _nested,
}  # fmt: skip


def number(fields: Fields, field: int) -> int:
    """Return a number; raise `SegmentError` if there is none."""
    found = fields.get(field)
    if type(found) is not int:
        raise SegmentError(f"a header lacks the number of its field {field}")
    return found


def nested(fields: Fields, field: int) -> Fields:
    """Return a structure; raise `SegmentError` if there is none."""
    found = fields.get(field)
    if not isinstance(found, dict):
        raise SegmentError(f"a header lacks the structure of its field {field}")
    return found


def structures(fields: Fields, field: int) -> list[Fields]:
    """Return a list of structures; raise `SegmentError` if there is none."""
    found = fields.get(field)
    if not isinstance(found, list) or not all(type(one) is dict for one in found):
        raise SegmentError(f"a header lacks the list of its field {field}")
    return found
