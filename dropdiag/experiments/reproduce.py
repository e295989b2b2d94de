"""Reproduce the paper's MNIST analysis: train, measure, draw, write one page."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.data.mnist import Mnist, load_mnist
from dropdiag.experiments.mnist.network import CONDITIONS, WIDTHS, condition_named
from dropdiag.experiments.mnist.train import Settings, check_validation
from dropdiag.experiments.page import make_parts, write_page
from dropdiag.experiments.plan import Job, Plan, make_plan
from dropdiag.experiments.progress import display_for
from dropdiag.experiments.runner import Work, cores, train_all
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
    *,
    data: str | Path | None = None,
    conditions: Sequence[str] = CONDITIONS,
    seeds: int = 5,
    epochs: int = 20,
    optimizer: str = "adam",
    lr: float | None = None,
    batch_size: int = 128,
    rate: float = 0.5,
    widths: tuple[int, ...] = WIDTHS,
    every: int = 10,
    activation: str = "tanh",
    patience: int | None = None,
    validation: int | None = None,
    jobs: int | None = None,
    console: Console | None = None,
) -> Reproduction:
    """Train the paper's network in every condition and seed, and write figures, tables and a page.

    Finished runs in `out` are kept, so that an interrupted reproduction goes on where it was; a run that was
    under way is moved to ``out/interrupted`` and trained anew. Nothing is deleted.

    Parameters
    ----------
    out : path
        Folder for runs, figures, tables and ``index.html``.
    data : path, optional
        Folder of MNIST's four IDX files; see `load_mnist`.
    conditions : sequence of str
        Out of "No dropout", "Dropout", "GAAF", "GAAF fitted", and with ReLU "GAAF port"; by default the first four.
    seeds : int
        Seeds 0 to ``seeds - 1``, the same in every condition.
    epochs, optimizer, lr, batch_size, rate, widths, every, activation, patience
        See `Settings`.
    validation : int, optional
        Training images held out for early stopping; by default a sixth of them (10,000 of MNIST's 60,000) with
        `patience`, none without.
    jobs : int, optional
        Runs at a time, each in a process with one thread; by default as many as there are cores. The numbers
        do not depend on it. More than one needs a script's main part under ``if __name__ == "__main__":``.
    console : rich Console, optional
        Where progress is shown; standard error by default.

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
    """
    out, console = Path(out), console or Console(stderr=True)
    names = chosen_conditions(conditions, condition_named, CONDITIONS)
    check_counts(seeds, jobs)
    template = Settings(
        names[0],
        seed=0,
        epochs=epochs,
        optimizer=optimizer,
        lr=lr,
        batch_size=batch_size,
        rate=rate,
        widths=widths,
        every=every,
        activation=activation,
    )
    mnist = load_mnist(data)
    if validation is None:
        validation = 0 if patience is None else len(mnist.train_labels) // 6
    check_validation(validation, len(mnist.train_labels))
    template = replace(template, data=mnist.digest, source=mnist.source, validation=validation, patience=patience)
    wanted = [replace(template, condition=c, seed=s) for s, c in itertools.product(range(seeds), names)]
    plan = make_plan(out, wanted)
    plan.make_room()
    failed = train_planned(plan, mnist, jobs or cores(), console)
    runs = finished(plan, names, failed)
    console.print("Drawing figures and tables", highlight=False)
    parts = make_parts(runs, len(widths) - 2, out)
    page = write_page(out, parts, runs, settings=template, data=mnist.describe(), failed=failed)
    return Reproduction(
        page=page,
        files=tuple(path for part in parts for path in part.files),
        trained=tuple(job.name for job in plan.todo if job.name not in failed),
        kept=tuple(job.name for job in plan.done),
        failed=failed,
    )


def chosen_conditions(given: Sequence[str], named: Callable[[str], str], known: Sequence[str]) -> list[str]:
    """Return the conditions that are meant, each once; raise `ArgumentError` if none is."""
    names = list(dict.fromkeys(map(named, given)))
    if not names:
        raise ArgumentError(f"no condition was given; choose among {', '.join(map(repr, known))}")
    return names


def check_counts(seeds: int, jobs: int | None) -> None:
    """Raise an ArgumentError unless there is a seed and a run at a time."""
    if seeds < 1:
        raise ArgumentError(f"seeds must be at least 1, got {seeds}")
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"jobs must be at least 1, got {jobs}")


def train_planned(
    plan: Plan, data: Mnist | Images, jobs: int, console: Console, work: Work | None = None
) -> dict[str, str]:
    """Train what is to be trained, `jobs` runs at a time, and say so; see `train_all`."""
    steps = {job.name: job.settings.steps(len(data.train_labels)) for job in plan.todo}
    said = [f"Data: {data.describe()}"]
    said += [f"{source.name} was interrupted; moved to {target}" for source, target in plan.aside]
    if plan.done:
        said.append(f"Kept, because finished: {len(plan.done)} of {len(plan.done) + len(steps)} runs")
    if steps:
        said.append(f"Training {len(steps)} runs, {min(jobs, len(steps))} at a time")
    console.print("\n".join(said), markup=False, highlight=False, soft_wrap=True)
    if not steps:
        return {}
    with display_for(steps, console) as display:
        return train_all(plan.todo, data, jobs, display, work)


def finished(plan: Plan, names: Sequence[str], failed: Mapping[str, str]) -> Runs:
    """Open the runs that are whole, by condition in the order of `names`, then by seed.

    Raises
    ------
    RunError
        If there is none.
    """
    jobs: list[Job] = [job for job in (*plan.done, *plan.todo) if job.name not in failed]
    if not jobs:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RunError(f"every run failed, so there is nothing to draw ({reasons})")
    jobs.sort(key=lambda job: (names.index(job.settings.condition), job.settings.seed))
    return load([job.path for job in jobs])
