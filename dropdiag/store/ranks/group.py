"""All ranks of a run: who they are, who is missing, and what they say of themselves together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from dropdiag.errors import RunError
from dropdiag.store.ranks.coverage import numbered
from dropdiag.store.ranks.described import described, with_activations_apart
from dropdiag.store.ranks.expected import Session, is_of_several, missing, sessions_of, silent
from dropdiag.store.ranks.layers import told_apart
from dropdiag.store.ranks.members import Members, Rank, is_folder, members, up_to
from dropdiag.store.segments import rank_folders, rank_name


@dataclass(frozen=True)
class Group:
    """The ranks of a run.

    Attributes
    ----------
    path : Path
    ranks : tuple of Rank
        Those that can be read, in the order in which they are merged: stage by stage, then by number.
    meta : dict
        What they say of themselves together, as ``run.json`` has it.
    world_sizes : tuple of int
        Processes of each session of which anything counts.
    alone : bool
        Whether rank 0 recorded it alone, by the user's wish.
    lacking : dict of int to str
        What is missing of which rank, in words.
    read : int
        Ranks of the last session that are there to its end.
    problems : tuple of str
        A sentence on what is missing, for whoever reads rows.
    """

    path: Path
    ranks: tuple[Rank, ...] = field(repr=False)
    meta: dict[str, Any] = field(repr=False)
    world_sizes: tuple[int, ...]
    alone: bool
    lacking: Mapping[int, str]
    read: int
    problems: tuple[str, ...]

    @property
    def world_size(self) -> int:
        """Processes of the last session."""
        return self.world_sizes[-1]

    @property
    def is_growing(self) -> bool:
        """Whether a rank is still recording, as far as can be told."""
        return any(rank.state == "running" and rank.number not in self.lacking for rank in self.ranks)

    @property
    def told(self) -> str:
        """Who they are, which of them is missing or ended earlier than others, in words."""
        furthest = max(rank.steps for rank in self.ranks)
        others = [rank for rank in self.ranks if rank.number not in self.lacking and rank.state != "running"]
        notes = [f"rank {number}: {why}" for number, why in self.lacking.items()]
        for rank in sorted(others, key=lambda rank: rank.number):
            how = "ended" if rank.state == "completed" else f"ended as {rank.state!r}"
            if rank.steps < furthest or rank.state != "completed":
                notes.append(f"rank {rank.number} {how} at step {rank.steps}")
        return "; ".join([self.words, *notes])

    @property
    def words(self) -> str:
        """How many ranks there are, in words."""
        if self.alone:
            return f"rank 0 of {self.world_size} alone"
        whole = self.read == self.world_size
        said = f"{'' if whole else f'{self.read} of '}{self.world_size} rank{'s' if self.world_size > 1 else ''}"
        before = [str(size) for size, _ in groupby(self.world_sizes)][:-1]
        return f"{said} ({', '.join(before)} before)" if before else said


def group_of(path: Path, meta: Mapping[str, Any]) -> Group | None:
    """Return the ranks of a run; None of one that a process recorded alone.

    Parameters
    ----------
    path : Path
    meta : mapping
        Of its ``run.json``.

    Raises
    ------
    RunError
        If it holds no rank.
    """
    folders = rank_folders(path)
    if folders == [rank_name()] and not is_of_several(meta) and is_folder(path / rank_name()):
        return None
    sessions = sessions_of(meta)
    found = members(path, meta, folders)
    if not found.ranks:
        raise RunError(f"{path} holds no rank that can be read{_why(found)}; a run has a folder {rank_name()}")
    ranks = told_apart(with_activations_apart(found.ranks))
    last = sessions[-1]
    here = [rank for rank in ranks if last.had(rank)]
    quiet = silent(path, last, ranks)
    gone = missing(sessions, ranks)
    lacking = _lacking(found, gone, quiet)
    ranks, here = _written_by_all(ranks, here, quiet)
    whole = [rank for rank in here if rank not in quiet and rank.number in last.expected]
    return Group(
        path, tuple(ranks), described(meta, ranks, here, last.expected),
        tuple(session.world_size for session in sessions),
        last.alone and last.world_size > 1, lacking, len(whole), _problems(path, found, lacking, len(whole), last),
    )  # fmt: skip


def _written_by_all(
    ranks: Sequence[Rank], here: Sequence[Rank], quiet: Sequence[Rank]
) -> tuple[list[Rank], list[Rank]]:
    """Return ranks up to the last step that all which still record have written: they do not write at the same time."""
    live = [rank.steps for rank in here if rank.state == "running" and rank not in quiet]
    if len(here) < 2 or not live:
        return list(ranks), list(here)
    numbers = {rank.number for rank in here}
    known = [up_to(rank, min(live)) if rank.number in numbers else rank for rank in ranks]
    return known, [rank for rank in known if rank.number in numbers]


def _why(found: Members) -> str:
    return "".join(f" ({reason})" for reason in [*found.left_out.values(), *found.problems][:1])


def _lacking(found: Members, gone: Mapping[int, Sequence[Session]], quiet: Sequence[Rank]) -> dict[int, str]:
    known = {rank.number for rank in found.ranks}
    lacking = {}
    for number, sessions in gone.items():
        if number in known:
            lacking[number] = f"recorded nothing of {' and '.join(map(_steps, sessions))}"
        else:
            lacking[number] = found.left_out.get(number, f"it has no folder {rank_name(number)}")
    furthest = max((rank.steps for rank in found.ranks), default=0)
    for rank in quiet:
        lacking[rank.number] = f"recorded up to step {rank.steps} of {furthest} and is {rank.state!r}"
    return dict(sorted(lacking.items()))


def _steps(session: Session) -> str:
    begun = session.from_step + 1
    return f"step {begun} and after" if session.until is None else f"steps {begun} to {session.until}"


def _problems(path: Path, found: Members, lacking: Mapping[int, str], whole: int, last: Session) -> tuple[str, ...]:
    problems = list(found.problems)
    if lacking:
        alike: dict[str, list[int]] = {}
        for number, why in lacking.items():
            alike.setdefault(why.replace(rank_name(number), "rank-N"), []).append(number)
        parts = [f"{numbered(some)}: {lacking[some[0]] if len(some) == 1 else why}" for why, some in alike.items()]
        problems.append(f"{path} is read from {whole} of {len(last.expected)} ranks: {'; '.join(parts)}")
    others = {number: why for number, why in found.left_out.items() if number not in lacking}
    return (*problems, *(f"{why}; it is left out, the rest of the run is read" for why in others.values()))
