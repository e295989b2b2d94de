"""Digests: every segment and every ``run.json`` says what its bytes are, so that no changed bit is taken for a number.

A segment has the digest in its name, where it covers every byte of the file, the footer as well, and any engine and any
``sha256sum`` can check it. ``run.json`` has it in its last line, over all bytes before that line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import TYPE_CHECKING, BinaryIO, Final

from dropdiag.store.storage.digesting import DIGITS

if TYPE_CHECKING:
    import pyarrow as pa

    from dropdiag.store.segments import Segment

PART: Final = 1 << 20
_SEAL: Final = b',\n "sha256": "'
_END: Final = b'"\n}\n'
KNOWN: Final = 200_000
"""Files that are known to be whole, at most: more than any analysis opens."""
_known: dict[tuple[str, Hashable], None] = {}


def check_content(segment: Segment, content: bytes | pa.Buffer, version: Hashable | None) -> None:
    """Raise `OSError` unless the bytes of a segment are those that were written; one without a digest is not checked.

    Parameters
    ----------
    segment : Segment
    content : bytes-like
        All of it.
    version : hashable or None
        Of the file that they came from: what was found whole once is not looked at again while size and time stay.
    """
    if segment.digest and not _is_known(segment, version):
        _check(segment, hashlib.sha256(content).hexdigest(), version)


def check_file(segment: Segment, file: BinaryIO, version: Hashable | None) -> None:
    """Raise `OSError` unless a segment that is open holds the bytes that were written; it is read a part at a time."""
    if not segment.digest or _is_known(segment, version):
        return
    digest = hashlib.sha256()
    while part := file.read(PART):
        digest.update(part)
    file.seek(0)
    _check(segment, digest.hexdigest(), version)


def _check(segment: Segment, found: str, version: Hashable | None) -> None:
    if found[:DIGITS] != segment.digest:
        raise OSError(
            f"its bytes are not those that were written: their SHA-256 begins with {found[:DIGITS]}, and its name says "
            f"{segment.digest}; it is damaged, or was renamed"
        )
    if version is None:
        return
    while len(_known) >= KNOWN:
        _known.pop(next(iter(_known)), None)
    _known[segment.digest, version] = None


def _is_known(segment: Segment, version: Hashable | None) -> bool:
    return version is not None and (segment.digest, version) in _known


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
