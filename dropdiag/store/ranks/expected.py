"""Which ranks a run should have, by its sessions, and which of them are missing or fell silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dropdiag.store.folder import RANK_FILE, RUN_FILE
from dropdiag.store.ranks.members import Rank
from dropdiag.store.segments import FLUSHING_RANKS, rank_folder
from dropdiag.store.storage.chosen import storage_of

SILENT_SECONDS: Final = 60.0
"""Ranks that record write every ten seconds: one that wrote so much earlier than another does not any more. Of more
ranks than `FLUSHING_RANKS` each writes less often."""


@dataclass(frozen=True)
class Session:
    """One session of a run, and who should have recorded it.

    Attributes
    ----------
    id : str or None
    from_step : int
        It recorded the steps after this one.
    until : int or None
        Up to this one, from which the next session went on; None of the last one.
    world_size : int
    alone : bool
        Whether rank 0 recorded alone, by the user's wish.
    """

    id: str | None
    from_step: int
    until: int | None
    world_size: int
    alone: bool

    @property
    def expected(self) -> range:
        """Ranks that should have recorded it."""
        return range(1 if self.alone else self.world_size)

    def had(self, rank: Rank) -> bool:
        """Whether a rank took part."""
        own = (one.get("id") for one in rank.meta["sessions"])
        return not rank.number or (self.id is not None and self.id in own)


def is_of_several(meta: Mapping[str, Any]) -> bool:
    """Whether ``run.json`` says that several processes took part in a session; old runs say nothing of it."""
    listed = meta.get("sessions") or ()
    return any((one.get("world_size") or 1) != 1 for one in listed if isinstance(one, dict))


def sessions_of(meta: Mapping[str, Any]) -> list[Session]:
    """Return the sessions of a run of which anything counts, the last one always."""
    told = meta.get("ranks")
    ranks: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    listed = [one for one in meta.get("sessions") or () if isinstance(one, Mapping)]
    found = []
    for place, one in enumerate(listed):
        until = min((int(later.get("from_step") or 0) for later in listed[place + 1 :]), default=None)
        begun = int(one.get("from_step") or 0)
        if until is not None and until <= begun:  # all of it was recorded anew
            continue
        recorded = one.get("recorded", ranks.get("recorded", "all"))
        found.append(Session(one.get("id"), begun, until, int(one.get("world_size") or 1), recorded != "all"))
    return found


def missing(sessions: Sequence[Session], ranks: Sequence[Rank]) -> dict[int, list[Session]]:
    """Return the ranks that had no part in sessions that they should have recorded: rank -> these."""
    by_number = {rank.number: rank for rank in ranks}
    found: dict[int, list[Session]] = {}
    for session in sessions:
        for number in session.expected:
            rank = by_number.get(number)
            if rank is None or not session.had(rank):
                found.setdefault(number, []).append(session)
    return found


def silent(path: Path, last: Session, ranks: Sequence[Rank]) -> list[Rank]:
    """Return the ranks that stopped recording before the others: they were killed, or failed.

    A rank that completed with fewer steps, as of data that do not divide evenly, is none of them. While all are still
    recording, one is a little behind another.
    """
    here = [rank for rank in ranks if last.had(rank)]
    furthest = max((rank.steps for rank in here), default=0)
    behind = [rank for rank in here if rank.steps < furthest and rank.state != "completed"]
    if not behind:
        return []
    if any(rank.state == "completed" for rank in here):
        return behind
    written = {rank.number: _written(path, rank) for rank in here}
    latest = max(written.values())
    patience = SILENT_SECONDS * max(last.world_size / FLUSHING_RANKS, 1.0)
    return [rank for rank in behind if rank.state != "running" or latest - written[rank.number] > patience]


def _written(path: Path, rank: Rank) -> float:
    """When a rank last wrote what it says of itself, with each flush."""
    file = rank_folder(path, rank.number) / RANK_FILE if rank.number else path / RUN_FILE
    try:
        return storage_of(file).modified(file)
    except OSError:  # just replaced, or gone: reading will tell
        return 0.0
