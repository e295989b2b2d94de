"""Whether a run may be resumed: another process that still records it is noticed early, where that can be told.

Nothing rests on it. Two processes that record one run all the same have names of their own for every file that they
write, and readers tell them apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import RunError
from dropdiag.store.processes import is_gone
from dropdiag.store.storage.chosen import storage_of

EXPIRES_AFTER: Final = 120.0
"""Seconds after which a process on another host that has not written is taken for gone: a run writes every ten."""
_writing: set[str] = set()
"""Identifiers of the sessions that this process records."""


def takes(session: str) -> None:
    """Note that this process records a session."""
    _writing.add(session)


def gives_back(session: str) -> None:
    """Note that it does so no more."""
    _writing.discard(session)


def may_record(session: Mapping[str, Any]) -> bool | None:
    """Whether the process of a session still records it; None where that cannot be told."""
    gone = is_gone(session)
    if gone is False and session.get("process", {}).get("pid") == os.getpid():
        return session.get("id") in _writing  # a Recorder of this process that was lost records no more
    return None if gone is None else not gone


def check_free(path: Path, meta: Mapping[str, Any]) -> None:
    """Raise `RunError` where another process still records a run, as far as can be told.

    Parameters
    ----------
    path : Path
    meta : mapping
        Of its ``run.json``.
    """
    last = meta["sessions"][-1] if meta["sessions"] else {}
    if meta["state"] != "running" or "process" not in last:  # it ended, or began before processes were noted
        return
    where = f"process {last['process'].get('pid')} on {last.get('host')!r}"
    still = may_record(last)
    if still:
        raise RunError(
            f"{path} is still being recorded, by {where}: close its Recorder or end it first, or go on all the same "
            'with resume="force", which loses nothing: what that one records from there on is hidden'
        )
    if still is None:
        _check_expired(path, where, float(last.get("expires_after", EXPIRES_AFTER)))


def _check_expired(path: Path, where: str, patience: float) -> None:
    try:
        ago = storage_of(path).written_ago(path / "run.json")
    except OSError as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"cannot record in {path}: {error}; copy the run to where it can be written") from error
    if ago < patience:
        raise RunError(
            f"{path} was written {ago:.0f} s ago by {where}, and whether that still runs cannot be seen from here: "
            f'wait until it has not written for {patience:.0f} s, or go on all the same with resume="force"'
        )
