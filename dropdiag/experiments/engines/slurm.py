"""Trainings as the jobs of a Slurm array, by submitit; its local executor starts the same jobs on this machine."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.experiments.engines import launcher
from dropdiag.experiments.engines.inside import IGNORE, in_words
from dropdiag.experiments.engines.launch import End, Launch, check_names
from dropdiag.experiments.engines.stop import GRACE_SECONDS, Stop

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

SLURM, LOCAL = "slurm", "local"
STOP: Final = "stop"
"""File by which jobs hear that they are to end."""
LOOK_SECONDS: Final = 1.0
"""How often it is looked which jobs have ended: at a file each. Slurm itself is asked ever more seldom."""

DEFAULTS: Final = {"name": "dropdiag", "timeout_min": 24 * 60, "cpus_per_task": 1}


class SlurmEngine:
    """Trains as jobs of Slurm, on machines that see the same files; see `Engine`.

    A job that is preempted ends its training, is queued again and trains anew.

    Parameters
    ----------
    jobs : int, optional
        Jobs at a time; by default as many as Slurm grants.
    parameters : mapping, optional
        Of submitit's `AutoExecutor`, as in ``{"slurm_partition": "gpu", "gpus_per_node": 1, "timeout_min": 600}``.
    cluster : {"slurm", "local"}
        "local" starts all jobs at once on this machine, whatever `jobs` is: for trying it out.

    Raises
    ------
    ArgumentError
        If `submitit` is not installed.
    """

    def __init__(
        self, jobs: int | None = None, parameters: Mapping[str, Any] | None = None, cluster: str = SLURM
    ) -> None:
        try:
            import submitit  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise ArgumentError("the engine 'slurm' needs submitit: pip install 'dropdiag[slurm]'") from None
        self.jobs, self.parameters, self.cluster = jobs, dict(parameters or {}), cluster

    @property
    def here(self) -> bool:
        """See `Engine.here`."""
        return self.cluster == LOCAL

    def describe(self, launches: int) -> str:
        """See `Engine.describe`."""
        if self.cluster == LOCAL:
            return "all at a time, as jobs of submitit"
        return "as an array of Slurm" + (f", {min(self.jobs, launches)} at a time" if self.jobs else "")

    def run(self, launches: Sequence[Launch]) -> Generator[End, None, None]:
        """See `Engine.run`."""
        from submitit.helpers import as_completed  # noqa: PLC0415 - an extra

        check_names(launches)
        if not launches:
            return
        folder = launches[0].folder
        folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own: submitit's local jobs are named by process ids, which come again.
        folder = Path(tempfile.mkdtemp(prefix="submitit-", dir=folder))
        jobs = self.submit(launches, folder)
        names = {job.job_id: launch.name for job, launch in zip(jobs, launches, strict=True)}
        try:
            for job in as_completed(jobs, poll_frequency=LOOK_SECONDS):
                yield _end(names[job.job_id], job)
        finally:
            self._end_all([job for job in jobs if not job.done()], folder)

    def submit(self, launches: Sequence[Launch], folder: Path) -> list[Job[End]]:
        """Return a job of submitit for each launch; its files are in a folder that is there."""
        try:
            return self._executor(folder).map_array(Requeued(folder / STOP), launches)
        except (NameError, ValueError, AssertionError, RuntimeError) as error:  # what submitit, and sbatch, refuse with
            raise ArgumentError(f"{self.cluster} takes no jobs: {error}") from error

    def _executor(self, folder: Path) -> AutoExecutor:
        from submitit import AutoExecutor  # noqa: PLC0415 - an extra

        most = {"slurm_array_parallelism": self.jobs} if self.jobs else {}
        # A training that takes too long begins anew when it is queued again, and would take as long again.
        executor = AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=0)
        executor.update_parameters(**{**DEFAULTS, **most, **self.parameters})
        return executor

    def _end_all(self, jobs: list[Job[End]], folder: Path) -> None:
        """End what is under way or waits for its turn; nothing does, unless the engine was interrupted."""
        if not jobs:
            return
        (folder / STOP).touch()  # for jobs of any kind, and those that are just about to begin
        if self.cluster == SLURM:
            # SIGINT reaches launchers and trainings at once, whenever they would see the file.
            for which in ("--state=PENDING",), ("--state=RUNNING", "--signal=INT"):
                subprocess.run(["scancel", *which, *(job.job_id for job in jobs)], check=False)  # noqa: S603, S607 - Slurm's own
        late = time.monotonic() + 2 * GRACE_SECONDS
        while any(not job.done() for job in jobs) and time.monotonic() < late:
            time.sleep(LOOK_SECONDS)
        for job in jobs:
            if not job.done():
                job.cancel(check=False)


class Requeued:
    """What a job does: it waits for one training, and when it is preempted, ends it and asks for another turn.

    Parameters
    ----------
    asked : Path
        The training is ended once this file is there.
    """

    def __init__(self, asked: Path) -> None:
        self._asked = asked
        self._stop: Stop | None = None
        self._end: Future[End] | None = None

    def __call__(self, launch: Launch) -> End:
        """Run a launch."""
        # Slurm sends its signals to all processes of a job; what becomes of the training is this one's business.
        signals = ",".join(("SIGTERM", "SIGCONT", "SIGUSR1", "SIGUSR2"))
        launch = replace(launch, environment={**launch.environment, IGNORE: signals})
        self._stop = stop = Stop()
        # In a thread: a signal's handler, which is in the main one, must be able to wait for the process.
        with stop.when(self._asked.exists), ThreadPoolExecutor(1) as pool:
            self._end = pool.submit(launcher.run, launch, stop)
            try:
                return self._end.result()
            except BaseException:
                stop.set()
                raise

    def checkpoint(self, launch: Launch) -> DelayedSubmission:
        """End the training and return what is to be done in the next turn: submitit calls this before a requeue."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415 - an extra

        if self._stop is not None and self._end is not None:
            self._stop.set()
            wait([self._end])
        return DelayedSubmission(Requeued(self._asked), launch)


def _end(name: str, job: Job[End]) -> End:
    try:
        return job.result()
    except Exception as error:  # noqa: BLE001 - whatever became of a job, it is one failure among others
        reason = in_words(error).strip().splitlines()
        return End(name, f"its job {job.job_id} ended before it: {reason[0]}", output="\n".join(reason[1:]))
