"""What a test writes into a run in place of what the run says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dropdiag.store.digests import sealed
from dropdiag.store.folder import as_json


def without_digests(run: Path) -> None:
    """Give the segments of a run names without digests, as versions before schema 3 did: what decodes them is tried."""
    for file in run.glob("rank-*/*.parquet"):
        file.rename(file.with_name(f"{file.name.split('.')[0]}.parquet"))
    for file in (run / "run.json", *run.glob("rank-*/rank.json"), *run.glob("rank-*/session-*.json")):
        told = json.loads(file.read_text())
        for session in told["sessions"]:  # it would be missed under its name of today
            session.pop("last_segment", None)
        write_meta(file, told)


def write_meta(file: Path, meta: dict[str, Any]) -> None:
    """Write a ``run.json`` or ``rank.json`` as dropdiag does, with its digest."""
    file.write_bytes(sealed(as_json({key: value for key, value in meta.items() if key != "sha256"})))
