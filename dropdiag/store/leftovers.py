"""What a session that was killed while it began leaves: a rank's folder that has no name yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dropdiag.store.segments import SHORT

_LEFTOVER: Final = re.compile(rf"\.rank-\d+\.[0-9a-f]{{{SHORT}}}\.tmp")
_SESSION: Final = re.compile(rf"session-\d{{6,}}\.[0-9a-f]{{{SHORT}}}\.json")


def leftover(folder: Path, session: str) -> Path:
    """Return the name that a rank's folder has while a session makes it; one that is left holds nothing recorded."""
    return folder.with_name(f".{folder.name}.{session}.tmp")


def is_leftover(name: str) -> bool:
    """Whether a name in a run folder is that of a rank's folder which a session was making when it was killed."""
    return _LEFTOVER.fullmatch(name) is not None


def is_session_file(name: str) -> bool:
    """Whether a name is that of a session's own file."""
    return _SESSION.fullmatch(name) is not None
