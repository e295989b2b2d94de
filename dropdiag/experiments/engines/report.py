"""What a training reports: lines of JSON in a file, so that it can be followed from any machine that sees the file.

    {"begun": 4711, "host": "node3"}
    {"step": 40}
    {"step": 78, "accuracy": 0.93}
    {"ended": "completed"}

The last line says ``completed``, ``interrupted``, or ``failed`` with an ``error``. Another attempt appends to the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

COMPLETED: Final = "completed"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"

QUIET_SECONDS: Final = 0.5
"""Steps are reported so often at most: who looks at bars sees no more."""


class Report:
    """Writes what a training reports.

    Parameters
    ----------
    path : Path or None
        None reports to nobody.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._said = -QUIET_SECONDS

    def begin(self) -> None:
        """Say which process it is that trains."""
        self._write(begun=os.getpid(), host=socket.gethostname())

    def step(self, step: int, accuracy: float | None = None) -> None:
        """Say that so many steps are done, and the test accuracy if it was just measured."""
        now = time.monotonic()
        if accuracy is None and now - self._said < QUIET_SECONDS:
            return
        self._said = now
        # A full disk must not end a training for its progress bar: the recorder waits for room, too.
        with contextlib.suppress(OSError):
            self._write(step=step, **({} if accuracy is None else {"accuracy": accuracy}))

    def end(self, how: str, error: str | None = None) -> None:
        """Say how it ended: `COMPLETED`, `FAILED` with an error, or `INTERRUPTED`."""
        self._write(ended=how, **({} if error is None else {"error": error}))

    def _write(self, **event: Any) -> None:
        if self._path is not None:
            # Closed each time: on a network file system others see what was written before a file was closed.
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")


class Reader:
    """Reads what is reported from now on: what an earlier attempt said is passed over.

    Parameters
    ----------
    path : Path
        It need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def news(self) -> list[dict[str, Any]]:
        """Return what was reported since the last call, without a line that is not whole yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        return [event for line in whole.splitlines() if (event := _event(line)) is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    # A process that is killed, or a disk that is full, may leave half a line to which the next attempt appends.
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
