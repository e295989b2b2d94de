"""Names of what a session puts first: its own file, and a rank's folder with that in it, which has no name yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dropdiag.store.segments import SHORT

_LEFTOVER: Final = re.compile(rf"\.rank-\d+\.[0-9a-f]{{{SHORT}}}\.tmp")
SESSION: Final = re.compile(
    rf"session-(?P<number>[0-9]{{6,15}})\.(?P<session>[0-9a-f]{{{SHORT}}})\.(?P<kind>json|superseded)"
)


def leftover(folder: Path, session: str) -> Path:
    """Return the name that a rank's folder has while a session makes it; one that is left holds nothing recorded."""
    return folder.with_name(f".{folder.name}.{session}.tmp")


def is_leftover(name: str) -> bool:
    """Whether a name in a run folder is that of a rank's folder which a session was making when it was killed."""
    return _LEFTOVER.fullmatch(name) is not None


def is_session_file(name: str) -> bool:
    """Whether a name is that of a session's own file."""
    match = SESSION.fullmatch(name)
    return match is not None and match["kind"] == "json"
