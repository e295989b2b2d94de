"""Unpack deflated data as they are asked for: no stream fills more memory than what was asked for."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Final

from dropdiag.experiments.data.files import CHUNK

Read = Callable[[int], bytes]
"""Returns the next bytes, at most as many as asked for, none only at the end: what a file's ``read`` does."""

GZIP: Final = b"\x1f\x8b"
RATIO: Final = 1032
"""Bytes that one byte of deflated data can become at most. Reference: zlib.net/zlib_tech.html."""

_PACKED: Final = 1 << 14
"""Deflated bytes that are read at a time. Few, since what follows a stream is copied, and thousands may follow."""

_GZIP_BITS, _ZLIB_BITS = 31, 15


class Inflated:
    """What a deflated stream holds.

    Parameters
    ----------
    read : callable
        Returns the stream's next bytes.
    gzip : bool
        Whether it is of gzip's form, in which one stream may follow another, or a single one of zlib's.
    """

    def __init__(self, read: Read, *, gzip: bool) -> None:
        self._read, self._gzip = read, gzip
        self._stream, self._tail = self._begun(), b""

    def _begun(self) -> zlib._Decompress:
        return zlib.decompressobj(_GZIP_BITS if self._gzip else _ZLIB_BITS)

    def read(self, most: int) -> bytes:
        """Return the next bytes, `most` of them at most, and none only at the end.

        Raises
        ------
        EOFError
            If the stream ends too early.
        zlib.error
            If it is damaged, or followed by something else.
        """
        # No bytes at all would mean to zlib that there is no limit.
        while most > 0 and (not self._stream.eof or self._follows()):
            packed = self._tail or self._read(_PACKED)
            unpacked = self._stream.decompress(packed, most)
            self._tail = self._stream.unconsumed_tail
            if unpacked:
                return unpacked
            if not packed and not self._stream.eof:
                raise EOFError("it ends too early")
        return b""

    def _follows(self) -> bool:
        """Whether another stream follows the one that has ended; begins it."""
        rest = self._stream.unused_data
        # Zeros may fill up the end of a gzip file.
        while self._gzip and not (rest := rest.lstrip(b"\0")):
            if not (rest := self._read(_PACKED)):
                return False
        if self._gzip:
            self._stream, self._tail = self._begun(), rest
        return self._gzip


def exactly(read: Read, count: int) -> bytes:
    """Return the next `count` bytes, fewer only at the end."""
    # Grown in place: to join parts at the end would take the memory twice.
    found = io.BytesIO()
    while (left := count - found.tell()) and (part := read(min(left, CHUNK))):
        found.write(part)
    return found.getvalue()


def fill(read: Read, room: memoryview) -> int:
    """Read into `room`, and return how many bytes there were; fewer than it takes only at the end."""
    at = 0
    while at < len(room) and (part := read(min(len(room) - at, CHUNK))):
        room[at : at + len(part)] = part
        at += len(part)
    return at
