"""MATLAB's files of version 5, as far as arrays of numbers go: read piece by piece, with limits.

scipy's reader of these files is compiled, and a damaged file can end the process that reads it. This one knows the
three things that such a file begins each variable with (flags, dimensions, name), and the numbers that follow them.

Reference: MathWorks, "MAT-File Format", chapter 1, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.experiments.data.files import size
from dropdiag.experiments.data.inflate import RATIO, Inflated, Read, exactly, fill

VARIABLES: Final = 1_000
"""Variables that a file may have."""

_HEADER, _TAG, _ORDERS = 128, 8, {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_AXES, _NAME, _COMPLEX = 32, 1024, 0x0800
_STORED: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Code of the type that numbers are stored with -> numpy's name."""
_CLASSES: Final = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
"""Code of the class that an array of numbers has -> numpy's name."""
_OTHERS: Final = {1: "cell", 2: "struct", 3: "object", 4: "<U1", 5: "sparse"}


class NewerVersionError(Exception):
    """A file of MATLAB 7.3, which is one of HDF5."""


@dataclass(frozen=True)
class Variable:
    """A variable of a file, as far as it is read: all but its values.

    Attributes
    ----------
    name : str
    kind : str
        Its type as numpy names it, "complex", or another word where it is no array of numbers.
    shape : tuple of int
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    _read: Read
    _order: str
    _room: int

    def values(self) -> NDArray[Any]:
        """Return the values of an array of numbers in the file's order, in which the first axis runs fastest.

        Raises
        ------
        ValueError, EOFError, zlib.error, struct.error
            If they are damaged. There is no room made for more than the file can hold.
        """
        stored, length, first = _tag(self._read, self._order)
        if stored not in _STORED or not np.can_cast(_STORED[stored], self.kind):
            raise ValueError(f"{self.name} is {self.kind}, and its values are stored as type {stored}")
        kind = np.dtype(self._order + _STORED[stored])
        if length != math.prod(self.shape) * kind.itemsize or length > self._room:
            raise ValueError(f"{self.name} of shape {self.shape} announces {length:,} bytes of values")
        values = np.empty(math.prod(self.shape), dtype=kind)
        room = values.view(np.uint8).data
        room[: len(first)] = first[:length]
        if len(first) + fill(self._read, room[len(first) :]) < length:
            raise EOFError(f"{self.name} ends before its last value")
        # What is left but some bytes that fill up: reading it is how a stream is found to be whole.
        if len(exactly(self._read, _TAG)) == _TAG:
            raise ValueError(f"{self.name} goes on after its last value")
        return values.astype(self.kind, copy=False)


def variables(file: BufferedReader) -> Iterator[Variable]:
    """Go through the variables of an open file.

    Parameters
    ----------
    file : BufferedReader

    Raises
    ------
    NewerVersionError
        If it is one of version 7.3.
    ValueError, EOFError, zlib.error, struct.error
        If it is damaged, or no file of MATLAB.
    """
    order = _order(exactly(file.read, _HEADER))
    begin, end = _HEADER, size(file)
    for _ in range(VARIABLES):
        if begin == end:
            return
        file.seek(begin)
        kind, length, _ = _tag(file.read, order)
        begin += _TAG + length
        if begin > end:
            raise EOFError(f"a variable of {length:,} bytes is announced, and there are not so many")
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"an element of type {kind} where a variable was expected")
        if (found := _variable(file, order, length, compressed=kind == _COMPRESSED)) is not None:
            yield found
    raise ValueError(f"it has more than {VARIABLES:,} variables")


def _order(header: bytes) -> str:
    if len(header) < _HEADER or header[126:] not in _ORDERS:
        raise ValueError("its header is none of MATLAB's")
    order = _ORDERS[header[126:]]
    (version,) = struct.unpack(f"{order}H", header[124:126])
    if version == 0x0200:
        raise NewerVersionError
    if version != 0x0100:
        raise ValueError(f"its version is 0x{version:04x}, and should be 0x0100")
    return order


def _variable(file: BufferedReader, order: str, length: int, *, compressed: bool) -> Variable | None:
    read, room = _part(file.read, length), length
    if compressed:
        read, room = Inflated(read, gzip=False).read, length * RATIO
        kind, length, _ = _tag(read, order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable was expected")
    if not length:  # an array without anything, not even a name
        return None
    flags, axes, name = _element(read, order, 8), _element(read, order, 4 * _AXES), _element(read, order, _NAME)
    (flag,) = struct.unpack(f"{order}I", flags[:4])
    shape = struct.unpack(f"{order}{len(axes) // 4}i", axes)
    if min(shape, default=-1) < 0:
        raise ValueError(f"a variable of the impossible shape {shape}")
    return Variable(name.decode("latin1"), _kind(flag), shape, read, order, room)


def _kind(flag: int) -> str:
    code = flag & 0xFF
    if code not in _CLASSES:
        return _OTHERS.get(code, "something else")
    return "complex" if flag & _COMPLEX else np.dtype(_CLASSES[code]).name


def _tag(read: Read, order: str) -> tuple[int, int, bytes]:
    """Return the type and length of the element that follows, and its content if it is of four bytes at most."""
    tag = exactly(read, _TAG)
    kind, length = struct.unpack(f"{order}II", tag)
    if not kind >> 16:
        return kind, length, b""
    kind, length = kind & 0xFFFF, kind >> 16
    if length > 4:
        raise ValueError(f"a short element of {length} bytes")
    return kind, length, tag[4 : 4 + length]


def _element(read: Read, order: str, most: int) -> bytes:
    """Return the content of the element that follows."""
    _, length, content = _tag(read, order)
    if length > most:
        raise ValueError(f"an element of {length:,} bytes where {most} at most were expected")
    if content or not length:
        return content
    content = exactly(read, length + -length % _TAG)
    if len(content) < length:
        raise EOFError("it ends inside a variable's head")
    return content[:length]


def _part(read: Read, length: int) -> Read:
    """Return what reads the next `length` bytes, and no more."""
    left = length

    def part(most: int) -> bytes:
        nonlocal left
        found = read(min(most, left))
        left -= len(found)
        return found

    return part
