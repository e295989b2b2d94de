"""The ranks of one training find the run that rank 0 made, and agree on it.

They ask the store of the process group, each by itself and only while a Recorder is opened: no collective, so that
nobody waits for a rank that has no Recorder, and a rank that dies later takes nobody along.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any, Final, NamedTuple

import torch.distributed as dist

from dropdiag.errors import ArgumentError, RunError
from dropdiag.recording.ranks.board import Board
from dropdiag.store.folder import read_meta
from dropdiag.store.storage.places import as_path

ALL, ZERO = "all", "zero"
WAIT_SECONDS: Final = 300.0
"""How long a rank waits for rank 0 to open its Recorder, at most; less where the process group has less patience."""
LOOK_SECONDS: Final = 0.05
GRACE_SECONDS: Final = 5.0
"""How long a rank looks for its path where rank 0 has opened another run, before it records one of its own."""
_ERRORS: Final = {"ArgumentError": ArgumentError, "RunError": RunError}


UNGROUPED: Final = (
    "this process is rank {rank} of {world_size} (RANK, WORLD_SIZE), and torch.distributed is not initialised: it "
    "records a run of its own. Open the Recorder after init_process_group, and all ranks record one run"
)


def ungrouped() -> str | None:
    """Return what a process should be told that was started as one of several, and does not know the others yet."""
    rank, world_size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not (rank.isdigit() and world_size.isdigit() and int(world_size) > 1):
        return None
    initialised = dist.is_available() and dist.is_initialized()
    return None if initialised else UNGROUPED.format(rank=rank, world_size=world_size)


class SharedRun(NamedTuple):
    """The run that rank 0 made.

    Attributes
    ----------
    path : str
    id : str
    session : str
        Identifier of the session that begins.
    from_step : int or None
        None: it is new.
    training : str
        Identifier of the training, which ranks have in common that record runs of their own.
    """

    path: str
    id: str
    session: str
    from_step: int | None
    training: str


class Elsewhere(NamedTuple):
    """Rank 0 records at another path.

    Attributes
    ----------
    asked : str
        The path.
    training : str
        Identifier of the training that both are of.
    """

    asked: str
    training: str


def check_ranks_argument(ranks: object) -> None:
    """Raise `ArgumentError` unless ``ranks=`` says which ranks record."""
    if ranks not in (ALL, ZERO):
        raise ArgumentError(f'ranks= takes "all" (every rank records what it holds) or "zero", got {ranks!r}')


def check_budget(budget: float | None, group: Group | None, ranks: str) -> None:
    """Raise `ArgumentError` where several ranks would each leave out other steps."""
    if budget is not None and group is not None and ranks == ALL:
        raise ArgumentError(
            "budget= is for one process: each rank would leave out other steps, and what is left could not be merged; "
            'record less often (every=), or give ranks="zero"'
        )


class Group:
    """A process among those of its training.

    Attributes
    ----------
    rank, world_size : int
    """

    def __init__(self, rank: int, world_size: int, store: Any) -> None:
        self.rank, self.world_size = rank, world_size
        self._store = store
        board = None if store is None else Board(store, rank)
        self._board = board if board is not None and board.answers() else None

    @staticmethod
    def found() -> Group | None:
        """Return the group of this process; None for a process alone."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return None
        try:
            # private, and the one way to the store of a group that somebody else made
            store = dist.distributed_c10d._get_default_store()
        except (RuntimeError, ValueError, AttributeError):
            store = None
        return Group(dist.get_rank(), dist.get_world_size(), store)

    def describe(self, recorded: str | None, training: str | None) -> dict[str, Any]:
        """Return what ``run.json`` says of the rank; ``recorded`` is None for a run of its own."""
        told = {"rank": self.rank, "world_size": self.world_size, "training": training}
        return told if recorded is None else {**told, "recorded": recorded}

    def announce(self, asked: str, run: SharedRun) -> None:
        """Tell the others of the run that this rank, the first, has made."""
        self._tell({"asked": asked, "run": run._asdict()})

    def announce_failure(self, asked: str, error: BaseException) -> None:
        """Tell the others that there is no run, and why, so that none waits for it."""
        self._tell({"asked": asked, "error": str(error), "kind": type(error).__name__})

    def _tell(self, content: dict[str, Any]) -> None:
        if self._board is not None:
            self._board.announce(content)

    def join(self, asked: str) -> SharedRun | Elsewhere | None:
        """Wait for the run that rank 0 makes where this rank asks for one.

        Parameters
        ----------
        asked : str
            The path that the Recorder was given, the same on all ranks that record one run.

        Returns
        -------
        SharedRun, Elsewhere or None
            `Elsewhere` where rank 0 records at another path: this rank's run is its own. None where ranks cannot reach
            each other.

        Raises
        ------
        RunError
            If rank 0 opens no Recorder in time, its own could not be opened, or its folder cannot be seen from here.
        """
        if self._board is None:
            return None
        told = self._awaited(self._board, asked)
        if isinstance(told, Elsewhere):
            return told
        if "run" not in told:
            kind = _ERRORS.get(told["kind"], RunError)
            raise kind(f"rank 0 could not open the run, so rank {self.rank} does not either: {told['error']}")
        run = SharedRun(**told["run"])
        self._see(run)
        return run

    def _awaited(self, board: Board, asked: str) -> dict[str, Any] | Elsewhere:
        """Wait for what rank 0 says of a path."""
        while True:
            seen = board.count  # before it is looked: what is announced in between ends the wait at once
            told = board.take(asked)
            if told is not None:
                return told
            other, patience = board.pending(), self._patience()
            # Where rank 0 has opened another run it may have done so by itself: the one that is asked for may come.
            if board.wait(seen, patience if other is None else min(GRACE_SECONDS, patience)):
                continue
            if other is None:
                raise RunError(
                    f"rank {self.rank} waited {patience:.0f} s for rank 0 to open a Recorder: open it on every rank, "
                    'with the same path, or with ranks="zero" on all where rank 0 alone is to record'
                )
            number, content = other
            board.pass_by(number)
            training = content["run"]["training"] if "run" in content else uuid.uuid4().hex
            return Elsewhere(content["asked"], training)

    def _patience(self) -> float:
        timeout = getattr(self._store, "timeout", None)
        return min(WAIT_SECONDS, timeout.total_seconds()) if isinstance(timeout, timedelta) else WAIT_SECONDS

    def _see(self, run: SharedRun) -> None:
        """Wait until the folder that rank 0 made is seen from here: a file system in a network may take a while."""
        until = time.monotonic() + self._patience()
        while not _is_there(run):
            if time.monotonic() > until:
                raise RunError(
                    f"rank {self.rank} does not see {run.path}, which rank 0 made: the ranks of a run write into one "
                    "folder, so choose one that all machines share"
                )
            time.sleep(LOOK_SECONDS)


def _is_there(run: SharedRun) -> bool:
    try:
        meta = read_meta(as_path(run.path))
    except RunError:
        return False
    return meta.get("id") == run.id and any(one.get("id") == run.session for one in meta["sessions"])
