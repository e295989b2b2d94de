"""Write a run folder: append-only Parquet segments and one ``run.json``, each put in place atomically."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import ArgumentError, RunError
from dropdiag.printable import well_formed
from dropdiag.store.background import Background
from dropdiag.store.door import writing
from dropdiag.store.files import compact, sweep
from dropdiag.store.folder import (
    RANK_FILE,
    RUN_FILE,
    as_json,
    check_new,
    described,
    joined_meta,
    now,
    read_meta,
    value_as_json,
)
from dropdiag.store.jobs import Derivatives, Meta, Numbers, Prepare, Rows
from dropdiag.store.lease import EXPIRES_AFTER, gives_back, may_record, takes
from dropdiag.store.memory import BIN_BYTES, NUMBER_BYTES, ROW_BYTES, check_for_import, check_for_joining
from dropdiag.store.meta_files import MetaFiles, next_number, session_files
from dropdiag.store.processes import this_process
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow
from dropdiag.store.schema import FORMAT, SCHEMA_VERSION
from dropdiag.store.segments import FLUSHING_RANKS, LAST, Part, list_segments, rank_folder, short, spans_of
from dropdiag.store.sending import Batch
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import is_remote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dropdiag.store.sending import Problem, Sending

FLUSH_ROWS: Final = 20_000
FLUSH_BINS: Final = 250_000
FLUSH_STATES: Final = 1_000_000
"""Numbers of states that may wait: 8 MB."""
FLUSH_SECONDS: Final = 10.0
"""Between flushes, unless the Recorder is told otherwise: so much of a training a kill can cost."""
COMPACTING_BYTES: Final = 4_000_000
"""Rows that are held at a time while segments are joined."""
_OF_LAYERS: Final = frozenset(("layers", "order", "chain", "coverage"))
"""Lists of ``run.json`` that have an entry a layer."""


@dataclass
class _Buffer:
    scalars: list[ScalarRow] = field(default_factory=list)
    histograms: list[HistogramRow] = field(default_factory=list)
    states: list[StateRow] = field(default_factory=list)
    bins: int = 0
    numbers: int = 0  # of states

    @property
    def rows(self) -> int:
        return len(self.scalars) + len(self.histograms) + len(self.states)

    @property
    def bytes(self) -> int:
        return ROW_BYTES * self.rows + BIN_BYTES * self.bins + NUMBER_BYTES * self.numbers


class RunWriter:
    """The one writer of one rank's folder, and of what is said of it: ``run.json``, or ``rank-R/rank.json``.

    Rows are kept in memory until there are many or `flush_every` seconds have passed (of more than `FLUSHING_RANKS`
    ranks so many times more). A flush hands them to a thread
    that writes each table to a temporary name, syncs it to disk, and renames it to the next segment; so a job
    killed at any moment keeps all segments that have their name. What waits for the disk is bounded: when the
    thread is behind by half of `dropdiag.store.background.QUEUE` flushes, the next one waits for it. Memory: about
    3 MB a flush, 15 MB at most, beside the states of several ranks' covariances.

    Parameters
    ----------
    path : path
        The run folder. Created with its parents.
    meta : dict
        What ``run.json`` says of the run; must be JSON (checked before anything is written). That of another rank than
        the first has the run's ``id``.
    resume_from : int or None
        None: the folder must not hold a run (of another rank than the first: its own folder must hold nothing). A
        step: go on in the existing run; what was recorded there after that step stays on disk and is hidden by the
        reader. A rank that had no part in the run before begins.
    rank : int
        Rank of this process.
    session : dict, optional
        What is said of the session beside its time, step and segment: of a run of several ranks its id and world size.
    counts : bool
        Whether scalars are written with how many values each is made of: in runs of several ranks alone.
    flush_every : float, optional
        Seconds between flushes; 0: whenever it is asked. Default: `FLUSH_SECONDS`.

    Attributes
    ----------
    sinks : Sending or None
        What is sent the scalars and histograms of each flush, too.

    Raises
    ------
    RunError
        If the folder holds something already, or another run, or none can be made there.
    ArgumentError
        If ``meta`` cannot be written as JSON, or a rank is not told the run's id.
    """

    def __init__(
        self,
        path: Path,
        meta: dict[str, Any],
        *,
        resume_from: int | None = None,
        rank: int = 0,
        session: Mapping[str, Any] | None = None,
        counts: bool = False,
        flush_every: float | None = None,
    ) -> None:
        if rank and "id" not in meta:
            raise ArgumentError(
                f"rank {rank} of {path} is not told the run's id; give the id of rank 0's run.json in meta"
            )
        self.path, self.rank, self._counts = path, rank, counts
        self.background = Background(f"dropdiag-writer-{path.name}")
        self._buffer = _Buffer()
        self._handing: Rows | None = None
        self.sinks: Sending | None = None
        self._sending: Batch | None = None
        self._flush_every = flush_every
        self.closed = False
        self._flushed_at = time.monotonic()
        self._known_derivatives: set[str] = set()
        self._patience = max(float((session or {}).get("world_size", 1)) / FLUSHING_RANKS, 1.0)
        old = None if resume_from is None else self._recorded_before(meta)
        before = [] if old is None else old["sessions"]
        own = {
            "id": uuid.uuid4().hex, "number": next_number(self._folder, len(before)), "started": now(),
            "from_step": resume_from or 0, "first_segment": 1 if resume_from is None else self._last_number() + 1,
            **this_process(), "expires_after": EXPIRES_AFTER * self._slowness, **(session or {}),
        }  # fmt: skip
        self._session = short(own["id"])
        if resume_from is not None and old is not None:
            self._known_derivatives = set(old["activations"])
            meta = joined_meta(old, meta, resume_from, rank)
        self.meta: dict[str, Any] = {
            # of the system's randomness: no random state of a training is touched
            "format": FORMAT, "schema": SCHEMA_VERSION, "name": well_formed(path.name), "id": uuid.uuid4().hex,
            "created": now(), "ended": None, "state": "running", "error": None, **_untold(), **meta,
            "sessions": [*before, own],
        }  # fmt: skip
        self._known: dict[str, tuple[object, str]] = {}
        text = self._as_json()  # refuses what is no JSON before anything is written
        writing.check_new(text.encode(), resumed=old is not None)
        self._check_place(resume=resume_from is not None)
        self._files = MetaFiles(self._meta_path, self._folder, own["number"], own["id"])
        self._begin(text, new=resume_from is None)
        self._numbers = Numbers(self._folder, self._last_number(), self._session, self._files)
        takes(own["id"])
        self._sweep()

    @property
    def _slowness(self) -> float:
        """How many times more seldom it writes than a process alone does by default."""
        return self._patience * max((self._flush_every or 0.0) / FLUSH_SECONDS, 1.0)

    @property
    def superseded(self) -> bool:
        """Whether another process has gone on in this run since: what this one records from there on is hidden."""
        return self._files.is_superseded

    def _recorded_before(self, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the run, or this rank of it, says of itself so far; None of a rank that had no part in it."""
        if not self.rank:
            old, remarks = described(self.path)
            return {**old, "warnings": [*old["warnings"], *remarks]}
        name = RANK_FILE
        if storage_of(self._meta_path).kind(self._meta_path) is None:
            files = session_files(self._folder).files
            if not files:
                return None
            name = files[-1].path(self._folder).name  # it was killed as it began, or rank.json was removed
        old = read_meta(self._folder, name)
        if old.get("id") != meta.get("id"):
            raise RunError(
                f"{self._folder} is of another run: its id is {old.get('id')!r}, and that of the run is "
                f"{meta.get('id')!r}; move it away, so that this rank can record there"
            )
        return old

    def _as_json(self) -> str:
        # A network may have ten thousand layers, and run.json is written at every flush: what is told of each is made
        # JSON once. These lists are never changed in place, a new one comes in their place.
        for name in _OF_LAYERS & self.meta.keys():
            value = self.meta[name]
            if name not in self._known or self._known[name][0] is not value:
                self._known[name] = value, value_as_json(value)
        return as_json(writing.fitting(self.meta), {name: text for name, (_, text) in self._known.items()})

    def _check_place(self, *, resume: bool) -> None:
        if not resume:
            check_new(*((self._folder, RANK_FILE) if self.rank else (self.path, RUN_FILE)))
        if resume or is_remote(self.path):  # a new folder of a disk is made with the session's file in it
            self._making(lambda: storage_of(self._folder).make_folder(self._folder))

    def _making(self, make: Callable[[], None], what: str = "make the run folder") -> None:
        try:
            make()
        except RunError:  # that of a store is an OSError, too, and says all
            raise
        except OSError as error:
            raise RunError(f"cannot {what} {self.path}: {error}; choose a path that can be written") from error

    def _begin(self, text: str, *, new: bool) -> None:
        """Put what is said of the run in place, or leave nothing."""
        try:
            self._making(lambda: self._files.begin(text, new=new), "make the run folder" if new else "record in")
        except BaseException:
            if not new:
                self._files.take_back()
            elif self._files.has_begun:  # else what is there is another one's
                self._remove()
            raise

    @property
    def _folder(self) -> Path:
        return rank_folder(self.path, self.rank)

    @property
    def _meta_path(self) -> Path:
        return self._folder / RANK_FILE if self.rank else self.path / RUN_FILE

    def _last_number(self) -> int:
        return max((s.last for s in list_segments(self._folder) if s.last < LAST), default=0)

    @property
    def waiting_bytes(self) -> int:
        """Memory that what waits to be written holds, about."""
        return self._buffer.bytes + self.background.bytes

    def waiting(self) -> tuple[int, set[int]]:
        """Return how many rows wait to be written, and of which steps."""
        rows, steps = self.background.waiting()
        buffer = self._buffer
        kept = [row.step for table in (buffer.scalars, buffer.histograms, buffer.states) for row in table]
        return rows + len(kept), steps.union(kept)

    def add_scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Append scalar rows (they reach the disk at the next flush)."""
        self.add(rows, (), ())

    def add_histograms(self, rows: Sequence[HistogramRow]) -> None:
        """Append histogram rows (they reach the disk at the next flush)."""
        self.add((), rows, ())

    def add_states(self, rows: Sequence[StateRow]) -> None:
        """Append rows of states, from which ranks are merged (they reach the disk at the next flush)."""
        self.add((), (), rows)

    def add(
        self,
        scalars: Sequence[ScalarRow],
        histograms: Sequence[HistogramRow],
        states: Sequence[StateRow],
        taken_from: list[Any] | None = None,
    ) -> None:
        """Append rows of all tables.

        Parameters
        ----------
        scalars, histograms, states : sequence of rows
        taken_from : list, optional
            What the rows were made of: emptied in the same moment.
        """
        bins, numbers = sum(len(row.bins) for row in histograms), sum(len(row.state) for row in states)
        buffer = self._buffer
        # Nothing is called from here on, so that no KeyboardInterrupt comes between: all of it is done, or nothing.
        buffer.scalars += scalars
        buffer.histograms += histograms
        buffer.states += states
        buffer.bins += bins
        buffer.numbers += numbers
        if taken_from is not None:
            taken_from[:] = ()

    @property
    def due(self) -> bool:
        """Whether many rows wait or the last flush is long ago."""
        waiting = self._buffer
        many = len(waiting.scalars) >= FLUSH_ROWS or waiting.bins >= FLUSH_BINS or waiting.numbers >= FLUSH_STATES
        every = FLUSH_SECONDS if self._flush_every is None else self._flush_every
        # below 0 if the clock was set back: then at once, and by the new time from there on
        return many or not 0.0 <= time.monotonic() - self._flushed_at < every * self._patience

    def prepare(self) -> None:
        """Let Arrow take the memory that it works with, before training takes it.

        Raises
        ------
        MemoryError
            Where there is too little.
        """
        check_for_import()  # here, before there is a thread
        self.background.submit(Prepare())
        self.background.drain()

    def flush(self) -> None:
        """Hand all waiting rows over to be written as new segments.

        Where the disk refuses them they are kept and tried again; `take_failure` tells.
        """
        self._flushed_at = time.monotonic()
        self._hand_over()
        if self._buffer.rows:
            rows = self._buffer.scalars, self._buffer.histograms, self._buffer.states
            job, empty = Rows(self._numbers, *rows, counts=self._counts), _Buffer()
            batch = None if self.sinks is None else Batch.of(*rows[:2])
            # At once, as nothing is called in between: an interrupt must neither lose rows nor hand them over twice.
            self._handing, self._sending, self._buffer = job, batch, empty
            self._hand_over()
            self.save_meta()  # after the rows: run.json never speaks of steps that are not on disk

    def _hand_over(self) -> None:
        """Hand over the rows of a flush, unless they are in line: an interrupt may have come before."""
        if self._handing is not None and not self._handing.handed:
            self.background.submit(self._handing)
        self._handing = None
        if self._sending is not None and self.sinks is not None:
            self.sinks.put(self._sending)
        self._sending = None

    def drain(self) -> None:
        """Wait until everything that was handed over is on disk.

        Raises
        ------
        OSError
            If the disk refuses it. It is kept and tried again with the next flush.
        """
        self.background.drain()

    def take_failure(self) -> Exception | None:
        """Return why the disk refused rows, once for each attempt that failed."""
        return self.background.take_failure()

    def cost(self) -> dict[str, float]:
        """Return how often training waited for the disk and how long, and the thread's processor time."""
        thread = self.background
        return {"waits": thread.waits, "seconds_waited": thread.seconds_waited, "writer_seconds": thread.seconds_worked}

    def add_derivatives(self, derivatives: Mapping[str, NDArray[np.float64]]) -> None:
        """Hand over |phi'| of activations on the grid; those that the run has already are passed over.

        Parameters
        ----------
        derivatives : dict
            Activation's name -> ndarray of float64, shape (32640,), at the centre of every finite bin, in order
            of the real line.
        """
        new = {name: derivatives[name] for name in sorted(derivatives.keys() - self._known_derivatives)}
        if new:
            self.background.submit(Derivatives(self._numbers, new))
            self._known_derivatives |= new.keys()

    def save_meta(self, **changes: Any) -> None:
        """Change ``run.json``, or the rank's (whole, atomically), after what was handed over before."""
        self.meta.update(changes)
        self.background.submit(Meta(self._files, self._as_json()))

    def close(self, state: str, error: str | None = None) -> Exception | None:
        """Write what waits, compact the run if it ended well, and note how it ended.

        Parameters
        ----------
        state : {"completed", "failed", "interrupted"}
        error : str or None
            What ended it, if not well.

        Returns
        -------
        Exception or None
            Why the run could not be compacted. It is complete all the same, in more segments; ``warnings`` of
            ``run.json`` say so.

        Raises
        ------
        OSError
            If the disk refuses what waits.
        """
        try:
            self.flush()
            self.background.drain_at_the_end()
            # Before it is compacted, which may fail or be killed: the run is over all the same.
            self.meta |= {"state": state, "error": error, "ended": now()}
            self.meta["sessions"] = [*self.meta["sessions"][:-1],
                                     {**self.meta["sessions"][-1], "last_segment": self._numbers.last}]  # fmt: skip
            self._save_the_end()
            failure = self._compact() if state == "completed" else None
            if failure is not None:
                self._save_the_end()
            self._sweep()
            self.closed = True
        finally:
            self.background.stop()
            gives_back(self.meta["sessions"][-1]["id"])
        return failure

    def _save_the_end(self) -> None:
        self.meta["cost"] = {**self.meta.get("cost", {}), **self.cost()}
        self.background.submit(Meta(self._files, self._as_json(), both=True))
        self.drain()

    def _sweep(self) -> None:
        """Remove temporary files of sessions that are over, and of this one, which writes none now."""
        *before, own = self.meta["sessions"]
        over = {short(one.get("id")) for one in before if may_record(one) is False} | {short(own["id"])}
        if all("process" not in one for one in before):
            over.add("")
        # a session is that of all ranks: what lies beside their folders is the first one's
        for folder in {self._folder, self._meta_path.parent}:
            sweep(folder, over, {short(one.get("id")) for one in before})

    def give_up(self, error: Exception) -> str:
        """Let go of what could not be written until the end, and write ``run.json`` if the disk takes that at least.

        Parameters
        ----------
        error : Exception
            Why it could not be.

        Returns
        -------
        str
            How many rows are lost, of which steps, and why; ``run.json`` says so, too.
        """
        rows, steps = self.waiting()
        cause = getattr(error, "strerror", None) or repr(error)
        self.closed, self._buffer, self._handing = True, _Buffer(), None
        self.background.give_up()
        if steps:
            lost = f"{self.path} refuses rows ({cause}); {rows:,} rows are lost, of steps {min(steps)} to {max(steps)}"
            self.meta.update(state="failed", error=lost, ended=now())
            self.meta["warnings"] = [*self.meta.get("warnings", ()), lost]
        else:  # what is known of activations at most, beside what is said of the run
            lost = f"{self.path} refuses what is said of the run ({cause}); all rows are there"
        with contextlib.suppress(OSError, MemoryError):
            self._files.write(self._as_json(), both=True)
        return lost

    def close_sinks(self, state: str) -> list[Problem]:
        """End the sinks of a run that is closed, and return what has to be told and noted of them."""
        return [] if self.sinks is None else self.sinks.close(state)

    def note_after_the_end(self) -> None:
        """Write ``run.json`` of a run that is closed once more, as something is to be added to its warnings."""
        self._files.write(self._as_json(), both=True)

    def discard(self) -> None:
        """Take back a new run that could not begin: its files are removed.

        Raises
        ------
        OSError
            If they cannot be removed.
        """
        try:
            self.drain()
        finally:
            self.background.stop()
            gives_back(self.meta["sessions"][-1]["id"])
            self._remove()

    def _remove(self) -> None:
        storage = storage_of(self._folder)
        storage.remove_folder(self._folder)
        storage.remove([self._meta_path])

    def _compact(self) -> Exception | None:
        *before, own = self.meta["sessions"]
        live = {short(one.get("id")) for one in before if may_record(one)}
        try:
            check_for_joining(COMPACTING_BYTES)
            compact(Part(self._folder, spans_of(self.meta["sessions"])), short(own["id"]), live)
        except Exception as failure:  # noqa: BLE001 - all rows are on disk: whatever it is, the run is completed
            sentence = uncompacted(self.path, failure)
            self.meta["warnings"] = [*self.meta.get("warnings", ()), sentence]
            return failure
        return None


def _untold() -> dict[str, Any]:
    """Return what every ``run.json`` says, where the writer is told nothing of it."""
    lists: dict[str, Any] = {name: [] for name in ("probes", "disabled_probes", "warnings", "layers")}
    return {"config": {}, "steps": 0, "versions": {}, **lists, "activations": {}}


def uncompacted(path: Path, failure: Exception) -> str:
    """Say that a completed run stays in many segments."""
    return f"{path} could not be compacted ({failure}); it is complete, in more files than it needs"
