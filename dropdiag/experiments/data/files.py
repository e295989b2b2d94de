"""Data files, opened so that none of them blocks, and none is read that is absurdly large."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from dropdiag.errors import DataError, RunError
from dropdiag.printable import bare
from dropdiag.store.regular import open_regular

LIMIT: Final = 220_000_000
"""Bytes that the files of a data set may have, in an archive or a folder: CIFAR's have 187 million together."""

CHUNK: Final = 1 << 18
"""Bytes that are read and unpacked at a time."""

_SHOWN: Final = 80


def there(path: Path) -> bool:
    """Whether something other than a folder has this name: a pipe, too, whose fault is told when it is opened."""
    try:
        return path.exists() and not path.is_dir()
    except PermissionError:  # also told when it is opened
        return True
    except (OSError, ValueError):  # a name that is too long for a file, or none at all
        return False


@contextmanager
def opened(path: Path, limit: int | None = None) -> Iterator[io.BufferedReader]:
    """Open a data file.

    Parameters
    ----------
    path : Path
    limit : int, optional
        Bytes that it may have, `LIMIT` by default.

    Raises
    ------
    DataError
        If it is no regular file, has more bytes, or cannot be read: also while it is read, within the context.
    """
    try:
        with _open(path) as file:
            _check_size(path, size(file), LIMIT if limit is None else limit)
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> io.BufferedReader:
    try:
        return io.BufferedReader(cast(io.RawIOBase, open_regular(path)), CHUNK)
    except RunError as error:
        raise DataError(f"{path}: cannot be read ({str(error).removeprefix(f'{path} ')})") from None
    except ValueError as error:  # a name with a zero in it
        raise DataError(f"{path}: cannot be read ({error})") from error


def size(file: io.BufferedReader) -> int:
    """Bytes that an open file has."""
    return os.fstat(file.fileno()).st_size


def content(path: Path, limit: int | None = None) -> bytes:
    """Read a data file whole.

    Raises
    ------
    DataError
        As `opened`.
    """
    with opened(path, limit) as file:
        return file.read(size(file))


def _check_size(path: Path, got: int, limit: int) -> None:
    if got > limit:
        raise DataError(
            f"{path}: has {got:,} bytes, and a file of its kind {limit:,} at most; it is not read: fetch it again"
        )


def shown(text: str) -> str:
    """Return text from a file as it may stand in a message: short, and without what moves a terminal's cursor."""
    return bare(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...", "?")
