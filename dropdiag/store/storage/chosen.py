"""The storage of a path."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dropdiag.store.storage.disk import Disk
from dropdiag.store.storage.objects import Objects
from dropdiag.store.storage.protocol import Storage

DISK: Final = Disk()
OBJECTS: Final = Objects()


def storage_of(path: Path) -> Storage:
    """Return what reads and writes a path, of a disk or of an object store."""
    return DISK if isinstance(path, Path) else OBJECTS
