"""How often files are opened, counted by the kernel: none of our own functions is replaced."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IN_ACCESS, IN_CLOSE, IN_OPEN = 0x1, 0x8 | 0x10, 0x20
IN_Q_OVERFLOW, IN_ISDIR = 0x4000, 0x40000000
EVENT = struct.Struct("iIII")


@contextmanager
def openings(folder: Path) -> Iterator[Counter[str]]:
    """Count how often each file below a folder is opened, by whomever, while the block runs.

    Parameters
    ----------
    folder : Path
        Folders that are made below it meanwhile are not watched.

    Yields
    ------
    Counter of str
        Path from ``folder``, with slashes -> openings. It is filled when the block ends.

    Notes
    -----
    The kernel joins two equal events that follow each other: an opening right after another one of the same file
    would not be counted. So reading and closing are watched, too, and lie between any two.
    """
    if sys.platform != "linux":
        pytest.skip("openings are counted by inotify, which Linux alone has")
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    counted: Counter[str] = Counter()
    try:
        watched = {_watch(libc, watcher, at): at for at in (folder, *folder.rglob("*")) if at.is_dir()}
        yield counted
        for number, name in _opened(watcher):
            counted[(watched[number] / name).relative_to(folder).as_posix()] += 1
    finally:
        os.close(watcher)


def _watch(libc: ctypes.CDLL, watcher: int, folder: Path) -> int:
    number = libc.inotify_add_watch(watcher, os.fsencode(folder), IN_OPEN | IN_CLOSE | IN_ACCESS)
    if number < 0:
        raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
    return int(number)


def _opened(watcher: int) -> Iterator[tuple[int, str]]:
    """Yield the watch and the name of each opening that waits to be read."""
    while True:
        try:
            data = os.read(watcher, 1 << 20)
        except BlockingIOError:  # nothing is left
            return
        at = 0
        while at < len(data):
            number, mask, _, length = EVENT.unpack_from(data, at)
            at += EVENT.size + length
            assert not mask & IN_Q_OVERFLOW, "more happened than the kernel keeps: watch a smaller part"
            if mask & IN_OPEN and not mask & IN_ISDIR:
                yield number, data[at - length : at].rstrip(b"\0").decode()
