"""Which process writes a run, and whether it is still there."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_PROC: Final = Path("/proc")


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others: host, and what `is_gone` compares.

    ``process`` holds pid, and on Linux when the process began (in clock ticks since the machine did), the boot and the
    namespace of process numbers, so that a number that was given to another process later is not taken for it.
    """
    process: dict[str, Any] = {"pid": os.getpid()}
    if _began(os.getpid()) is not None:  # Linux
        process |= {"began": _began(os.getpid()), "boot": _boot(), "namespace": _namespace()}
    return {"host": socket.gethostname(), "process": process}


def is_gone(session: Mapping[str, Any]) -> bool | None:
    """Whether the process of a session has ended; None where that cannot be told: another host, no process known.

    Parameters
    ----------
    session : mapping
        As ``run.json`` has it.
    """
    process = session.get("process")
    if not isinstance(process, Mapping) or session.get("host") != socket.gethostname():
        return None
    if _PROC.joinpath("self/stat").exists():  # Linux
        return _is_gone_on_linux(process)
    return _has_no_process(process) if os.name == "posix" else None


def _is_gone_on_linux(process: Mapping[str, Any]) -> bool | None:
    if process.get("boot") != _boot():
        return True if process.get("boot") and _boot() else None  # the machine was started again since
    if process.get("namespace") != _namespace():
        return None  # another container of one name: its processes are not seen from here
    began = _began(process.get("pid"))
    return began is None or began != process.get("began")


def _began(pid: object) -> int | None:
    """When a process began; None where there is none (one that ended and was not waited for is none)."""
    try:
        told = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = told.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def _boot() -> str | None:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _namespace() -> int | None:
    try:
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return None


def _has_no_process(process: Mapping[str, Any]) -> bool | None:
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return False
