"""Digests: every segment and every ``run.json`` says what its bytes are, so that no changed bit is taken for a number.

A segment has the digest in its name, where it covers every byte of the file, the footer as well, and any engine and any
``sha256sum`` can check it. ``run.json`` has it in its last line, over all bytes before that line.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    import pyarrow as pa

    from dropdiag.store.segments import Segment

DIGITS: Final = 32
"""Hexadecimal digits of a SHA-256 that the name of a segment has: 128 bits."""
PART: Final = 1 << 20
_SEAL: Final = b',\n "sha256": "'
_END: Final = b'"\n}\n'
KNOWN: Final = 200_000
"""Files that are known to be whole, at most: more than any analysis opens."""
_known: dict[tuple[object, ...], None] = {}


class Digesting(io.RawIOBase):
    """Hands bytes on to a file, and knows their digest.

    Parameters
    ----------
    file : binary file
        It is not closed with this.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def write(self, content: Any, /) -> int:
        """Write bytes, all of them."""
        view = memoryview(content).cast("B")
        self._file.write(view)
        self._digest.update(view)
        self._size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    @property
    def digest(self) -> str:
        """The digest of what was written so far, as names of segments have it."""
        return self._digest.hexdigest()[:DIGITS]


def check_content(segment: Segment, content: bytes | pa.Buffer, of: os.stat_result) -> None:
    """Raise `OSError` unless the bytes of a segment are those that were written; one without a digest is not checked.

    Parameters
    ----------
    segment : Segment
    content : bytes-like
        All of it.
    of : stat_result
        Of the file that they came from: what was found whole once is not looked at again while size and time stay.
    """
    if segment.digest and not _is_known(segment, of):
        _check(segment, hashlib.sha256(content).hexdigest(), of)


def check_file(segment: Segment, file: BinaryIO) -> None:
    """Raise `OSError` unless a segment that is open holds the bytes that were written; it is read a part at a time."""
    of = os.fstat(file.fileno())
    if not segment.digest or _is_known(segment, of):
        return
    digest = hashlib.sha256()
    while part := file.read(PART):
        digest.update(part)
    file.seek(0)
    _check(segment, digest.hexdigest(), of)


def _check(segment: Segment, found: str, of: os.stat_result) -> None:
    if found[:DIGITS] != segment.digest:
        raise OSError(
            f"its bytes are not those that were written: their SHA-256 begins with {found[:DIGITS]}, and its name says "
            f"{segment.digest}; it is damaged, or was renamed"
        )
    while len(_known) >= KNOWN:
        _known.pop(next(iter(_known)), None)
    _known[_key(segment, of)] = None


def _is_known(segment: Segment, of: os.stat_result) -> bool:
    return _key(segment, of) in _known


def _key(segment: Segment, of: os.stat_result) -> tuple[object, ...]:
    return segment.digest, of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns


def sealed(text: str) -> bytes:
    """Return the text of a ``run.json``, an object without the key, with its digest as the last line."""
    body = text.removesuffix("\n}\n").encode()
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + _END


def is_whole(content: bytes) -> bool | None:
    """Whether a ``run.json`` has the bytes that were written; None where it has no seal, as before schema 3."""
    place = content.rfind(_SEAL)
    if place < 0:
        return None
    return content[place:] == _SEAL + hashlib.sha256(content[:place]).hexdigest().encode() + _END
