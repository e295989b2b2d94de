"""The inside of a process that trains: it reports, closes its run when told to end, and ends with its launcher."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

from dropdiag.errors import DropdiagError
from dropdiag.experiments.engines.report import COMPLETED, FAILED, INTERRUPTED, Report
from dropdiag.experiments.engines.stop import GRACE_SECONDS

REPORT: Final = "DROPDIAG_REPORT"
"""Environment variable by which a launcher names the file to report to; without it nobody has launched the process."""
IGNORE: Final = "DROPDIAG_IGNORE_SIGNALS"
"""Names of signals that are the launcher's business alone, as in ``SIGTERM,SIGUSR2``."""

INTERRUPTED_CODE: Final = 130


def training_process(train: Callable[[Report], None]) -> int:
    """Do one training, which is all that this process is for, and return its exit code.

    SIGINT, SIGTERM and the end of the launcher become a KeyboardInterrupt, once, so that runs are closed. Without a
    launcher, as when the command was given by hand, there is nobody to report to, and errors are on standard error.

    Parameters
    ----------
    train : callable
        Called with the `Report` to which it tells its steps.

    Returns
    -------
    int
        0 once it is whole, 1 if it raised, 130 if it was interrupted.
    """
    # Taken out of the environment: what the training starts in its turn has not been launched.
    path = os.environ.pop(REPORT, None)
    _take_signals(once=path is not None)
    report = Report(Path(path) if path else None)
    if path is not None:
        report.begin()
        _end_with_launcher()
    return _train(train, report)


def _train(train: Callable[[Report], None], report: Report) -> int:
    try:
        train(report)
    except KeyboardInterrupt:
        report.end(INTERRUPTED)
        return INTERRUPTED_CODE
    except DropdiagError as error:  # says what is wrong: a traceback would only hide it
        sys.stderr.write(f"error: {error}\n")
        report.end(FAILED, in_words(error))
        return 1
    except Exception as error:  # noqa: BLE001 - whatever ends it is reported by name
        traceback.print_exc()
        report.end(FAILED, in_words(error))
        return 1
    report.end(COMPLETED)
    return 0


def in_words(error: BaseException) -> str:
    """Return an error's type and message, or its type alone."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _take_signals(*, once: bool) -> None:
    """Let SIGTERM, and of a launched process SIGINT, interrupt; `once`: a second one does not break what closes."""
    ignored = {name for name in os.environ.pop(IGNORE, "").split(",") if name}
    for name in ignored:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    taken = [name for name in ("SIGINT", "SIGTERM") if name not in ignored and (once or name == "SIGTERM")]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if once:
            for name in taken:
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise KeyboardInterrupt

    for name in taken:
        signal.signal(getattr(signal, name), interrupt)


def _end_with_launcher() -> None:
    """Interrupt this process when its launcher closes standard input, or is gone."""
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # what the training starts must neither read the line nor hold it
    os.close(nothing)

    def watch() -> None:
        while os.read(line, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE_SECONDS)
        os._exit(INTERRUPTED_CODE)  # it hangs, and nobody is left to kill it

    threading.Thread(target=watch, name="dropdiag-launcher", daemon=True).start()
