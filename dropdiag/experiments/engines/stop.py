"""End the processes that launchers wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Final

GRACE_SECONDS: Final = 30.0
"""A training that is told to end has so long to close its run; then it is killed."""

LOOK_SECONDS: Final = 1.0


class Stop:
    """Ends the processes that are under way, and lets no other begin; once set, for good.

    It may be set from any thread, and from a signal's handler.
    """

    def __init__(self) -> None:
        # Reentrant: a signal's handler may come while its own thread is in here.
        self._changed = threading.Condition(threading.RLock())
        self._processes: set[_UnderWay] = set()
        self._launchers = 0
        self._set = False

    @property
    def is_set(self) -> bool:
        """Whether all are to end."""
        return self._set

    def set(self) -> None:
        """Tell every process to end; returns at once."""
        with self._changed:
            self._set = True
            for process in self._processes:
                process.interrupt()

    def wait(self) -> None:
        """Return when no launcher is at work any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._launchers)

    @contextlib.contextmanager
    def launcher(self) -> Iterator[None]:
        """Count a launcher as at work."""
        with self._changed:
            self._launchers += 1
        try:
            yield
        finally:
            with self._changed:
                self._launchers -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def when(self, unwanted: Callable[[], bool]) -> Iterator[None]:
        """Set it once something holds, which is looked at now and every second; an OSError counts as if it did."""
        self._set_if(unwanted)
        over = threading.Event()

        def look() -> None:
            while not (self._set or over.wait(LOOK_SECONDS)):
                self._set_if(unwanted)

        watch = threading.Thread(target=look, name="dropdiag-unwanted", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _set_if(self, unwanted: Callable[[], bool]) -> None:
        try:
            is_unwanted = unwanted()
        except OSError:  # who would say so has gone
            is_unwanted = True
        if is_unwanted:
            self.set()

    @contextlib.contextmanager
    def watching(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Hold a process that is waited for; it is told to end if waiting is, and then has ended."""
        under_way = _UnderWay(process)
        with self._changed:
            self._processes.add(under_way)
            if self._set:
                under_way.interrupt()
        try:
            yield
        except BaseException:  # Ctrl-C, where the launcher is in the main thread
            under_way.interrupt()
            process.wait()
            raise
        finally:
            with self._changed:
                self._processes.discard(under_way)
            under_way.close()


class _UnderWay:
    """A process whose standard input is the line on which it hears of its launcher's end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._killer: threading.Timer | None = None

    def interrupt(self) -> None:
        """Send it SIGINT, and kill it if it does not end."""
        if self._killer is not None:
            return
        self._killer = threading.Timer(GRACE_SECONDS, self._process.kill)
        self._killer.daemon = True
        self._killer.start()
        if os.name == "posix":
            self._process.send_signal(signal.SIGINT)
        self._let_go()

    def close(self) -> None:
        """Let go of a process that has ended."""
        if self._killer is not None:
            self._killer.cancel()
        self._let_go()

    def _let_go(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
