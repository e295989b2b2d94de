"""The ranks of one training find the run that rank 0 made, and agree on it.

They ask the store of the process group, each by itself and only while a Recorder is opened: no collective, so that
nobody waits for a rank that has no Recorder, and a rank that dies later takes nobody along.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch.distributed as dist

from dropdiag.errors import ArgumentError, RunError
from dropdiag.store.folder import read_meta

ALL, ZERO = "all", "zero"
WAIT_SECONDS: Final = 300.0
"""How long a rank waits for rank 0 to open its Recorder, at most; less where the process group has less patience."""
LOOK_SECONDS: Final = 0.05
_PREFIX: Final = "dropdiag/recorders"
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
        self._number = self._next_number()

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

    def _next_number(self) -> int:
        """Count the Recorders that this rank has opened, from 1; 0 where ranks cannot reach each other."""
        if self._store is None:
            return 0
        try:
            return int(self._store.add(f"{_PREFIX}/of/{self.rank}", 1))
        except RuntimeError:  # a store that is gone
            self._store = None
            return 0

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
        if self._store is not None:
            self._store.set(_key(self._number), json.dumps(content))

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
        if self._store is None:
            return None
        told = self._announced(asked)
        if told is None:
            other = self._wait()
            told = self._announced(asked)  # rank 0 may have opened others before
        if told is None:
            return Elsewhere(other["asked"], other["run"]["training"] if "run" in other else uuid.uuid4().hex)
        if "run" not in told:
            kind = _ERRORS.get(told["kind"], RunError)
            raise kind(f"rank 0 could not open the run, so rank {self.rank} does not either: {told['error']}")
        run = SharedRun(**told["run"])
        self._see(run)
        return run

    def _announced(self, asked: str) -> dict[str, Any] | None:
        """Return what rank 0 has said by now of a path that this rank has not joined there yet."""
        opened = int(self._store.add(f"{_PREFIX}/of/0", 0))  # adds nothing: it asks
        for number in range(1, opened + 1):
            if self._store.check([_key(number)]):  # not of one that failed early, or records for all
                told: dict[str, Any] = json.loads(self._store.get(_key(number)))
                if told["asked"] == asked and self._store.add(f"{_PREFIX}/joined/{self.rank}/{number}", 1) == 1:
                    return told
        return None

    def _wait(self) -> dict[str, Any]:
        patience = self._patience()
        try:
            self._store.wait([_key(self._number)], timedelta(seconds=patience))
            found: dict[str, Any] = json.loads(self._store.get(_key(self._number)))
        except RuntimeError as error:  # DistStoreError among them
            raise RunError(
                f"rank {self.rank} waited {patience:.0f} s for rank 0 to open Recorder number {self._number}: open it "
                'on every rank, with the same path, or with ranks="zero" on all where rank 0 alone is to record'
            ) from error
        return found

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


def _key(number: int) -> str:
    return f"{_PREFIX}/opened/{number}"


def _is_there(run: SharedRun) -> bool:
    try:
        meta = read_meta(Path(run.path))
    except RunError:
        return False
    return meta.get("id") == run.id and any(one.get("id") == run.session for one in meta["sessions"])
