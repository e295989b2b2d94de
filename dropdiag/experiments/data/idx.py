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

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Parameters
    ----------
    path : Path
        The file; whether it is gzipped is told from its content, not from its name.
    dimensions : int
        Number of dimensions that it should have: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8, with `dimensions` axes

    Raises
    ------
    DataError
        If the file cannot be read, its gzip stream is damaged, its magic number is not the expected one, or
        it holds fewer or more bytes than its header announces. The message names the file.
    """
    content = _unpacked(path)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    header = 4 + 4 * dimensions
    # A file shorter than its magic number is compared as far as it goes, and is then called truncated, not wrong.
    if content[:4] != magic[: len(content)]:
        raise DataError(
            f"{path}: wrong magic number 0x{content[:4].hex()}, expected 0x{magic.hex()} "
            f"(an IDX file of unsigned bytes in {dimensions} dimensions); is this the right file?"
        )
    if len(content) < header:
        raise DataError(f"{path}: truncated inside its header ({len(content)} of {header} bytes); fetch it again")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    _check_length(path, shape, len(content) - header)
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()


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


def _unpacked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except EOFError:
        raise DataError(f"{path}: truncated, its gzip stream ends too early; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: its gzip stream is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_length(path: Path, shape: tuple[int, ...], got: int) -> None:
    expected = math.prod(shape)
    announced = f"its header announces {' x '.join(map(str, shape))} = {expected} values, got {got}"
    if got < expected:
        raise DataError(f"{path}: truncated; {announced}; fetch it again")
    if got > expected:
        raise DataError(f"{path}: {got - expected} trailing bytes; {announced}; fetch it again")
