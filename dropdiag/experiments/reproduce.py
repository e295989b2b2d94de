"""Reproduce an experiment of the paper: train, measure, draw, write one page."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.data.datasets import DATASETS, Images, dataset_named
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.experiment import Experiment
from dropdiag.experiments.images.experiment import figure8
from dropdiag.experiments.mnist.experiment import MNIST
from dropdiag.experiments.page import make_parts, write_page
from dropdiag.experiments.plan import Plan, make_plan
from dropdiag.experiments.progress import display_for
from dropdiag.experiments.runner import Work, cores, train_all
from dropdiag.experiments.settings import S, check_at_least_one, condition_named
from dropdiag.store.reader import Runs, load

EXPERIMENTS: Final[dict[str, Experiment[Any]]] = {
    **{key: figure8(key) for key in DATASETS if key != MNIST.name},
    MNIST.name: MNIST,
}
"""Every data set has Figure 8's networks but MNIST, which has an analysis of its own."""


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
    console: Console | None = None,
    **settings: Any,
) -> Reproduction:
    """Train an experiment's network in every condition and seed, and write figures, tables and a page.

    Finished runs in `out` are kept, so that an interrupted reproduction goes on where it was; a run that was
    under way is moved to ``out/interrupted`` and trained anew. Nothing is deleted.

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
        default the first four; for Figure 8 of "Base", "Batch norm", "GAAF", "Batch norm + GAAF", by default all.
    seeds : int, optional
        Seeds 0 to ``seeds - 1``, the same in every condition; by default 5, for Figure 8 3.
    jobs : int, optional
        Runs at a time, each in a process with one thread; by default one on a GPU, on the CPU as many as there are
        cores. The numbers do not depend on it. More than one needs a script's main part under
        ``if __name__ == "__main__":``.
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
        If `out` cannot be written, or every run failed.
    KeyboardInterrupt
        Finished runs are whole, and a second call goes on with the others.

    Notes
    -----
    With one version of PyTorch a CPU run can be repeated bit for bit. On a GPU the sums of convolutions may be
    taken in another order each time.
    """
    experiment, console = EXPERIMENTS[dataset_named(name).key], console or Console(stderr=True)
    wanted = chosen_conditions(experiment, conditions)
    seeds = experiment.seeds if seeds is None else seeds
    check_at_least_one(seeds=seeds, jobs=jobs)
    experiment.refuse_unknown(settings)
    template = experiment.settings(wanted[0], seed=0, **{**experiment.fixed, **settings})
    images = load_images(name, data, limit)
    template = replace(experiment.prepare(template, images), data=images.digest, source=images.source)
    # Seed by seed, not condition by condition: what is there after an interrupt already makes pairs.
    pairs = itertools.product(range(seeds), wanted)
    plan = make_plan(Path(out), [replace(template, condition=condition, seed=seed) for seed, condition in pairs])
    plan.make_room()
    jobs = jobs or (cores() if template.device == "cpu" else 1)
    _announce(plan, images, template.device, jobs, console)
    work = Work(functools.partial(load_images, name, images.folder, limit), experiment.train)
    failed = _train(plan, images, jobs, console, work)
    runs = finished(plan, wanted, failed)
    console.print("Drawing figures and tables", highlight=False)
    parts = make_parts(runs, experiment.layers(template), Path(out), experiment.sections)
    page = write_page(Path(out), parts, runs, experiment=experiment, settings=template, data=images, failed=failed)
    return Reproduction(
        page=page,
        files=tuple(path for part in parts for path in part.files),
        trained=tuple(job.name for job in plan.todo if job.name not in failed),
        kept=tuple(job.name for job in plan.done),
        failed=failed,
    )


def chosen_conditions(experiment: Experiment[S], given: Sequence[str] | None) -> list[str]:
    """Return the conditions that are meant, each once; raise `ArgumentError` if none is."""
    known = tuple(experiment.conditions)
    if given is None:
        return list(experiment.default_conditions)
    names = list(dict.fromkeys(condition_named(name, known) for name in given))
    if not names:
        raise ArgumentError(f"no condition was given; choose among {', '.join(map(repr, known))}")
    return names


def _announce(plan: Plan, data: Images, device: str, jobs: int, console: Console) -> None:
    todo = len(plan.todo)
    said = [f"Device: {device}; {data.checked}"] if data.checked else []
    said.append(f"Data: {data.describe()}")
    said += [f"{source.name} was interrupted; moved to {target}" for source, target in plan.aside]
    if plan.done:
        said.append(f"Kept, because finished: {len(plan.done)} of {len(plan.done) + todo} runs")
    if todo:
        said.append(f"Training {todo} runs, {min(jobs, todo)} at a time")
    console.print("\n".join(said), markup=False, highlight=False, soft_wrap=True)


def _train(plan: Plan, data: Images, jobs: int, console: Console, work: Work) -> dict[str, str]:
    if not plan.todo:
        return {}
    steps = {job.name: job.settings.steps(len(data.train_labels)) for job in plan.todo}
    with display_for(steps, console) as display:
        return train_all(plan.todo, data, jobs, display, work)


def finished(plan: Plan, names: Sequence[str], failed: Mapping[str, str]) -> Runs:
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
