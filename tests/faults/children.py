"""What happens to a process of its own: a fork of this one, which ends as the test asks for."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

SECONDS = 120
"""After which a child that hangs is killed by an alarm."""


class Ended(NamedTuple):
    """How a child ended: its exit status, below 0 by a signal; what its function gave, and what it printed."""

    status: int
    result: Any
    printed: str


def in_child(act: Callable[[], Any], folder: Any, name: str = "child") -> Ended:
    """Do something in a forked child, and return how that ended."""
    import signal

    told, said = folder / f"{name}.json", folder / f"{name}.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that are left behind: that is the subject
        child = os.fork()
    if child == 0:
        status = 70
        try:
            signal.alarm(SECONDS)
            where = os.open(said, os.O_CREAT | os.O_WRONLY)
            os.dup2(where, 1)
            os.dup2(where, 2)
            sys.stdout = sys.stderr = open(where, "w", closefd=False)  # noqa: SIM115 - the child ends with it
            warnings.simplefilter("always")
            content = json.dumps(act())
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
            told.write_text(content)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 71
        except BaseException:  # noqa: BLE001 - it is printed, and the status tells
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    result = json.loads(told.read_text()) if told.exists() else None
    return Ended(os.waitstatus_to_exitcode(waited), result, said.read_text(errors="replace") if said.exists() else "")


def steps_with(path: Any, quantity: str) -> list[int]:
    """Return the steps at which a run holds a number of the network, in order, each as often as it is there."""
    import dropdiag as dd

    scalars = dd.load(path).scalars
    return sorted(scalars[(scalars["quantity"] == quantity) & (scalars["phase"] == "train")]["step"].tolist())


def assert_nothing_twice(path: Any) -> None:
    """Check that each number of a run is there once."""
    import dropdiag as dd

    scalars = dd.load(path).scalars
    assert not scalars.duplicated(["step", "phase", "layer", "call", "quantity"]).any()
