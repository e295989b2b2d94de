"""Copies of one run, and ranks of one training: no replicates, whatever their seeds and conditions say."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from dropdiag.errors import ArgumentError, RunError
from dropdiag.store.run import Run
from dropdiag.store.segments import rank_name
from dropdiag.store.storage.chosen import storage_of

ONE_IDENTIFIER: Final = "they have one identifier"
ONE_TRAINING: Final = "they are ranks of one training"
ONE_CONTENT: Final = "their files are the same, byte by byte"
TABLES: Final = ("scalars-", "histograms-")  # of any two models with one activation, the derivatives are the same
DIGESTED: Final = 16 << 30
"""Bytes of a run that are compared, at most: holes of a file that somebody made take no place on a disk."""
_Files: TypeAlias = tuple[tuple[str, int], ...]


class Once(NamedTuple):
    """Runs without copies.

    Attributes
    ----------
    runs : list of Run
        One of each group of copies, at the place of the first: that which went furthest, of several the first.
    problems : list of str
        A sentence on each that is left out.
    """

    runs: list[Run]
    problems: list[str]


def counted_once(runs: Sequence[Run], *, by_content: bool = True) -> Once:
    """Leave out runs that are copies of others.

    A run that was copied and whose seed or condition was then changed is still the same run: a test over seeds that
    counted it twice would find more than there is. Runs are one where they have one identifier (the Recorder gives
    each run a random one, which a copy takes along), or one folder, or, where one of them was recorded before runs had
    any, where their scalars and histograms are the same, byte by byte: two trainings never are, for they hold times.
    Runs that the ranks of one process group recorded, each a folder of its own, are parts of one training: that of the
    lowest rank counts.

    Parameters
    ----------
    runs : sequence of Run
    by_content : bool
        Whether to compare the files of runs without an identifier: names and sizes first, and only where these are the
        same the content.

    Raises
    ------
    ArgumentError
        If copies are given under two conditions. Which of the two the run belongs to nobody can tell, and either choice
        would decide what comes out.
    """
    groups = _Groups(len(runs))
    named: dict[Hashable, int] = {}
    for place, run in enumerate(runs):
        for key in (run.path, run.id):
            if key is not None:
                groups.join(named.setdefault(key, place), place, ONE_IDENTIFIER)
        training = _rank(run).get("training")
        if training is not None:
            groups.join(named.setdefault(("training", training), place), place, ONE_TRAINING)
    if by_content:
        for same in _same_content(runs):
            for place in same[1:]:
                groups.join(same[0], place, ONE_CONTENT)
    return Once(*_kept(runs, groups))


class _Groups:
    """Which places belong together, and why: each points to an earlier one of its group, or to itself."""

    def __init__(self, size: int) -> None:
        self._first = list(range(size))
        self.why: dict[int, str] = {}

    def root(self, place: int) -> int:
        while self._first[place] != place:
            place = self._first[place]
        return place

    def join(self, one: int, other: int, why: str) -> None:
        one, other = sorted((self.root(one), self.root(other)))
        if one != other:
            self._first[other] = one
            self.why[one] = why

    def members(self) -> Iterable[tuple[int, list[int]]]:
        found: dict[int, list[int]] = {}
        for place in range(len(self._first)):
            found.setdefault(self.root(place), []).append(place)
        return found.items()


def _kept(runs: Sequence[Run], groups: _Groups) -> tuple[list[Run], list[str]]:
    if not groups.why:
        return list(runs), []
    kept, problems = [], []
    for first, members in groups.members():
        # a copy may have been made while the run was recorded: the one that went furthest is the run
        best = runs[max(members, key=lambda place: (
            runs[place].rank is None, int(runs[place].meta.get("steps", 0)), -int(_rank(runs[place]).get("rank", 0)),
            -place
        ))]  # fmt: skip
        kept.append(best)
        for one in (runs[place] for place in members):
            if one is not best:
                _check_conditions(best, one, groups.why[first])
                # one folder given twice is no news, as with paths
                problems += (
                    [] if one.path == best.path else [f"{_told(one, best, groups.why[first])}: they are counted once."]
                )
    return kept, problems


def _told(one: Run, best: Run, why: str) -> str:
    if one.rank is not None:
        return f"{one.path} is a rank of {best.path if best.rank is None else f'one run with {best.path}'}"
    if why == ONE_TRAINING and one.id != best.id:
        return f"{one.path} and {best.path} are ranks {_rank(one)['rank']} and {_rank(best)['rank']} of one training"
    return f"{one.path} is a copy of {best.path} ({why})"


def _rank(run: Run) -> Mapping[str, Any]:
    """Return what ``run.json`` says of the process group that the run was recorded in."""
    told = run.meta.get("ranks")
    return told if isinstance(told, Mapping) else {}


def _check_conditions(one: Run, other: Run, why: str) -> None:
    """Raise `ArgumentError` where one run is under two conditions, unless these are names of folders alone."""
    named = one.names_condition or other.names_condition
    if one.condition == other.condition or not named:
        return
    copied = one.path != other.path
    told = f"{other.path} is a copy of {one.path} ({why}), and they are" if copied else f"{other.path} is"
    raise ArgumentError(
        f"{told} given as {one.condition!r} and as {other.condition!r}; a run belongs to one condition: leave one out"
    )


def _same_content(runs: Sequence[Run]) -> Iterable[list[int]]:
    """Yield the places of runs with the same files, where one of them has no identifier."""
    by_steps = defaultdict[object, list[int]](list)
    for place, run in enumerate(runs):
        by_steps[run.meta.get("steps")].append(place)
    for alike in by_steps.values():
        if len(alike) > 1 and any(runs[place].id is None for place in alike):
            yield from _same_files(runs, alike)


def _same_files(runs: Sequence[Run], places: Sequence[int]) -> Iterable[list[int]]:
    by_sizes = defaultdict[_Files, list[int]](list)
    for place in places:
        sizes = _sizes(runs[place])
        if sizes:  # runs that hold nothing yet are no copies of each other
            by_sizes[sizes].append(place)
    for sizes, alike in by_sizes.items():
        if len(alike) > 1 and any(runs[place].id is None for place in alike):
            by_digest = defaultdict[bytes | int, list[int]](list)
            for place in alike:
                by_digest[_digest(runs[place].path, sizes) or place].append(place)
            yield from (same for same in by_digest.values() if len(same) > 1)


def _sizes(run: Run) -> _Files:
    """Return names, from the run folder, and sizes of the scalars and histograms of all ranks."""
    found: list[tuple[str, int]] = []
    try:
        for name in [rank_name()] if run.group is None else [rank.part.folder.name for rank in run.group.ranks]:
            storage = storage_of(run.path)
            files = {file.name: file.size for file in storage.files(run.path / name)}
            wanted = [
                one for one in storage.names(run.path / name) if one.startswith(TABLES) and one.endswith(".parquet")
            ]
            found += [(f"{name}/{one}", files[one]) for one in wanted]
    except (OSError, KeyError):  # gone, being compacted, or no file: reading it says so
        return ()
    return tuple(sorted(found))


def _digest(path: Path, files: _Files) -> bytes | None:
    """Return a digest of files of a run; None where one cannot be read, so that it is the same as none."""
    digest = hashlib.blake2b(digest_size=32)
    if sum(size for _, size in files) > DIGESTED:
        return None
    try:
        for name, _ in files:
            with storage_of(path).open(path / name, path) as opened:
                while part := opened.file.read(1 << 20):
                    digest.update(part)
    except (OSError, RunError):
        return None
    return digest.digest()
