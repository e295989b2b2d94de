"""IDX files, the format of MNIST, read and written by hand.

An IDX file is two zero bytes, a type code (0x08: unsigned byte), the number of dimensions, each dimension as
a big-endian 32-bit number, then the values in C order. Reference: http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DataError
from dropdiag.experiments.data.files import CHUNK, LIMIT, opened, size
from dropdiag.experiments.data.inflate import GZIP, RATIO, Inflated, Read, exactly, fill

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int, most: int = LIMIT) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Parameters
    ----------
    path : Path
        The file; whether it is gzipped is told from its content, not from its name.
    dimensions : int
        Number of dimensions that it should have: 3 for images, 1 for labels.
    most : int
        Values that it may hold. It is refused by its header, before there is room for them.

    Returns
    -------
    ndarray of uint8, with `dimensions` axes

    Raises
    ------
    DataError
        If the file cannot be read, its gzip stream is damaged, its magic number is not the expected one, or
        it holds fewer or more bytes than its header announces. The message names the file.
    """
    with opened(path, _largest(most, dimensions)) as file:
        packed = file.peek(2).startswith(GZIP)
        read = Inflated(file.read, gzip=True).read if packed else file.read
        try:
            shape = _shape(path, exactly(read, 4 + 4 * dimensions), dimensions)
            _check_announced(path, shape, most)
            if packed:
                _check_possible(path, shape, size(file))
            else:
                _check_length(path, shape, size(file) - file.tell())
            return _values(path, read, shape)
        except EOFError:
            raise DataError(f"{path}: truncated, its gzip stream ends too early; fetch it again") from None
        except zlib.error as error:
            raise DataError(f"{path}: its gzip stream is damaged ({error}); fetch it again") from error


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write an IDX file, gzipped if its name ends in ``.gz``; the same values give the same bytes.

    Parameters
    ----------
    path : Path
        Overwritten if it exists.
    values : ndarray of uint8, any number of axes up to 255
    """
    content = bytes([0, 0, _UNSIGNED_BYTE, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content += np.ascontiguousarray(values).tobytes()
    if path.suffix == ".gz":
        # Neither name nor time of writing: the sample's files must not change when it is made again.
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as stream:
            stream.write(content)
        content = buffer.getvalue()
    path.write_bytes(content)


def _largest(most: int, dimensions: int) -> int:
    """Bytes of a file of `most` values: what cannot be packed grows by some bytes."""
    return most + most // 1000 + 4 * dimensions + 1024


def _shape(path: Path, header: bytes, dimensions: int) -> tuple[int, ...]:
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    # A file shorter than its magic number is compared as far as it goes, and is then called truncated, not wrong.
    if header[:4] != magic[: len(header)]:
        raise DataError(
            f"{path}: wrong magic number 0x{header[:4].hex()}, expected 0x{magic.hex()} "
            f"(an IDX file of unsigned bytes in {dimensions} dimensions); is this the right file?"
        )
    expected = 4 + 4 * dimensions
    if len(header) < expected:
        raise DataError(f"{path}: truncated inside its header ({len(header)} of {expected} bytes); fetch it again")
    return struct.unpack(f">{dimensions}I", header[4:])


def _values(path: Path, read: Read, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    values = np.empty(math.prod(shape), dtype=np.uint8)
    got = fill(read, values.data)
    # One more chunk tells whether there is more; how much more is not worth unpacking it.
    got += len(exactly(read, CHUNK))
    _check_length(path, shape, got)
    return values.reshape(shape)


def _announced(shape: tuple[int, ...]) -> str:
    return f"its header announces {' x '.join(map(str, shape))} = {math.prod(shape)} values"


def _check_announced(path: Path, shape: tuple[int, ...], most: int) -> None:
    # Empty axes count as one: 0 x 4 billion x 4 billion holds nothing, and is no shape of an array either.
    if math.prod(max(n, 1) for n in shape) > most:
        raise DataError(f"{path}: {_announced(shape)}, and a file of its kind holds {most:,} at most; fetch it again")


def _check_possible(path: Path, shape: tuple[int, ...], packed: int) -> None:
    if math.prod(shape) > packed * RATIO:
        raise DataError(
            f"{path}: truncated; {_announced(shape)}, more than its {packed:,} bytes can unpack to; fetch it again"
        )


def _check_length(path: Path, shape: tuple[int, ...], got: int) -> None:
    expected = math.prod(shape)
    announced = f"{_announced(shape)}, got {got}"
    if got < expected:
        raise DataError(f"{path}: truncated; {announced}; fetch it again")
    if got > expected:
        more = "or more " if got - expected == CHUNK else ""
        raise DataError(f"{path}: {got - expected} {more}trailing bytes; {announced}; fetch it again")
