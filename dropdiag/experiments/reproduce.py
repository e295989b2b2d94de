"""Reproduce an experiment of the paper: train, measure, draw, write one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dropdiag.errors import RunError
from dropdiag.experiments.asked import Asked, ask
from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.named import LOCAL, engine_named
from dropdiag.experiments.folders import Plan
from dropdiag.experiments.launching import announcement, train_all
from dropdiag.experiments.mnist.experiment import MNIST
from dropdiag.experiments.page import make_parts, write_page
from dropdiag.experiments.progress import display_for
from dropdiag.experiments.settings import TrainSettings, check_at_least_one
from dropdiag.store.reader import Runs, load


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` made.

    Attributes
    ----------
    page : Path
        The report, ``OUT/index.html``.
    files : tuple of Path
        Figures (PNG, SVG, PDF) and tables (CSV).
    trained, kept : tuple of str
        Names of the runs trained now, and of those found finished.
    failed : mapping
        Name of each run that failed -> what ended it. Bad accuracy is no failure.
    """

    page: Path
    files: tuple[Path, ...]
    trained: tuple[str, ...]
    kept: tuple[str, ...]
    failed: Mapping[str, str]


def reproduce(
    out: str | Path,
    name: str = MNIST.name,
    *,
    data: str | Path | None = None,
    limit: int | None = None,
    conditions: Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    engine: str | Engine = LOCAL,
    console: Console | None = None,
    **settings: Any,
) -> Reproduction:
    """Train an experiment's network in every condition and seed, and write figures, tables and a page.

    Finished runs in `out` are kept, so that an interrupted reproduction goes on where it was; a run that was
    under way is moved to ``out/interrupted`` and trained anew. Nothing is deleted. What trainings write to standard
    output and standard error is in ``out/launches``.

    Parameters
    ----------
    out : path
        Folder for runs, figures, tables and ``index.html``.
    name : {"mnist", "cifar10", "cifar100", "svhn", "fashion-mnist"}
        One of `EXPERIMENTS`: the paper's MNIST analysis, or its Figure 8 on another data set.
    data, limit
        See `load_images`.
    conditions : sequence of str, optional
        Those of "No dropout", "Dropout", "GAAF", "GAAF fitted", and with ReLU "GAAF port" that are wanted, by
        default the first four; for Figure 8 of "Base", "Batch norm", "GAAF", "Batch norm + GAAF", by default these;
        and of `dropdiag.experiments.surrogates`, for Figure 8 also "Dropout", and those as "Batch norm + ...".
    seeds : int, optional
        Seeds 0 to ``seeds - 1``, the same in every condition; by default 5, for Figure 8 3.
    jobs : int, optional
        Runs at a time, each a process with one thread; by default one on a GPU, on the CPU as many as there are
        cores, and on a cluster as many as it takes. The numbers do not depend on it.
    engine : str or Engine
        Where runs are trained: "local", "dask:ADDRESS", "slurm"; see `engine_named`.
    console : rich Console, optional
        Where progress is shown; standard error by default.
    **settings
        epochs, optimizer, lr, batch_size, every and the others of `MnistSettings`, or of `ImageSettings`.

    Returns
    -------
    Reproduction

    Raises
    ------
    ArgumentError
        For options that cannot be used, or if `out` holds finished runs of other settings or data; before
        anything is written.
    DataError
        If the data is missing or damaged; before anything is written.
    RunError
        If `out` cannot be written, another process trains one of the runs, or every run failed.
    KeyboardInterrupt
        Finished runs are whole, and a second call goes on with the others.

    Notes
    -----
    With one version of PyTorch a CPU run can be repeated bit for bit. On a GPU the sums of convolutions may be
    taken in another order each time.
    """
    console = console or Console(stderr=True)
    check_at_least_one(jobs=jobs)
    # Made twice where it is named: what trains decides on the device, and the device on how many train at a time.
    here = (engine_named(engine) if isinstance(engine, str) else engine).here
    asked = ask(
        Path(out), name, data=data, limit=limit, conditions=conditions, seeds=seeds, settings=settings, here=here
    )
    if isinstance(engine, str):
        engine = engine_named(engine, jobs or (1 if here and asked.settings.device != "cpu" else None))
    failed = _train(asked, engine, console)
    console.print("Drawing figures and tables", highlight=False)
    return _draw(asked, Path(out), failed)


def commands(
    out: str | Path,
    name: str = MNIST.name,
    *,
    data: str | Path | None = None,
    limit: int | None = None,
    conditions: Sequence[str] | None = None,
    seeds: int | None = None,
    **settings: Any,
) -> list[str]:
    """Return a command for a shell of each run that `reproduce` would train; nothing is written.

    Each works by itself, in any order and on any machine that sees the same files, and writes the same run.
    `reproduce` then finds the runs finished, and draws them.

    Parameters
    ----------
    out, name, data, limit, conditions, seeds, **settings
        See `reproduce`, as for the errors.
    """
    asked = ask(
        Path(out), name, data=data, limit=limit, conditions=conditions, seeds=seeds, settings=settings, here=False
    )
    return [launch.in_shell() for launch in asked.launches()]


def _train(asked: Asked, engine: Engine, console: Console) -> dict[str, str]:
    asked.plan.make_room()
    _announce(asked, engine, console)
    launches = asked.launches()
    if not launches:
        return {}
    with display_for(asked.steps(), console) as display:
        return train_all(launches, engine, display)


def _announce(asked: Asked, engine: Engine, console: Console) -> None:
    data, device = asked.data, asked.settings.device
    said = [f"Device: {device}; {data.checked}"] if data.checked else []
    said += [f"Data: {data.describe()}", *announcement(asked.plan, engine)]
    console.print("\n".join(said), markup=False, highlight=False, soft_wrap=True)


def _draw(asked: Asked, out: Path, failed: Mapping[str, str]) -> Reproduction:
    experiment, plan, settings = asked.experiment, asked.plan, asked.settings
    runs = finished(plan, asked.conditions, failed)
    parts = make_parts(runs, experiment.layers(settings), out, experiment.sections)
    page = write_page(out, parts, runs, experiment=experiment, settings=settings, data=asked.data, failed=failed)
    return Reproduction(
        page=page,
        files=tuple(path for part in parts for path in part.files),
        trained=tuple(job.name for job in plan.todo if job.name not in failed),
        kept=tuple(job.name for job in plan.done),
        failed=failed,
    )


def finished(plan: Plan[TrainSettings], names: Sequence[str], failed: Mapping[str, str]) -> Runs:
    """Open the runs that are whole, by condition in the order of `names`, then by seed.

    Raises
    ------
    RunError
        If there is none.
    """
    jobs = [job for job in (*plan.done, *plan.todo) if job.name not in failed]
    if not jobs:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RunError(f"every run failed, so there is nothing to draw ({reasons})")
    # As they are to be drawn, not as they were trained: colours and baselines go by the first condition.
    jobs.sort(key=lambda job: (names.index(job.settings.condition), job.settings.seed))
    return Runs(load([job.path for job in jobs]), ordered=True)
