"""The runs that are open in this process, and how one ends that nobody can close any more.

A Recorder that is lost (a notebook's cell was run again, a function raised) is collected like any object: nothing of
dropdiag's holds it. What it recorded is kept by its `OpenRun`, which holds neither the Recorder nor the model.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol

import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.model.sites import WEIGHT, Site
from dropdiag.recording.transfer import TransferQueue, abandon
from dropdiag.store.memory import check_for_thread
from dropdiag.store.writer import RunWriter

GRACE: Final = 0.05
"""Seconds after which a forward pass that was about to begin has begun."""


_NOT_CLOSED: Final = "the Recorder was not closed"
_numbers: Final = itertools.count()
_runs: Final[dict[int, OpenRun]] = {}
_lost: Final[SimpleQueue[int | None]] = SimpleQueue()


class Recording(Protocol):
    """What an open run needs of its session."""

    writer: RunWriter
    queue: TransferQueue

    @property
    def sites(self) -> Sequence[Site]:
        """All sites."""
        ...

    @property
    def in_forward_pass(self) -> bool:
        """Whether a forward pass of the model is open."""
        ...

    def begin_no_pass(self) -> None:
        """Leave forward passes alone that begin from now on."""
        ...

    def stay_behind(self) -> None:
        """Do nothing any more: this is a copy in a forked child."""
        ...

    def give_up(self) -> None:
        """Take everything off the model and note in the run's metadata what was seen."""
        ...


class OpenRun:
    """An open run, and what it takes to end it.

    Parameters
    ----------
    session : Recording
        Held weakly: the Recorder holds it, and the hooks on the model do.
    """

    def __init__(self, session: Recording) -> None:
        self._session = weakref.ref(session)
        self._writer, self._queue = session.writer, session.queue
        self._lock = threading.Lock()
        self._recorder: weakref.finalize[..., object] | None = None
        self.number = next(_numbers)
        _runs[self.number] = self

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._writer.path

    @property
    def lost(self) -> bool:
        """Whether its Recorder is gone."""
        return self._recorder is not None and not self._recorder.alive

    def belongs_to(self, recorder: object) -> None:
        """Say whose run it is: when the Recorder is collected, the run is interrupted."""
        # A collection may come at any point of any thread, inside torch's loop over our hooks and inside the writer's
        # thread too: nothing is done there but to hand over. SimpleQueue.put is the one that is made for that.
        self._recorder = weakref.finalize(recorder, _lost.put, self.number)
        self._recorder.atexit = False
        _closer.start()

    def closed(self) -> None:
        """Forget a run that is closed."""
        _runs.pop(self.number, None)
        if self._recorder is not None:
            self._recorder.detach()
        _closer.stop_if_idle()

    def interrupt(self, why: str) -> None:
        """Take the hooks off, write what waits, and mark the run as interrupted. May be called again."""
        with self._lock:
            if self.number not in _runs:
                return
            session = self._session()
            with ExitStack() as stack:  # one after the other, as warnings may be errors
                stack.callback(self.closed)  # last: the end of the process waits for what is not closed
                stack.callback(abandon, self._queue, self._writer, why)
                if session is not None:  # gone together with its model otherwise
                    session.give_up()

    def stay_behind(self) -> None:
        """Do nothing any more: this is a forked child."""
        session = self._session()
        if session is not None:
            session.stay_behind()

    def let_passes_end(self) -> None:
        """Wait until no forward pass of the model is open in any thread."""
        session = self._session()
        if session is not None:
            session.begin_no_pass()
            time.sleep(GRACE)
            while session.in_forward_pass:
                time.sleep(GRACE)

    def shared(self, things: dict[object, str]) -> list[str]:
        """Return the names of those of the given things that this run records."""
        session = self._session()
        own = () if session is None else _things(session.sites)
        return [things[thing] for thing in own if thing in things]

    def is_on(self, modules: set[int]) -> bool:
        """Whether it records a site of one of these modules."""
        session = self._session()
        return session is not None and any(id(s.module) in modules for s in session.sites if s.recordable)


def check_free(sites: Sequence[Site]) -> None:
    """Raise `ArgumentError` if an open run records one of these sites; end those that are lost first."""
    mine = _things(sites)
    end_lost_runs()
    if any(run.shared(mine) for run in tuple(_runs.values())):
        gc.collect()  # a Recorder in a cycle, as that of an exception and its traceback, waits for it
        end_lost_runs()
    for run in tuple(_runs.values()):
        if shared := run.shared(mine):
            raise ArgumentError(
                f"the model has a Recorder already, of {run.path}, which records {_listed(shared)}: close() that one "
                "first, call dd.detach(model) where it is lost, or leave shared layers out with exclude="
            )


def end_lost_runs() -> None:
    """End the runs whose Recorders are gone, now instead of in a moment."""
    for run in tuple(_runs.values()):
        if run.lost:
            run.interrupt(_NOT_CLOSED)


def detach(model: nn.Module) -> list[Path]:
    """Close the Recorders that are on a model, or on a part of it, wherever they are.

    For a Recorder that nobody can close any more: a notebook's cell was run again, or a function raised and the
    traceback still holds it. What was recorded is kept, and the run says that it was interrupted.

    Parameters
    ----------
    model : nn.Module
        The one that a new Recorder cannot be put on; compiled or not, wrapped or not.

    Returns
    -------
    list of Path
        The folders of the runs that were closed; none if nothing was on the model.

    Raises
    ------
    ArgumentError
        If it is no module.

    Examples
    --------
    >>> rec = dd.Recorder(model, "runs/lost", every=1)
    >>> F.cross_entropy(model(x), y).backward()
    >>> rec.step()
    >>> [path.name for path in dd.detach(model)]
    ['lost']
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"detach() takes an nn.Module, got {type(model).__name__}")
    modules = {id(module) for module in model.modules()}
    found = [run for run in tuple(_runs.values()) if run.is_on(modules)]
    for run in found:
        run.interrupt("detached: dd.detach() was called")
    return [run.path for run in found]


def _things(sites: Iterable[Site]) -> dict[object, str]:
    """Return what is recorded physically, with its name: a parameter, or a module in one of its roles."""
    return dict(_thing(site) for site in sites if site.recordable and not site.functional)


def _thing(site: Site) -> tuple[object, str]:
    # The table of a module's own is private; a parametrised weight is not in it.
    parameter = site.module._parameters.get(site.parameter) if site.kind == WEIGHT else None
    if parameter is not None:
        return (site.kind, id(parameter)), site.layer
    return (site.kind, id(site.module), site.parameter), site.layer


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Closer:
    """The thread that ends lost runs, there while a run is open."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with self._changing:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="dropdiag-closer", daemon=True)
                # without it, a lost run is ended by the next Recorder, or at the end of the process
                with suppress(MemoryError, RuntimeError):
                    check_for_thread()
                    thread.start()
                    self._thread = thread

    def stop_if_idle(self) -> None:
        with self._changing:
            if self._thread is not None and not _runs:
                self._thread = None
                _lost.put(None)

    @staticmethod
    def _work() -> None:
        for number in iter(_lost.get, None):
            run = _runs.get(number)
            if run is not None:
                run.let_passes_end()
                if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                    torch.cuda.synchronize()  # what waits on a device was computed in another thread's stream
                run.interrupt(_NOT_CLOSED)
            del run

    def forget(self) -> None:
        """Begin anew in a child: the thread did not come along, and the lock may be held by one that did not either."""
        self._changing, self._thread = threading.Lock(), None


_closer: Final = _Closer()


def _process_ends() -> None:
    for run in tuple(_runs.values()):
        run.interrupt(_NOT_CLOSED)


def _forked() -> None:
    """Forget the runs of the parent, which go on there; no thread came along."""
    for run in tuple(_runs.values()):
        run.stay_behind()
    _runs.clear()
    _closer.forget()


atexit.register(_process_ends)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_forked)
