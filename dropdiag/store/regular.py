"""Files that come from others, opened so that none of them blocks, runs on without end, or lies elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from dropdiag.errors import RunError

_FLAGS: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> BinaryIO:
    """Open a file to read its bytes, if it is a regular one; never waits for whoever writes to a pipe.

    Parameters
    ----------
    path : path
    root : path, optional
        The folder in which the file must lie, links followed; the folder itself may be a link.

    Raises
    ------
    RunError
        If it is a folder, a pipe, a socket or a device, or a link leads out of ``root``.
    OSError
        As `open` raises it: there is none, or it may not be read.
    """
    _check_regular(path, _mode(path))  # before it is opened: to open some devices does things
    descriptor = os.open(path, _FLAGS)
    try:
        opened = os.fstat(descriptor)
        _check_regular(path, opened.st_mode)
        if root is not None:
            _check_inside(Path(path), Path(root), opened)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | os.PathLike[str], limit: int, root: str | os.PathLike[str] | None = None) -> bytes:
    """Read a regular file whole.

    Parameters
    ----------
    path, root
        As of `open_regular`.
    limit : int
        Bytes that it may have.

    Raises
    ------
    RunError
        As `open_regular`, and if it has more bytes: nothing is read then.
    OSError
        As `open_regular`, and if it cannot be read.
    """
    with open_regular(path, root) as file:
        check_size(path, os.fstat(file.fileno()).st_size, limit)
        parts, left = list[bytes](), limit + 1  # it may have grown since, and files of the system tell no size
        while left and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    check_size(path, limit + 1 - left, limit)
    return b"".join(parts)


def check_size(path: str | os.PathLike[str], size: int, limit: int) -> None:
    """Raise `RunError` if a file has more bytes than it may."""
    if size > limit:
        raise RunError(
            f"{os.fspath(path)} has {size:,} bytes, and one of its kind has {limit:,} at most; it is not read: "
            "get the file anew from where it came"
        )


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - of thousands of files
    except FileNotFoundError:
        if os.path.islink(path):  # noqa: PTH114
            raise RunError(f"{os.fspath(path)} is a link that leads nowhere; put the file itself there") from None
        raise


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no regular file")
    raise RunError(f"{os.fspath(path)} is {kind}, not a file that can be read; put the file itself there")


def _check_inside(path: Path, root: Path, opened: os.stat_result) -> None:
    """Raise `RunError` if the file that was opened does not lie in a folder."""
    if not _has_links(path, root):
        return
    real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if folder not in real.parents or not os.path.samestat(real.stat(), opened):
        raise RunError(
            f"{path} is a link that leads out of {root}, to {real}; links out of it are not followed: "
            "copy the file to its place"
        )


def _has_links(path: Path, root: Path) -> bool:
    """Whether a link lies on the way from a folder to a file in it, or the way is not told by their names."""
    try:
        inside = path.relative_to(root).parts
    except ValueError:
        return True
    place = os.fspath(root)
    for part in inside:
        place = os.path.join(place, part)  # noqa: PTH118 - of thousands of files
        if part == ".." or stat.S_ISLNK(os.lstat(place).st_mode):
            return True
    return False
