"""Start one training as a process, wait for it, say how it ended: what every engine schedules."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from dropdiag.experiments.engines.inside import REPORT
from dropdiag.experiments.engines.launch import End, Launch
from dropdiag.experiments.engines.report import COMPLETED, FAILED, INTERRUPTED, Reader
from dropdiag.experiments.engines.stop import Stop

TAIL: Final = 2_000
"""Bytes of its output that an `End` carries."""

LIKELY: Final = {"SIGKILL": "out of memory, perhaps", "SIGSEGV": "a fault in compiled code"}


def run(launch: Launch, stop: Stop | None = None) -> End:
    """Start a training, wait for it, and return how it ended; whatever becomes of it, nothing is raised.

    Parameters
    ----------
    launch : Launch
    stop : Stop, optional
        Ends it from elsewhere.

    Raises
    ------
    KeyboardInterrupt
        If it comes in this thread; the training was then told to end, and has.
    """
    stop = stop or Stop()
    with stop.launcher():
        if stop.is_set:
            return End(launch.name, "not begun, since all were to end")
        try:
            return _run(launch, stop)
        except OSError as error:
            return End(launch.name, f"it could not be started: {error}")


def _run(launch: Launch, stop: Stop) -> End:
    launch.folder.mkdir(parents=True, exist_ok=True)
    report = Reader(launch.report)
    with launch.output.open("ab") as output:
        output.write(f"== {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC: {launch.in_shell()}\n".encode())
        output.flush()
        begin = output.tell()
        process = _start(launch, output)
    with stop.watching(process):
        code = process.wait()
    error = _in_words(code, report.news(), launch.output)
    return End(launch.name, error, _tail(launch.output, begin))


def _start(launch: Launch, output: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - what is started is what the caller names
        launch.command,
        stdin=subprocess.PIPE,  # never written to: it closes when this process is gone
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **launch.environment, REPORT: str(launch.report)},
        start_new_session=True,  # the terminal's Ctrl-C is for this process, which then ends the training
    )


def _in_words(code: int, news: list[dict[str, Any]], output: Path) -> str | None:
    """Return what ended a training before it was whole, None if it is."""
    last = news[-1] if news else {}
    how = last.get("ended")
    if how == COMPLETED:
        return None
    if how == FAILED and last.get("error"):
        return str(last["error"])
    if how == INTERRUPTED:
        return "it was interrupted"
    ended = _killed(-code) if code < 0 else f"it exited with code {code} before it was over"
    return f"{ended}; what it wrote is in {output}"


def _killed(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"it was killed by signal {number}"
    likely = f": {LIKELY[name]}" if name in LIKELY else ""
    return f"it was killed by signal {number} ({name}){likely}"


def _tail(output: Path, begin: int) -> str:
    with output.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - TAIL))
        return file.read().decode(errors="replace").strip()
