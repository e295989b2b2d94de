"""A file that knows the digest of what was written to it."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO, Final

DIGITS: Final = 32
"""Hexadecimal digits of a SHA-256 that the name of a segment has: 128 bits."""


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
