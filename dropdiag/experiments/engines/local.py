"""Trainings on this machine: joblib's threads wait for them."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence

from dropdiag.experiments.engines import launcher
from dropdiag.experiments.engines.launch import End, Launch, check_names
from dropdiag.experiments.engines.stop import Stop


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalEngine:
    """Trains on this machine; see `Engine`.

    Parameters
    ----------
    jobs : int, optional
        Trainings at a time; by default one a core.
    """

    here = True

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs or cores()

    def describe(self, launches: int) -> str:
        """See `Engine.describe`."""
        return f"{min(self.jobs, launches)} at a time"

    def run(self, launches: Sequence[Launch]) -> Generator[End, None, None]:
        """See `Engine.run`."""
        from joblib import Parallel, delayed  # noqa: PLC0415 - imports numpy, for which no training should wait

        check_names(launches)
        stop = Stop()
        # Threads, which only wait: one loky worker that is killed would fail all that joblib has in hand.
        parallel = Parallel(n_jobs=self.jobs, backend="threading", return_as="generator_unordered")
        ends = parallel(delayed(launcher.run)(launch, stop) for launch in launches)
        try:
            for end in ends:  # noqa: UP028 - `yield from` would close joblib's iterator before `stop` is set
                yield end
        finally:
            stop.set()
            for _ in ends:  # what has not begun ends at once; joblib warns of what is not taken from it
                pass
            stop.wait()
