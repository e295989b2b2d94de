"""Train what a plan leaves to be trained: a launch a run, an engine, and what is seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.following import Following
from dropdiag.experiments.engines.launch import Launch
from dropdiag.experiments.plan import Job
from dropdiag.experiments.progress import Display
from dropdiag.experiments.run_one import One
from dropdiag.experiments.under_way import LAUNCHES


def launch_of(job: Job, data: Images, limit: int | None) -> Launch:
    """Return how a run is trained, in a process that loads the data again."""
    out = job.path.parent.parent
    one = One(data.dataset.key, data.folder, limit, out, job.settings.config())
    return Launch(job.name, one.command(), (out / LAUNCHES).absolute())


def train_all(launches: Sequence[Launch], engine: Engine, display: Display) -> dict[str, str]:
    """Train all runs; one that fails does not stop the others.

    Parameters
    ----------
    launches : sequence of Launch
    engine : Engine
    display : Display

    Returns
    -------
    dict
        Name of each failed run -> what ended it.

    Raises
    ------
    KeyboardInterrupt
        After the runs under way were ended and marked as interrupted; finished runs are whole.
    """
    failed = {}
    with Following(launches, display.step) as following, closing(engine.run(launches)) as ends:
        for end in ends:
            if end.error is not None:
                failed[end.name] = end.error
            with following.told(end.name):
                display.end(end.name, end.error)
                if end.output and end.error is None:
                    display.wrote(end.name, end.output)
    return failed
