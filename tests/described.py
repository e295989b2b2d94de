"""What a test writes into a run in place of what the run says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dropdiag.store.digests import sealed
from dropdiag.store.folder import as_json


def write_meta(file: Path, meta: dict[str, Any]) -> None:
    """Write a ``run.json`` or ``rank.json`` as dropdiag does, with its digest."""
    file.write_bytes(sealed(as_json({key: value for key, value in meta.items() if key != "sha256"})))
