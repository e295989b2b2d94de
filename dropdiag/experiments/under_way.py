"""Which runs are being trained: each training holds a lock, so that nobody moves its folder aside or trains beside it.

The lock is the operating system's: it is free as soon as the process is gone, whatever has ended it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from dropdiag.errors import RunError

LAUNCHES: Final = "launches"
"""Folder of what concerns trainings and not their runs: locks, reports, outputs."""

ENDING_SECONDS: Final = 60.0
"""So long a training waits for another one of its run, which may have been told to end."""


@contextlib.contextmanager
def being_trained(out: Path, name: str) -> Iterator[None]:
    """Hold the lock of a run.

    Parameters
    ----------
    out : Path
        Folder of the experiment.
    name : str
        Of the run.

    Raises
    ------
    RunError
        If another process trains it.
    """
    file = _file(out, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(file, timeout=ENDING_SECONDS))
        except Timeout:
            raise RunError(_in_words(out, [name])) from None
        except OSError as error:  # a network file system without locks: there, nobody is held off
            sys.stderr.write(f"warning: {name} cannot be locked ({error}); see that no other process trains it\n")
        yield


def refuse_under_way(out: Path, names: Sequence[str]) -> None:
    """Raise `RunError` if any of these runs is being trained by a process."""
    held = [name for name in names if _is_held(_file(out, name))]
    if held:
        raise RunError(_in_words(out, held))


def _file(out: Path, name: str) -> Path:
    return out / LAUNCHES / f"{name}.lock"


def _is_held(file: Path) -> bool:
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # no locks there, as above
        return False


def _in_words(out: Path, names: Sequence[str]) -> str:
    are = "is" if len(names) == 1 else "are"
    return (
        f"{', '.join(names)} {are} being trained by another process, which holds the lock below {out / LAUNCHES}; "
        "wait until it has ended, or end it"
    )
