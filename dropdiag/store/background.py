"""One thread that does jobs in order, so that who hands them over need not wait for a disk."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from dropdiag.errors import RunError
from dropdiag.store.memory import check_for_thread

QUEUE: Final = 8
"""Jobs that may wait; who hands over one more waits until there is room."""
RETRY_SECONDS: Final = 1.0
"""After an attempt that failed the next one waits for so long, unless `Background.drain` asks for it."""
STUCK_SECONDS: Final = 30.0
"""Who waited for so long in vain waits no more: the disk does not answer, and what waits is bounded elsewhere."""
TICK: Final = 0.5
"""Seconds after which who waits looks whether the thread still lives."""
DEATHS: Final = 3
"""A thread that ends so often without having done a job is not started again: who hands over jobs does them."""
NICE: Final = 10
"""Priority of the thread, as of `nice`."""

DIED: Final = "the thread that writes ended unexpectedly ({cause!r}) and was started again; nothing is lost"
NO_THREAD: Final = "no thread can be started ({cause}): the training itself waits for each file that is written"


class Job:
    """Something to be done. Where it fails it is done again later: it remembers what of it is done.

    Attributes
    ----------
    bytes : int
        Memory that it holds, about.
    rows : int
        Rows that it holds.
    handed : bool
        Whether it is in line, or its content in a job that is.
    """

    bytes: int = 0
    rows: int = 0
    handed: bool = False

    def __call__(self) -> None:
        """Do it, or what of it is left."""
        raise NotImplementedError

    def absorb(self, other: Job) -> bool:  # noqa: ARG002 - most take nothing in
        """Take in what another one is to do, which came later; return whether that could be."""
        return False

    def steps(self) -> set[int]:
        """Return the steps of its rows."""
        return set()


class Background:
    """Does jobs one after the other in a thread of its own.

    A job that raises stays the first in line and is tried again when the next one comes (`RETRY_SECONDS` later at the
    earliest) or `drain` is called; nothing is dropped. While the last attempt has failed nobody is made to wait, and
    jobs are put together where they can be. A thread that has ended, for whatever reason, is started again; where no
    thread can be started, who hands over a job does it.

    Parameters
    ----------
    name : str
        The thread's name.

    Attributes
    ----------
    waits : int
        How often a job had to wait for room.
    seconds_waited : float
        For how long, altogether.
    seconds_worked : float
        Processor time of the thread.
    bytes : int
        Memory that the jobs in line hold, about.
    news : str or None
        What happened to the thread, until somebody has told it.
    """

    def __init__(self, name: str) -> None:
        self.waits, self.seconds_waited, self.seconds_worked = 0, 0.0, 0.0
        self.bytes = 0
        self._name, self._process = name, os.getpid()
        self._jobs: deque[Job] = deque()
        # Taken by itself, as it is of C, and never as the condition: of a KeyboardInterrupt inside Condition.__enter__
        # it would stay taken for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._failure: Exception | None = None  # of the last attempt: while it stands, nobody waits
        self._unseen: Exception | None = None  # until somebody is told: once an attempt
        self.news: str | None = None
        self._deaths = 0
        self._asked = self._answered = 0  # of `drain`: attempts that were wanted, and the last that failed
        self._failed_at = 0.0
        self._try = self._stopping = self._stuck = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Hand over a job; wait where too many are in line, unless the last attempt failed.

        Raises
        ------
        RunError
            In a process that was forked from the one that opened the run.
        """
        self._check_process()
        with self._lock:
            if not self._absorbed(job):
                # Nothing is called in between, so that no KeyboardInterrupt comes between: before waiting, as an
                # interrupted wait loses nothing.
                self._jobs += (job,)
                job.handed = True
            self._count()
            if self._failure is None or not 0.0 <= time.monotonic() - self._failed_at < RETRY_SECONDS:
                self._wake()
            self._keep_working()
            self._wait_for_room()

    def drain(self) -> None:
        """Wait until every job is done.

        Raises
        ------
        Exception
            What the first in line raised, if that was tried again in vain.
        RunError
            As for `submit`.
        """
        self._check_process()
        with self._lock:
            self._asked += 1
            asked = self._asked
            self._wake()
            self._wait(lambda: not self._jobs or self._answered >= asked)
            if self._jobs and self._failure is not None:
                self._unseen = None
                raise self._failure

    def drain_at_the_end(self) -> None:
        """Wait until every job is done, for the last time: one that fails by itself does not hold up the others.

        Raises
        ------
        Exception
            As `drain`, where jobs are left: those that failed.
        """
        failed: list[Job] = []
        first: Exception | None = None
        while True:
            try:
                self.drain()
                break
            except Exception as error:  # noqa: BLE001 - raised below
                first = first or error
                with self._lock:
                    if isinstance(error, OSError) or not self._jobs:
                        break  # the disk refuses all of them
                    failed.append(self._jobs.popleft())
        if first is not None and (failed or self._jobs):
            with self._lock:
                self._jobs.extendleft(reversed(failed))
                self._count()
            raise first

    def give_up(self) -> None:
        """Let go of all jobs."""
        self._check_process()
        with self._lock:
            self._jobs.clear()
            self._count()

    def stop(self) -> None:
        """End the thread once it is idle."""
        if os.getpid() == self._process:
            with self._lock:
                self._stopping = True
                self._changed.notify_all()

    def take_failure(self) -> Exception | None:
        """Return a failure that was not told yet."""
        if self._unseen is None:
            return None
        failure, self._unseen = self._unseen, None
        return failure

    @property
    def failure(self) -> Exception | None:
        """Why the last attempt failed; None if it did not."""
        return self._failure

    def waiting(self) -> tuple[int, set[int]]:
        """Return how many rows are in line, and of which steps."""
        with self._lock:
            steps: set[int] = set()
            return sum(job.rows for job in self._jobs), steps.union(*(job.steps() for job in self._jobs))

    def _check_process(self) -> None:
        if os.getpid() != self._process:  # the thread was left behind, and with it perhaps its lock
            raise RunError("this process was forked while recording; open a Recorder of its own, on another path")

    def _absorbed(self, job: Job) -> bool:
        """Whether a job that waits has taken this one in, as none of them can be done right now."""
        if self._failure is None:
            return False
        # Not the first: what of it was written has its number, which must not be given to other rows.
        waiting = [self._jobs[place] for place in range(max(len(self._jobs) - 2, 1), len(self._jobs))]
        return any(one.absorb(job) for one in reversed(waiting))

    def _count(self) -> None:
        self.bytes = sum(job.bytes for job in self._jobs)

    def _wake(self) -> None:
        self._try = True
        self._changed.notify_all()

    def _wait_for_room(self) -> None:
        if len(self._jobs) <= QUEUE or self._failure is not None or self._stuck:
            return
        begun = time.monotonic()
        self._wait(lambda: len(self._jobs) <= QUEUE or self._failure is not None, STUCK_SECONDS)
        self.waits += 1
        self.seconds_waited += max(time.monotonic() - begun, 0.0)
        self._stuck = len(self._jobs) > QUEUE and self._failure is None

    def _wait(self, is_so: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Wait until something is so, at most so many seconds, and see to it that somebody works meanwhile."""
        left = seconds
        while left > 0.0:
            self._keep_working()
            if is_so():
                return
            self._changed.wait(min(TICK, left))
            left -= TICK  # not by a clock

    def _keep_working(self) -> None:
        """Start the thread, where there is none that lives; where that cannot be, do the jobs here."""
        if self._thread is not None and self._thread.is_alive():
            return
        if self._thread is not None:  # it could not even say so
            self._has_died(None)
        if not (self._jobs and self._try):
            return
        self._stopping = False
        if self._deaths >= DEATHS:
            self._work_here()
            return
        # daemon: a training that forgets close() must be able to end
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            check_for_thread()
            self._thread = thread
            thread.start()
        except (RuntimeError, MemoryError) as error:
            self._thread = None
            self.news = NO_THREAD.format(cause=error or repr(error))
            self._work_here()

    def _work_here(self) -> None:
        while self._jobs and self._try:
            self._do_first()

    def _has_died(self, cause: BaseException | None) -> None:
        self._thread, self._try = None, True  # what it was at is not done
        self._deaths += 1
        self.news = DIED.format(cause=cause)

    def _work(self) -> None:
        try:
            yield_to_others()
            while self._waits_for_a_job():
                self._do_first()
        except BaseException as error:  # noqa: BLE001 - of little memory, say: another thread goes on
            with self._lock:
                self._has_died(error)
                self._changed.notify_all()

    def _waits_for_a_job(self) -> bool:
        """Wait for something to do; return False where there is nothing, and the thread is to end."""
        with self._lock:
            self._changed.wait_for(lambda: (self._jobs and self._try) or self._stopping)
            works = bool(self._jobs and self._try)
            if not works:
                self._thread = None
            return works

    def _do_first(self) -> None:
        with self._lock:
            job, asked = self._jobs[0], self._asked
            self._try = False
        begun = time.thread_time()
        failure = _attempt(job)
        self.seconds_worked += time.thread_time() - begun
        with self._lock:
            self._settle(failure, asked)

    def _settle(self, failure: Exception | None, asked: int) -> None:
        self._stuck, self._deaths = False, 0
        if failure is None:
            self._jobs.popleft()
            self._failure, self._try = None, True
        else:
            self._unseen = self._failure = failure
            self._failed_at, self._answered = time.monotonic(), asked
            self._try = self._try or self._asked > asked  # somebody asked to try again meanwhile
        self._count()
        self._changed.notify_all()


def yield_to_others() -> None:
    """Let the threads that train go first, where a thread has a priority of its own."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's, training included
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _attempt(job: Job) -> Exception | None:
    try:
        job()
    except Exception as error:  # noqa: BLE001 - it is told by take_failure() and drain()
        return error
    except BaseException as error:  # noqa: BLE001 - nothing that a job does may end who does it
        return RunError(f"writing was ended by {error!r}")
    return None
