"""Where the segments of a run lie, what they are called, and which of their rows count."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

_NAME = re.compile(r"(?P<table>[a-z]+)-(?P<first>\d{6,})(?:-(?P<last>\d{6,}))?\.parquet")


class Segment(NamedTuple):
    """One Parquet file: a table's rows of the flushes ``first`` to ``last``."""

    table: str
    first: int
    last: int
    path: Path


class Span(NamedTuple):
    """What one session wrote of a rank's segments: those from ``first_segment`` on, of which steps up to one count."""

    first_segment: int
    last_step: int | None


class Part(NamedTuple):
    """The segments of one rank of a run, and which of their rows count.

    Attributes
    ----------
    folder : Path
        A ``rank-N`` folder.
    spans : tuple of Span
        A session each, by first segment. Segments before the first belong to none, and count nothing.
    """

    folder: Path
    spans: tuple[Span, ...]


FLUSHING_RANKS: Final = 16
"""Of more ranks each flushes less often, so that the files of all come no faster than those of so many."""
NOTHING: Final = -1
"""The last step of a session of which nothing counts."""


def rank_folder(run: Path, rank: int = 0) -> Path:
    """Return the folder with the segments of one process of a run."""
    return run / rank_name(rank)


def rank_name(rank: int = 0) -> str:
    """Return the name of that folder."""
    return f"rank-{rank}"


def rank_folders(run: Path) -> list[str]:
    """Return the names of a run's rank folders, sorted as text."""
    return sorted(name for name in os.listdir(run) if name.startswith("rank-"))  # noqa: PTH208 - of thousands


def segment_path(folder: Path, table: str, first: int, last: int) -> Path:
    """Return where a segment lies: ``TABLE-FIRST.parquet``, or ``TABLE-FIRST-LAST.parquet`` once joined."""
    name = f"{table}-{first:06d}" if first == last else f"{table}-{first:06d}-{last:06d}"
    return folder / f"{name}.parquet"


def list_segments(folder: Path, table: str | None = None) -> list[Segment]:
    """List a rank's segments in the order they were written, without those that a joined one stands for.

    Parameters
    ----------
    folder : Path
        A ``rank-N`` folder; one that does not exist has none. Files with other names are passed over.
    table : {"scalars", "histograms", "states", "derivatives"}, optional
        None is all of them.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - of thousands, several times as fast
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    found = [_segment(folder, match) for match in matches if table in (None, match["table"])]
    # a kill between the rename of a joined segment and the removal of its parts leaves both
    joined = [s for s in found if s.last > s.first]
    kept = [s for s in found if not any(_stands_for(j, s) for j in joined)]
    return sorted(kept, key=lambda s: (s.table, s.first))


def _segment(folder: Path, match: re.Match[str]) -> Segment:
    first = int(match["first"])
    return Segment(match["table"], first, int(match["last"] or first), folder / match.string)


def _stands_for(joined: Segment, part: Segment) -> bool:
    if joined is part or joined.table != part.table:
        return False
    inside = joined.first <= part.first and part.last <= joined.last
    return inside and (part.last - part.first) < (joined.last - joined.first)


def session_of(segment: Segment, session_starts: Sequence[int]) -> int:
    """Return which session (0, 1, ...) wrote a segment, from the number of each session's first segment."""
    return bisect_right(session_starts, segment.first) - 1


class VisibleSegment(NamedTuple):
    """A segment, and the last step of it that no later session recorded anew (None: all of them count)."""

    segment: Segment
    last_step: int | None


def visible_segments(part: Part, table: str) -> list[VisibleSegment]:
    """List the segments of a rank's table in the order they were written.

    Parameters
    ----------
    part : Part
    table : {"scalars", "histograms", "states", "derivatives"}
    """
    starts = [span.first_segment for span in part.spans]
    placed = [(segment, session_of(segment, starts)) for segment in list_segments(part.folder, table)]
    return [VisibleSegment(segment, part.spans[place].last_step) for segment, place in placed if place >= 0]


def spans_of(sessions: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]] | None = None) -> tuple[Span, ...]:
    """Return which of a rank's rows count: a session that resumed at ``from_step`` hides what was recorded after it.

    Parameters
    ----------
    sessions : sequence of dict
        Those of the run, as ``run.json`` has them.
    own : sequence of dict, optional
        Those that the rank took part in, as its ``rank.json`` has them: of one that the run does not know, nothing
        counts. Default: the run's, which are those of rank 0.
    """
    resumed = [session["from_step"] for session in sessions]
    counts = [min(resumed[place + 1 :], default=None) for place in range(len(sessions))]
    if own is None:
        return tuple(Span(session["first_segment"], last) for session, last in zip(sessions, counts, strict=True))
    known = {session.get("id"): last for session, last in zip(sessions, counts, strict=True)}
    known.pop(None, None)
    return tuple(Span(session["first_segment"], known.get(session.get("id"), NOTHING)) for session in own)


def part_of(run: Path, sessions: Sequence[Mapping[str, Any]]) -> Part:
    """Return rank 0 of a run, whose sessions are as ``run.json`` has them."""
    return Part(rank_folder(run), spans_of(sessions))
