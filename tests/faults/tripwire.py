"""Every operation on the files of a folder, seen as it happens: counted, told, or the place where a process is killed.

Python tells of opening, renaming, removing and listing by audit events, before they are done. Of writing, syncing and
closing it tells nothing: these are patched, and seen before and after, a write also when half of it is done. All of it
stays for the life of a process, so it is armed in children alone.
"""

# ruff: noqa: PTH100, PTH115, PTH117, PTH118
# A path is looked at as text: pathlib's own calls would be seen as operations.

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "os.link", "os.symlink"),
    *("os.truncate", "os.utime", "os.chmod", "shutil.rmtree", "shutil.move", "shutil.copyfile", "shutil.copytree"),
}
OnOperation = Callable[[int, str, str], None]
"""What is called with the number of an operation (from 1), what it is, and the path."""


class Tripwire:
    """Counts the operations on files below a folder, and calls for each."""

    def __init__(self, folder: Path, on_operation: OnOperation) -> None:
        self._folder, self._on_operation = str(folder), on_operation
        self._lock, self._inside = threading.RLock(), threading.local()
        self.count = 0

    def touch(self, what: str, path: str) -> None:
        with self._lock:
            self.count += 1
            self._on_operation(self.count, what, path)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and not getattr(self._inside, "busy", False):
            self._inside.busy = True
            try:
                for path in _paths(arguments):
                    if self.watches(path):
                        self.touch(event, path)
                        break
            finally:
                self._inside.busy = False

    def watches(self, path: str) -> bool:
        return path == self._folder or path.startswith(self._folder + os.sep)

    def watched_file(self, descriptor: int) -> str | None:
        """Return the path of an open file, if it is one of those that are watched."""
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return None
        return path if self.watches(path) else None


def _paths(arguments: tuple[Any, ...]) -> list[str]:
    """Return the paths among an event's arguments: one that is relative is so to a folder that is open."""
    texts = [os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))]
    folders = [one for one in arguments[1:] if isinstance(one, int) and not isinstance(one, bool) and one > 2]
    if texts and folders and not os.path.isabs(texts[0]):
        try:
            return [os.path.join(os.readlink(f"/proc/self/fd/{folders[-1]}"), texts[0])]
        except OSError:
            return texts
    return texts


def arm(folder: Path, on_operation: OnOperation) -> Tripwire:
    """Watch the files below a folder in this process, for good."""
    wire = Tripwire(folder, on_operation)
    sys.addaudithook(wire.audit)
    for name in ("fsync", "fdatasync", "write", "pwrite", "ftruncate", "close"):
        setattr(os, name, _around(wire, name, getattr(os, name)))
    opened = _opening(wire, io.open)
    io.open = builtins.open = opened  # type: ignore[assignment]
    return wire


def _around(wire: Tripwire, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def patched(descriptor: int, *arguments: Any) -> Any:
        path = wire.watched_file(descriptor) if isinstance(descriptor, int) else None
        if path is None:
            return real(descriptor, *arguments)
        wire.touch(f"before {name}", path)
        found = real(descriptor, *arguments)
        wire.touch(f"after {name}", path)
        return found

    return patched


def _opening(wire: Tripwire, real: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `open` whose binary files that are written are watched."""

    class Watched(io.FileIO):
        def write(self, content: Any) -> int:
            path, view = str(self.name), memoryview(content).cast("B")
            half = len(view) // 2
            wire.touch("before write", path)
            done = super().write(view[:half])
            wire.touch("half written", path)
            done += super().write(view[half:])
            wire.touch("after write", path)
            return done

        def close(self) -> None:
            if self.closed:
                return super().close()
            wire.touch("before close", str(self.name))
            super().close()
            return wire.touch("after close", str(self.name))

    def patched(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        path = wire.watched_file(file) if isinstance(file, int) else os.path.abspath(os.fsdecode(file))
        written = "b" in mode and not {"r", "+"} & set(mode)
        if path is None or not written or not wire.watches(path):
            return real(file, mode, *arguments, **options)
        raw = Watched(file, mode.replace("b", ""), closefd=options.get("closefd", True), opener=options.get("opener"))
        if isinstance(file, int):
            raw.name = path
        return io.BufferedWriter(raw)

    return patched


def killing(at: int) -> OnOperation:
    """Return what kills the process at an operation."""

    def kill(number: int, what: str, path: str) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def stopping(at: int) -> OnOperation:
    """Return what stops the process at an operation, until somebody lets it go on."""

    def stop(number: int, what: str, path: str) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGSTOP)

    return stop
