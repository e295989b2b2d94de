"""Where the segments of a run lie, what they are called, and which of their rows count."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from dropdiag.store.storage.chosen import storage_of

_NAME = re.compile(
    r"(?P<table>[a-z]+)-(?P<first>[0-9]{6,15})(?:-(?P<last>[0-9]{6,15}))?"
    r"(?:\.(?P<session>[0-9a-f]{16})\.(?P<digest>[0-9a-f]{32}))?\.parquet"
)
SHORT: Final = 16
"""Digits of a session's identifier that names of files have."""
_HEXADECIMAL: Final = re.compile(rf"[0-9a-f]{{{SHORT}}}")
LAST: Final = 10**12
"""No run comes to such a number: whoever goes on does not begin after one that a name has."""
MANY: Final = 9
"""Gaps among numbers that are told, at most."""
NO_SESSION: Final = "0" * SHORT
"""In the name of a joined segment: its parts did not say which session wrote them, their numbers do."""


class Segment(NamedTuple):
    """One Parquet file: a table's rows of the flushes ``first`` to ``last``.

    Attributes
    ----------
    table : str
    first, last : int
    path : Path
    session : str
        First digits of the identifier of the session that wrote it; empty where its number tells, as before schema 3.
    digest : str
        First digits of the SHA-256 of its bytes; empty before schema 3.
    """

    table: str
    first: int
    last: int
    path: Path
    session: str = ""
    digest: str = ""


class Span(NamedTuple):
    """What one session wrote of a rank's segments, of which steps up to one count.

    Attributes
    ----------
    first_segment : int
        Those from this one on are the session's, where their names do not say whose they are.
    last_step : int or None
        None: all of them count.
    session : str
        What names of its segments have of its identifier.
    last_segment : int or None
        The number of its last segment, which it says when it ends.
    """

    first_segment: int
    last_step: int | None
    session: str = ""
    last_segment: int | None = None


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
    return sorted(name for name in storage_of(run).names(run) if name.startswith("rank-"))


def short(identifier: object) -> str:
    """Return what names of files have of a session's identifier, its first digits; nothing where there is none."""
    text = str(identifier or "")
    if not text or _HEXADECIMAL.match(text):
        return text[:SHORT]
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:SHORT]


def numbered(table: str, first: int, last: int) -> str:
    """Return how the name of a segment begins: with its table, and its number or, once joined, its first and last."""
    return f"{table}-{first:06d}" if first == last else f"{table}-{first:06d}-{last:06d}"


def segment_name(table: str, first: int, last: int, session: str, digest: str) -> str:
    """Return the name of a segment: ``TABLE-FIRST.SESSION.DIGEST.parquet``, ``TABLE-FIRST-LAST...`` once joined."""
    return f"{numbered(table, first, last)}.{session}.{digest}.parquet"


def place_name(folder: Path, table: str, first: int, last: int, session: str) -> str:
    """Return what a segment says of itself inside: the rank's folder, its table, session and numbers."""
    return f"{folder.name} {table} {session} {first}-{last}"


def check_place(segment: Segment, told: bytes | None) -> None:
    """Raise `OSError` unless a segment says inside what its name and folder say; one without a digest says nothing."""
    session = segment.session or NO_SESSION
    expected = place_name(segment.path.parent, segment.table, segment.first, segment.last, session)
    if segment.digest and told != expected.encode():
        found = "nothing" if told is None else told[:200].decode(errors="replace")
        raise OSError(f"it is a copy of another segment, or was renamed: it says {found!r}, and its name {expected!r}")


def list_segments(folder: Path, table: str | None = None) -> list[Segment]:
    """List a rank's segments in the order they were written, without those that a joined one stands for.

    Parameters
    ----------
    folder : Path
        A ``rank-N`` folder; one that does not exist has none. Files with other names are passed over.
    table : {"scalars", "histograms", "states", "derivatives"}, optional
        None is all of them.
    """
    found = [segment for segment in _every_segment(folder) if table in (None, segment.table)]
    # a kill between the rename of a joined segment and the removal of its parts leaves both
    joined = [s for s in found if s.last > s.first]
    kept = [s for s in found if not any(_stands_for(j, s) for j in joined)]
    return sorted(kept, key=lambda s: (s.table, s.first))


def replaced_segments(folder: Path) -> list[tuple[Segment, list[Segment]]]:
    """List the joined segments of a rank that have parts of theirs beside them, and these."""
    every = _every_segment(folder)
    found = [(joined, [s for s in every if _stands_for(joined, s)]) for joined in every if joined.last > joined.first]
    return [(joined, parts) for joined, parts in found if parts]


def _every_segment(folder: Path) -> list[Segment]:
    try:
        names = storage_of(folder).names(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_segment(folder, match) for name in names if (match := _NAME.fullmatch(name))]


def _segment(folder: Path, match: re.Match[str]) -> Segment:
    first = int(match["first"])
    session = match["session"] or NO_SESSION
    return Segment(
        match["table"], first, int(match["last"] or first), folder / match.string,
        "" if session == NO_SESSION else session, match["digest"] or "",
    )  # fmt: skip


def _stands_for(joined: Segment, part: Segment) -> bool:
    if joined is part or (joined.table, joined.session) != (part.table, part.session):
        return False
    inside = joined.first <= part.first and part.last <= joined.last
    return inside and (part.last - part.first) < (joined.last - joined.first)


def place_of(segment: Segment, spans: Sequence[Span]) -> int:
    """Return which session (0, 1, ...) wrote a segment, by its name or else by its number; -1 for none of them."""
    if segment.session:
        return next((place for place, span in enumerate(spans) if span.session == segment.session), -1)
    return bisect_right([span.first_segment for span in spans], segment.first) - 1


class VisibleSegment(NamedTuple):
    """A segment, and the last step of it that no later session recorded anew (None: all of them count)."""

    segment: Segment
    last_step: int | None


def visible_segments(part: Part, table: str, problems: list[str] | None = None) -> list[VisibleSegment]:
    """List the segments of a rank's table in the order they were written.

    Parameters
    ----------
    part : Part
    table : {"scalars", "histograms", "states", "derivatives"}
    problems : list of str, optional
        Gets a sentence on each segment that no known session wrote, which counts nothing.
    """
    every = list_segments(part.folder)
    gaps = [] if problems is None else _gaps(part, every)
    if gaps:  # what comes while a folder is listed may be seen without what came before
        every = list_segments(part.folder)
        gaps = _gaps(part, every)
    found, strange = list[tuple[int, VisibleSegment]](), list[str]()
    for segment in (one for one in every if one.table == table):
        place = place_of(segment, part.spans)
        if place >= 0:
            found.append((place, VisibleSegment(segment, part.spans[place].last_step)))
        else:
            strange.append(_stranger(segment))
    if problems is not None:
        problems += [*strange, *gaps]
    # by session first: those of two that recorded side by side have the same numbers
    return [one for _, one in sorted(found, key=lambda one: (one[0], one[1].segment.first))]


def _gaps(part: Part, every: Sequence[Segment]) -> list[str]:
    """Say which numbers have no segment: a session uses each once, in order, so that files are missing."""
    problems = []
    for span in part.spans:
        # without copies, whose numbers are made up
        own = {one.digest: one for one in reversed(every) if span.session and one.session == span.session}
        if numbers := _missing(span, list(own.values())):
            told = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in numbers[:MANY])
            problems.append(
                f"{part.folder} lacks segments of the session {span.session}, numbers {told}: they were removed; what "
                "they held is missing, the rest of the run is read"
            )
    return problems


def _missing(span: Span, own: Sequence[Segment]) -> list[tuple[int, int]]:
    if not span.session:
        return []
    found, awaited = [], span.first_segment
    for first, last in sorted((segment.first, segment.last) for segment in own):
        if first > awaited:
            found.append((awaited, first - 1))
        awaited = max(awaited, last + 1)
    if span.last_segment is not None and span.last_segment >= awaited:
        found.append((awaited, span.last_segment))
    return found


def _stranger(segment: Segment) -> str:
    return (
        f"{segment.path} is of no session that the run knows: it began after the run was opened, or the file is of "
        "another run; it is left out. Open the run again, or move the file away"
    )


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
        return tuple(map(_span, sessions, counts))
    known = {session.get("id"): last for session, last in zip(sessions, counts, strict=True)}
    known.pop(None, None)
    return tuple(_span(session, known.get(session.get("id"), NOTHING)) for session in own)


def _span(session: Mapping[str, Any], last_step: int | None) -> Span:
    return Span(session["first_segment"], last_step, short(session.get("id")), session.get("last_segment"))


def part_of(run: Path, sessions: Sequence[Mapping[str, Any]]) -> Part:
    """Return rank 0 of a run, whose sessions are as ``run.json`` has them."""
    return Part(rank_folder(run), spans_of(sessions))
