"""One thread that does jobs in order, so that who hands them over need not wait for a disk."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import Final, Protocol

from dropdiag.errors import RunError

QUEUE: Final = 8
"""Jobs that may wait; who hands over one more waits until there is room."""


NICE: Final = 10
"""Priority of the thread, as of `nice`."""


class Job(Protocol):
    """Something to be done. Where it fails it is done again later: it remembers what of it is done."""

    @property
    def bins(self) -> int:
        """Histogram bins that it holds."""
        ...

    @property
    def rows(self) -> int:
        """Rows that it holds."""
        ...

    def __call__(self) -> None:
        """Do it, or what of it is left."""
        ...


class Background:
    """Does jobs one after the other in a thread of its own.

    A job that raises stays the first in line and is tried again when the next one comes or `drain` is called;
    nothing is dropped. While the last attempt has failed nobody is made to wait.

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
    """

    def __init__(self, name: str) -> None:
        self.waits, self.seconds_waited, self.seconds_worked = 0, 0.0, 0.0
        self._name, self._process = name, os.getpid()
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._failure: Exception | None = None  # of the last attempt: while it stands, nobody waits
        self._unseen: Exception | None = None  # until somebody is told: once an attempt
        self._try = self._stopping = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Hand over a job; wait where too many are in line, unless the last attempt failed.

        Raises
        ------
        RunError
            In a process that was forked from the one that opened the run.
        """
        self._check_process()
        with self._changed:
            self._start()
            refused = self._failure is not None
            self._jobs.append(job)  # before waiting: an interrupted wait loses nothing
            self._wake()
            if len(self._jobs) > QUEUE and not refused:
                begun = time.monotonic()
                self._changed.wait_for(lambda: len(self._jobs) <= QUEUE or self._failure is not None)
                self.waits += 1
                self.seconds_waited += time.monotonic() - begun

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
        with self._changed:
            if self._jobs:
                self._start()
                self._wake()
                self._changed.wait_for(lambda: not self._jobs or self._failure is not None)
            if self._jobs and self._failure is not None:
                self._unseen = None
                raise self._failure

    def stop(self) -> None:
        """End the thread once it is idle."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def take_failure(self) -> Exception | None:
        """Return a failure that was not told yet."""
        if self._unseen is None:
            return None
        failure, self._unseen = self._unseen, None
        return failure

    def waiting(self) -> tuple[int, int]:
        """Return how many bins and rows are in line."""
        with self._changed:
            return sum(job.bins for job in self._jobs), sum(job.rows for job in self._jobs)

    def _check_process(self) -> None:
        if os.getpid() != self._process:  # the thread was left behind, and with it perhaps its lock
            raise RunError("this process was forked while recording; open a Recorder of its own, on another path")

    def _start(self) -> None:
        if self._thread is None:
            self._stopping = False
            # daemon: a training that forgets close() must be able to end
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def _wake(self) -> None:
        self._try, self._failure = True, None
        self._changed.notify_all()

    def _work(self) -> None:
        _yield_to_others()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: (self._jobs and self._try) or self._stopping)
                if not (self._jobs and self._try):
                    self._thread = None
                    return
                job, self._try = self._jobs[0], False
            begun = time.thread_time()
            failure = _attempt(job)
            self.seconds_worked += time.thread_time() - begun
            with self._changed:
                self._settle(failure)

    def _settle(self, failure: Exception | None) -> None:
        if failure is None:
            self._jobs.popleft()
            self._try = True
        else:
            self._unseen = failure
            self._failure = None if self._try else failure  # somebody asked to try again meanwhile
        self._changed.notify_all()


def _yield_to_others() -> None:
    """Let the threads that train go first, where a thread has a priority of its own."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's, training included
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _attempt(job: Job) -> Exception | None:
    try:
        job()
    except Exception as error:  # noqa: BLE001 - it is told by take_failure() and drain()
        return error
    return None
