"""Train many runs, several at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Final, TypeAlias

import torch

from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.plan import Job
from dropdiag.experiments.progress import Display

POLL_SECONDS: Final = 0.1
REPORT_STEPS: Final = 20
"""A worker reports every so many steps, not each one: every message crosses processes."""


ProgressEvent: TypeAlias = tuple[str, int, "float | None"]
"""Run, its steps that are done, its test accuracy if that was just measured: the arguments of `Display.step`."""


@dataclass(frozen=True)
class Work:
    """How runs of one experiment are trained; both functions must be picklable.

    Attributes
    ----------
    load : callable
        Loads the data anew, in each process.
    train : callable
        Settings, data, run folder, progress: trains one run; see `dropdiag.experiments.experiment.Experiment`.
    """

    load: Callable[[], Images]
    train: Callable[..., None]


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def train_all(todo: Sequence[Job], data: Images, processes: int, display: Display, work: Work) -> dict[str, str]:
    """Train all runs; one that fails does not stop the others.

    Each run uses one thread, so that its numbers do not depend on how many run at a time.

    Parameters
    ----------
    todo : sequence of Job
    data : Images
        With more than one process, each loads it again.
    processes : int
        Runs at a time; 1 trains in this process.
    display : Display
    work : Work

    Returns
    -------
    dict
        Name of each failed run -> what ended it.

    Raises
    ------
    KeyboardInterrupt
        After the runs under way were ended and marked as interrupted; finished runs are whole.
    """
    if processes == 1 or len(todo) == 1:
        return _one_by_one(todo, data, display, work)
    return _side_by_side(todo, processes, display, work)


def _one_by_one(todo: Sequence[Job], data: Images, display: Display, work: Work) -> dict[str, str]:
    failed = {}
    for job in todo:
        error = None
        try:
            with _one_thread():
                work.train(job.settings, data, job.path, lambda *done, name=job.name: display.step(name, *done))
        except Exception as caught:  # noqa: BLE001 - whatever ends one run, the others go on; it is reported
            error = failed[job.name] = _in_words(caught)
        display.end(job.name, error)
    return failed


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _side_by_side(todo: Sequence[Job], processes: int, display: Display, work: Work) -> dict[str, str]:
    # Spawned, not forked: torch's threads and a CUDA context do not survive a fork.
    context = multiprocessing.get_context("spawn")
    events: Queue[ProgressEvent] = context.Queue()
    stop = context.Event()
    failed: dict[str, str] = {}
    pool = ProcessPoolExecutor(
        min(processes, len(todo)), mp_context=context, initializer=_begin_worker, initargs=(events, stop, work)
    )
    try:
        waiting = {pool.submit(_run_job, job): job for job in todo}
        while waiting:
            # Woken often, since bars have to move while no run ends.
            over, _ = wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            _follow(events, display)
            for future in over:
                _close(waiting.pop(future), future, failed, display)
    finally:
        stop.set()  # after an interrupt: the runs under way end at one of their next steps
        pool.shutdown(wait=True, cancel_futures=True)
    return failed


def _follow(events: Queue[ProgressEvent], display: Display) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            display.step(*events.get_nowait())


def _close(job: Job, future: Future[None], failed: dict[str, str], display: Display) -> None:
    error = future.exception()
    if error is not None:
        failed[job.name] = _in_words(error)
    display.end(job.name, failed.get(job.name))


def _in_words(error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return "a worker process died (killed, or out of memory); the same command goes on with what is left"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@dataclass
class _Worker:
    data: Images
    train: Callable[..., None]
    events: Queue[ProgressEvent]
    stop: Event

    def check(self) -> None:
        """Raise KeyboardInterrupt if the runs are to end, or nobody waits for them."""
        if self.stop.is_set() or _orphaned():
            raise KeyboardInterrupt


def _orphaned() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


_worker: _Worker | None = None


def _begin_worker(events: Queue[ProgressEvent], stop: Event, work: Work) -> None:
    global _worker  # noqa: PLW0603 - the one way that ProcessPoolExecutor offers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which sets `stop`
    torch.set_num_threads(1)
    events.cancel_join_thread()  # what the parent no longer reads must not keep this process alive
    _worker = _Worker(work.load(), work.train, events, stop)


def _run_job(job: Job) -> None:
    assert _worker is not None  # noqa: S101 - set by the initializer
    worker = _worker

    def progress(step: int, accuracy: float | None) -> None:
        if accuracy is not None or step % REPORT_STEPS == 0:
            worker.check()
            worker.events.put((job.name, step, accuracy))

    worker.check()  # a run that waited when `stop` came is not begun
    try:
        worker.train(job.settings, worker.data, job.path, progress)
    except KeyboardInterrupt:
        if _orphaned():
            os._exit(1)  # nobody is left to tell, and the pool would wait for its next job for ever
        raise
