"""Where a process's rows go: a run of its own, or its rank's folder in the run of all."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from dropdiag.errors import RunError
from dropdiag.recording.naming import AUTO, Numbered, check_name, claimed_folder
from dropdiag.recording.ranks.group import ALL, Group, SharedRun, ungrouped
from dropdiag.store.claims import TakenError
from dropdiag.store.folder import Resume, resume_step
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import as_path, is_remote
from dropdiag.store.writer import FLUSH_SECONDS, RunWriter

OTHERS: Final = (
    "rank 0 records at {path}, so this rank would record a run of its own: give all ranks of one run the path that "
    "rank 0 gives, and each of the others a path that no other rank has"
)


class Opening:
    """Opens a run; of several ranks, one run together.

    Rank 0 opens as a process alone would, and tells the others; they wait for that before they make a file. As a
    context: where rank 0 fails, the others are told why.

    Parameters
    ----------
    path : Path
        As the Recorder was given it.
    name : str or None
    resume : bool, int, "force" or ("force", int)
    group : Group or None
    ranks : {"all", "zero"}
    flush_every : float
        Seconds.

    Attributes
    ----------
    path : Path
        The run folder, as far as it is known.
    rank : int
        Of the folder that is written.
    elsewhere : str or None
        Where rank 0 records, if it is another run than this rank's.
    """

    def __init__(
        self,
        path: Path,
        name: str | None,
        resume: Resume,
        group: Group | None,
        ranks: str,
        *,
        flush_every: float = FLUSH_SECONDS,
    ) -> None:
        check_name(name, resume)
        self._flush_every = flush_every
        self._asked = str(path if name is None else path / name)
        numbered = isinstance(name, Numbered)
        self.path = path if numbered or name in (None, AUTO) else path / str(name)
        self._name = str(name) if numbered else None  # None: that of the config
        self._auto, self._resume, self._group = numbered or name == AUTO, resume, group
        self._recorded: str | None = None if group is None else ranks
        self._shared: SharedRun | None = None
        self._training = uuid.uuid4().hex
        self.rank = 0
        self.elsewhere: str | None = None
        self._made = False
        self._announced = False

    @property
    def _together(self) -> bool:
        return self._group is not None and self._recorded == ALL

    def __enter__(self) -> Opening:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Where the first rank could not open the run, tell the others."""
        if error is not None and self._group is not None and self._leads and not self._announced:
            self._group.announce_failure(self._asked, error)

    @property
    def _leads(self) -> bool:
        return self._together and self._group is not None and self._group.rank == 0

    def step(self) -> int | None:
        """Return the step to go on from, None for a new run; a rank waits for the first one here.

        Raises
        ------
        RunError, ArgumentError
            As `resume_step` and `Group.join` do.
        """
        if self._together and self._group is not None and self._group.rank > 0:
            found = self._group.join(self._asked)
            if isinstance(found, SharedRun):
                self._shared, self.rank = found, self._group.rank
                self.path, self._auto = as_path(found.path, like=self.path), False
                return found.from_step
            self._recorded, self._training = None, "" if found is None else found.training
            self.elsewhere = None if found is None else found.asked
        try:
            return None if self._auto else resume_step(self.path, self._resume)
        except RunError as error:
            hint = ungrouped() if self.elsewhere is None else OTHERS.format(path=self.elsewhere)
            raise error if hint is None else RunError(f"{error}. And {hint}") from None

    def describe(self) -> dict[str, Any] | None:
        """Return what ``run.json`` says of the rank; None of a process alone."""
        if self._group is None:
            return None
        training = self._training if self._shared is None else self._shared.training
        return self._group.describe(self._recorded, training or None)

    def writer(self, meta: dict[str, Any], start: int | None) -> RunWriter:
        """Make the folder, and return its writer; everything that can be refused has been checked."""
        self._made = self._auto or storage_of(self.path).kind(self.path) is None
        shared = self._shared
        session = None
        if self._group is not None and self._recorded is not None:
            begun = uuid.uuid4().hex if shared is None else shared.session
            session = {"id": begun, "world_size": self._group.world_size, "recorded": self._recorded}
        told = meta if shared is None else {**meta, "id": shared.id}
        below = self.path
        while True:
            self.path = claimed_folder(below, meta["config"], self._name) if self._auto else below
            try:
                return RunWriter(
                    *(self.path, told),
                    resume_from=start,
                    rank=self.rank,
                    session=session,
                    counts=self._together,
                    flush_every=self._flush_every,
                )
            except TakenError:
                if not self._auto:
                    raise

    def opened(self, writer: RunWriter, start: int | None) -> None:
        """Tell the other ranks of the run, which has begun."""
        if self._leads and self._group is not None:
            session = writer.meta["sessions"][-1]["id"]
            run = SharedRun(str(self.path), str(writer.meta["id"]), session, start, self._training)
            self._group.announce(self._asked, run)
            self._announced = True

    def take_back(self) -> None:
        """Remove the folder that was made for a run which could not begin, where it is empty."""
        if self._made and not is_remote(self.path) and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
