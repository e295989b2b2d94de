"""Children of a driver that has imported everything and has no thread: each costs milliseconds, and may die."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

PATIENCE = 120.0
"""Seconds after which a child hangs."""


class Ended(NamedTuple):
    """How a child ended: what it gave back, or what it died of (a signal, its error's traceback)."""

    value: Any
    killed_by: int | None
    error: str | None

    @property
    def well(self) -> bool:
        return self.killed_by is None and self.error is None


class Child:
    """A child that does something, and gives back what that returns."""

    def __init__(self, action: Callable[..., Any], *arguments: Any) -> None:
        read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(read)
            _live(write, action, arguments)
        os.close(write)
        self._read = read

    def wait(self) -> Ended:
        """Wait for its end."""
        content, hangs = _all_of(self._read)
        if hangs:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._read)
        status = os.waitpid(self.pid, 0)[1]
        if hangs:
            return Ended(None, None, f"it hung for {PATIENCE:.0f} s")
        if os.WIFSIGNALED(status):
            return Ended(None, os.WTERMSIG(status), None)
        value, error = pickle.loads(content) if content else (None, f"it exited with {os.WEXITSTATUS(status)}")  # noqa: S301 - our own child's
        return Ended(value, None, error)

    def stopped(self) -> bool:
        """Wait until it stops, or ends; return whether it stopped."""
        ended = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return ended is not None and ended.si_code == os.CLD_STOPPED

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


def _live(write: int, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        told = action(*arguments), None
    except BaseException:  # noqa: BLE001 - the parent tells of it
        told = None, traceback.format_exc()
    try:
        content = memoryview(pickle.dumps(told))
        while content:
            content = content[os.write(write, content) :]
    finally:
        os._exit(0)


def _all_of(descriptor: int) -> tuple[bytes, bool]:
    parts = []
    while True:
        if not select.select([descriptor], [], [], PATIENCE)[0]:
            return b"", True
        part = os.read(descriptor, 1 << 20)
        if not part:
            return b"".join(parts), False
        parts.append(part)


def forked(action: Callable[..., Any], *arguments: Any) -> Ended:
    """Do something in a child, and wait for its end."""
    return Child(action, *arguments).wait()
