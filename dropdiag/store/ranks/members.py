"""The ranks of a run: what each says of itself, and which folders are left out."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from dropdiag.errors import RunError
from dropdiag.store.folder import RANK_FILE, described
from dropdiag.store.segments import NOTHING, Part, rank_folder, spans_of
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import is_remote

_FOLDER: Final = re.compile(r"rank-(?P<rank>0|[1-9]\d*)")
_NEEDED: Final = ("layers", "sessions", "state", "steps")


@dataclass(frozen=True)
class Rank:
    """One process of a run.

    Attributes
    ----------
    number : int
    meta : mapping
        Of its ``rank.json``; of rank 0 that of ``run.json``.
    part : Part
        Its segments.
    renamed : dict of str to str
        Layers that are called otherwise in the merged run, for another stage has others of their name.
    functions : dict of str to str
        Activations that are, for another rank has other functions of their name.
    whole : Part or None
        Its segments with the steps that other ranks have not written yet, where there may be any.
    """

    number: int
    meta: Mapping[str, Any] = field(repr=False)
    part: Part = field(repr=False)
    renamed: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    whole: Part | None = field(default=None, repr=False)

    @property
    def own(self) -> Part:
        """Its segments, where it is read by itself."""
        return self.part if self.whole is None else self.whole

    @property
    def told(self) -> Mapping[str, Any]:
        """What it says of its place in the training."""
        told = self.meta.get("ranks")
        return told if isinstance(told, Mapping) else {}

    @property
    def batch(self) -> Hashable:
        """Ranks of the same one got the same batch; by default each has its own."""
        batch = self.told.get("batch")
        return ("rank", self.number) if batch is None else ("batch", batch)

    @property
    def shard(self) -> int:
        """Its place among the ranks of its batch."""
        return int(self.told.get("shard") or 0)

    @property
    def stage(self) -> int | None:
        """Its stage of a pipeline; None where there is none."""
        stage = self.told.get("stage")
        return None if stage is None else int(stage)

    @property
    def steps(self) -> int:
        """The last step that it recorded."""
        return int(self.meta.get("steps") or 0)

    @property
    def read_to(self) -> int:
        """The last step that is read of it."""
        last = self.part.spans[-1].last_step
        return self.steps if last is None else min(self.steps, last)

    @property
    def state(self) -> str:
        """How it ended: "running", "completed", "failed" or "interrupted"."""
        return str(self.meta.get("state"))


def up_to(rank: Rank, step: int) -> Rank:
    """Return a rank of whose last session the steps up to one count."""
    *before, last = rank.part.spans
    until = step if last.last_step is None else min(last.last_step, step)
    return replace(rank, part=rank.part._replace(spans=(*before, last._replace(last_step=until))), whole=rank.part)


class Members(NamedTuple):
    """The ranks of a run.

    Attributes
    ----------
    ranks : list of Rank
        Stage by stage, then by number: the order in which their rows are merged.
    left_out : dict of int to str
        Why others that have a folder are not among them.
    problems : list of str
        A sentence on each folder that is no rank's.
    """

    ranks: list[Rank]
    left_out: dict[int, str]
    problems: list[str]


def members(path: Path, meta: Mapping[str, Any], folders: Sequence[str]) -> Members:
    """Read what each rank of a run says of itself.

    Parameters
    ----------
    path : Path
        The run folder.
    meta : mapping
        Of its ``run.json``.
    folders : sequence of str
        Names of its rank folders.
    """
    found: list[Rank] = []
    left_out: dict[int, str] = {}
    problems: list[str] = []
    for name in folders:
        match = _FOLDER.fullmatch(name)
        if match is None:
            problems.append(f"{path / name} is no rank's folder; it is left out, the rest of the run is read")
            continue
        number = int(match["rank"])
        try:
            rank, remarks = _member(path, meta, number)
            found.append(rank)
            problems += remarks
        except RunError as error:
            left_out[number] = str(error)
    return Members(sorted(found, key=lambda rank: (rank.stage or 0, rank.number)), left_out, problems)


def is_folder(path: Path) -> bool:
    """Whether a folder of a rank, which its run has listed, is one; objects in a store make a folder of any name."""
    return is_remote(path) or storage_of(path).kind(path) == "folder"


def _member(path: Path, meta: Mapping[str, Any], number: int) -> tuple[Rank, list[str]]:
    """Return a rank, and remarks on its file; raise `RunError` where it is none of this run."""
    folder = rank_folder(path, number)
    if not is_folder(folder):
        raise RunError(f"{folder} is no folder")
    if not number:
        return Rank(0, meta, Part(folder, spans_of(meta["sessions"]))), []
    own, remarks = described(folder, RANK_FILE)
    if own.get("id") != meta.get("id"):
        ids = f"its id is {own.get('id')!r}, and that of the run is {meta.get('id')!r}"
        # what is told of the file beside it: that it is not as it was written
        raise RunError("; ".join([f"{folder / RANK_FILE} is of another run: {ids}", *remarks]))
    lacks = [name for name in _NEEDED if name not in own]
    if lacks:
        raise RunError(f"{folder / RANK_FILE} is damaged: it lacks {', '.join(lacks)}")
    part = Part(folder, spans_of(meta["sessions"], own["sessions"]))
    if all(span.last_step == NOTHING for span in part.spans):
        raise RunError(f"{folder} took part in no session that run.json knows")
    return Rank(number, own, part), remarks
