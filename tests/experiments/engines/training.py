"""A training that needs no torch: it makes a folder and ends as it is told.

python training.py FOLDER HOW
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from dropdiag.errors import RunError
from dropdiag.experiments.engines.inside import training_process
from dropdiag.experiments.engines.report import Report


def train(report: Report) -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2]
    again = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    report.step(1, 0.25)
    if how == "wait" or (how == "wait the first time" and not again):
        wait_for_ever(folder)
    else:
        HOW[how]()
    report.step(2, 0.75)
    (folder / "whole").touch()


def wait_for_ever(folder: Path) -> None:
    try:
        (folder / "waiting").touch()
        threading.Event().wait()
    finally:
        (folder / "closed").touch()


def fail() -> None:
    raise ValueError("too large")


def refuse() -> None:
    raise RunError("no room in here")


HOW = {
    "well": lambda: None,
    "well, with a warning": lambda: sys.stderr.write("careful\n"),
    "by SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "by SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "by SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(7)": lambda: os._exit(7),
    "sys.exit(0)": lambda: sys.exit(0),
    "sys.exit(3)": lambda: sys.exit(3),
    "wait the first time": lambda: None,
    "raises": fail,
    "refuses": refuse,
    "with its environment": lambda: sys.stderr.write(
        f"{os.environ.get('OF_THE_LAUNCH')} {os.environ.get('DROPDIAG_REPORT')}"
    ),
}

if __name__ == "__main__":
    sys.exit(training_process(train))
