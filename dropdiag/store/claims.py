"""Two new runs at one place of an object store: one of them goes on, the other gives up before it records anything.

On a disk, whoever makes the folder has the run. A store has no folders, and not each can put an object under the
condition that there is none; so each session puts its own file first, and looks for others then. Of two that do, at
least one sees the other.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from dropdiag.errors import RunError
from dropdiag.store.leftovers import is_session_file
from dropdiag.store.storage.chosen import storage_of

WAIT_SECONDS: Final = 5.0
"""For how long a session waits for one behind it, which is about to give up, or has the run already."""
LOOK_SECONDS: Final = 0.1


class TakenError(RunError):
    """Another process has just begun a run at the place of a new one."""


def taken(path: Path) -> TakenError:
    """Return the error of whoever gives up."""
    return TakenError(
        f"another process has just begun a run in {path}, and nothing is ever overwritten; choose another "
        'path, or let one be chosen below a folder (name="auto")'
    )


def claim(main: Path, own: Path, content: bytes) -> None:
    """Put ``run.json`` of a new run whose session has its file in place, unless another process began one meanwhile.

    Parameters
    ----------
    main : Path
        ``run.json``, or the ``rank.json`` of a rank.
    own : Path
        The session's file; it is removed where the session gives up.
    content : bytes

    Raises
    ------
    TakenError
        If another process has it.
    """
    storage = storage_of(main)
    try:
        until = time.monotonic() + WAIT_SECONDS
        while others := [name for name in storage.names(own.parent) if is_session_file(name) and name != own.name]:
            if min(others) < own.name or storage.kind(main) is not None:
                raise taken(main.parent)
            if time.monotonic() > until:  # it was killed just then; were it not, both would be known by their files
                break
            time.sleep(LOOK_SECONDS)
        with storage.put(main, main, replaces=False) as file:
            file.write(content)
    except FileExistsError:
        storage.remove([own])
        raise taken(main.parent) from None
    except TakenError:
        storage.remove([own])
        raise
