"""Names of the segments of a run folder."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"(?P<table>[a-z]+)-(?P<first>\d{6,})(?:-(?P<last>\d{6,}))?\.parquet")


class Segment(NamedTuple):
    """One Parquet file: a table's rows of the flushes ``first`` to ``last``."""

    table: str
    first: int
    last: int
    path: Path


def segment_path(folder: Path, table: str, first: int, last: int) -> Path:
    """Return where a segment lies: ``TABLE-FIRST.parquet``, or ``TABLE-FIRST-LAST.parquet`` once joined."""
    name = f"{table}-{first:06d}" if first == last else f"{table}-{first:06d}-{last:06d}"
    return folder / f"{name}.parquet"


def list_segments(folder: Path) -> list[Segment]:
    """List a rank's segments in the order they were written, without those that a joined one stands for.

    Parameters
    ----------
    folder : Path
        A ``rank-N`` folder; one that does not exist has none. Files with other names are passed over.
    """
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match:
            first = int(match["first"])
            found.append(Segment(match["table"], first, int(match["last"] or first), path))
    joined = [s for s in found if s.last > s.first]
    kept = [s for s in found if not any(_stands_for(j, s) for j in joined)]
    return sorted(kept, key=lambda s: (s.table, s.first))


def _stands_for(joined: Segment, part: Segment) -> bool:
    if joined is part or joined.table != part.table:
        return False
    inside = joined.first <= part.first and part.last <= joined.last
    return inside and (part.last - part.first) < (joined.last - joined.first)


def session_of(segment: Segment, session_starts: Sequence[int]) -> int:
    """Return which session (0, 1, ...) wrote a segment, from the number of each session's first segment."""
    return bisect_right(session_starts, segment.first) - 1
