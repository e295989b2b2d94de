"""Reproduce Figure 8 on one data set: train, measure, draw, write one page."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dropdiag.errors import DataError
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.images.network import CONDITIONS, condition_named
from dropdiag.experiments.images.page import parts_of, write_page
from dropdiag.experiments.images.settings import WEIGHT_DECAY, Settings
from dropdiag.experiments.images.train import AUTO, device_named, train
from dropdiag.experiments.plan import make_plan
from dropdiag.experiments.reproduce import Reproduction, check_counts, chosen_conditions, finished, train_planned
from dropdiag.experiments.runner import Work, cores


def reproduce(
    out: str | Path,
    dataset: str,
    *,
    data: str | Path | None = None,
    conditions: Sequence[str] = CONDITIONS,
    seeds: int = 3,
    epochs: int = 60,
    batch_size: int = 128,
    optimizer: str = "sgd",
    lr: float | None = None,
    weight_decay: float = WEIGHT_DECAY,
    clip: float = 1.0,
    width: float = 1.0,
    every: int = 100,
    record_epochs: int = 10,
    amp: bool = False,
    limit: int | None = None,
    device: str = AUTO,
    jobs: int | None = None,
    console: Console | None = None,
) -> Reproduction:
    """Train the VGG-like network in every condition and seed, and write figures, tables and a page.

    Finished runs in `out` are kept, so that an interrupted reproduction goes on where it was; a run that was
    under way is moved to ``out/interrupted`` and trained anew. Nothing is deleted.

    Parameters
    ----------
    out : path
        Folder for runs, figures, tables and ``index.html``.
    dataset : {"cifar10", "cifar100", "svhn"}
    data, limit
        See `load_images`.
    conditions : sequence of str
        Out of "Base", "Batch norm", "GAAF", "Batch norm + GAAF".
    seeds : int
        Seeds 0 to ``seeds - 1``, the same in every condition.
    epochs, batch_size, optimizer, lr, weight_decay, clip, width, every, record_epochs, amp
        See `Settings`.
    device : {"auto", "cuda", "mps", "cpu"}
        What trains: by default a CUDA GPU if there is one, else Apple's, else the CPU.
    jobs : int, optional
        Runs at a time, each in a process with one thread; by default one on a GPU, on the CPU as many as there are
        cores. More than one needs a script's main part under ``if __name__ == "__main__":``.
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

    Notes
    -----
    On one device type and version of PyTorch a CPU run can be repeated bit for bit. On a GPU the sums of
    convolutions may be taken in another order each time.
    """
    out, console = Path(out), console or Console(stderr=True)
    names = chosen_conditions(conditions, condition_named, CONDITIONS)
    check_counts(seeds, jobs)
    template = Settings(
        dataset,
        names[0],
        seed=0,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        clip=clip,
        width=width,
        every=every,
        record_epochs=record_epochs,
        amp=amp,
        device=device_named(device),
    )
    images = load_images(dataset, data, limit)
    if len(images.train_labels) < 2:
        raise DataError(f"{images.source}: one training image; batch norm needs two at least")
    template = replace(template, data=images.digest, source=images.source)
    wanted = [replace(template, condition=c, seed=s) for s, c in itertools.product(range(seeds), names)]
    plan = make_plan(out, wanted)
    plan.make_room()
    jobs = jobs or (cores() if template.device == "cpu" else 1)
    console.print(f"Device: {template.device}; {images.checked}", markup=False, highlight=False, soft_wrap=True)
    failed = train_planned(
        plan, images, jobs, console, Work(functools.partial(load_images, dataset, limit=limit), train)
    )
    runs = finished(plan, names, failed)
    console.print("Drawing figures and tables", highlight=False)
    parts = parts_of(runs, dataset, out)
    page = write_page(out, parts, runs, settings=template, data=images, failed=failed)
    return Reproduction(
        page=page,
        files=tuple(path for part in parts for path in part.files),
        trained=tuple(job.name for job in plan.todo if job.name not in failed),
        kept=tuple(job.name for job in plan.done),
        failed=failed,
    )
