"""Members of a tar archive, one after the other: plain files alone, with limits.

Python's own reader of archives follows links, sparse maps and extended headers of any size, and has had headers that
keep it busy without end; of the published archives nothing is needed but names, sizes and contents.

Reference: POSIX.1-2017, "pax", "ustar Interchange Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from dropdiag.experiments.data.files import CHUNK
from dropdiag.experiments.data.inflate import Read, exactly

MEMBERS: Final = 10_000
"""Members that an archive may have; the published ones have less than ten."""

_BLOCK: Final = 512
_PLAIN: Final = b"\x007"
_EMPTY: Final = b"123456"
"""Links, devices, folders and pipes: no content follows, whatever size they tell."""
_SPARSE: Final = b"S"
_FILE: Final = b"0"


class Member(NamedTuple):
    """One member.

    Attributes
    ----------
    name : str
    size : int
        Bytes of its content, as its header announces them.
    plain : bool
        Whether it is a plain file.
    """

    name: str
    size: int
    plain: bool


class Archive:
    """An archive that is read once, from its beginning to its end.

    Parameters
    ----------
    read : callable
        Returns the next bytes of the archive.
    limit : int
        Bytes that may be read.

    Notes
    -----
    Whatever is wrong with an archive is a ValueError that says what.
    """

    def __init__(self, read: Read, limit: int) -> None:
        self._source, self._limit, self._left = read, limit, limit

    def members(self) -> Iterator[Member]:
        """Go through all members, and pass over the content of those that `content` is not called for."""
        for _ in range(MEMBERS):
            header = self._next(_BLOCK)
            # Two blocks of zeros should end it; archives that just end have been written, too.
            if not header.strip(b"\0"):
                return
            member = _member(header)
            self._unread = member.size
            yield member
            self._pass(self._unread + -member.size % _BLOCK)
        raise ValueError(f"it has more than {MEMBERS:,} members")

    def content(self) -> bytes:
        """Return what the current member holds; shorter than announced where the archive is truncated."""
        content = self._next(self._unread)
        self._unread = 0
        return content

    def finish(self) -> None:
        """Read what follows the last member, by which the stream is found to be whole."""
        while self._next(CHUNK):
            pass

    def _next(self, count: int) -> bytes:
        if count > self._left:
            # Announced, not yet read: a forged header must not fill the memory, nor must a stream without end.
            count = self._left + 1
        part = exactly(self._source, count)
        self._left -= len(part)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {self._limit:,} bytes")
        return part

    def _pass(self, count: int) -> None:
        if count > self._left:
            raise ValueError(f"it unpacks to more than {self._limit:,} bytes")
        while count and (part := self._next(min(count, CHUNK))):
            count -= len(part)


def _member(header: bytes) -> Member:
    if len(header) < _BLOCK:
        raise ValueError("it ends inside a header")
    if sum(header[:148]) + sum(header[156:]) + 8 * ord(" ") != _number(header[148:156]):
        raise ValueError("a header's checksum is wrong")
    kind = header[156:157]
    if kind == _SPARSE:
        raise ValueError("it holds a sparse file")
    name, size = _text(header[:100]), 0 if kind in _EMPTY else _number(header[124:136])
    if header[257:263] == b"ustar\0" and (folder := _text(header[345:500])):
        name = f"{folder}/{name}"
    return Member(name, size, kind == _FILE or kind in _PLAIN)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("latin1")


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # GNU's form of numbers that need more digits than there are
        return int.from_bytes(field[1:], "big")
    digits = re.fullmatch(rb"[ \0]*([0-7]*)[ \0]*", field)
    if digits is None:
        raise ValueError("a header holds a number that is none")
    return int(digits[1] or b"0", 8)
