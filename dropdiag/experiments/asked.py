"""What a reproduction asks for: an experiment, settings, data, and which runs are left to be trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.datasets import DATASETS, Images, dataset_named
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.engines.launch import Launch
from dropdiag.experiments.experiment import Experiment
from dropdiag.experiments.folders import Job, Plan
from dropdiag.experiments.images.experiment import figure8
from dropdiag.experiments.mnist.experiment import MNIST
from dropdiag.experiments.plan import make_plan
from dropdiag.experiments.run_one import One
from dropdiag.experiments.settings import S, TrainSettings, check_at_least_one, condition_named
from dropdiag.experiments.under_way import LAUNCHES, refuse_under_way

EXPERIMENTS: Final[dict[str, Experiment[Any]]] = {
    **{key: figure8(key) for key in DATASETS if key != MNIST.name},
    MNIST.name: MNIST,
}
"""Every data set has Figure 8's networks but MNIST, which has an analysis of its own."""


@dataclass(frozen=True)
class Asked:
    """What is asked for, checked; nothing has been written yet.

    Attributes
    ----------
    experiment : Experiment
    conditions : list of str
    data : Images
    limit : int or None
        See `load_images`.
    settings : TrainSettings
        Of the first condition's first seed; the others differ in these alone.
    plan : Plan
    """

    experiment: Experiment[Any]
    conditions: list[str]
    data: Images
    limit: int | None
    settings: TrainSettings
    plan: Plan[TrainSettings]

    def launches(self) -> list[Launch]:
        """Return how the runs that are left are trained, in order."""
        return [_launch_of(job, self.data, self.limit) for job in self.plan.todo]

    def steps(self) -> dict[str, int]:
        """Return the greatest number of training steps of each run that is left."""
        return {job.name: job.settings.steps(len(self.data.train_labels)) for job in self.plan.todo}


def ask(
    out: Path,
    name: str,
    *,
    data: str | Path | None,
    limit: int | None,
    conditions: Sequence[str] | None,
    seeds: int | None,
    settings: Mapping[str, Any],
    here: bool,
) -> Asked:
    """Check what is asked for; see `dropdiag.experiments.reproduce.reproduce`.

    Parameters
    ----------
    here : bool
        Whether this machine trains, and decides on what.

    Raises
    ------
    ArgumentError, DataError
        If it cannot be done.
    RunError
        If another process trains one of the runs.
    """
    experiment = EXPERIMENTS[dataset_named(name).key]
    wanted = chosen_conditions(experiment, conditions)
    seeds = experiment.seeds if seeds is None else seeds
    check_at_least_one(seeds=seeds)
    experiment.refuse_unknown(settings)
    recipe = experiment.recipe
    template = recipe.settings(wanted[0], seed=0, **{**experiment.fixed, **settings})
    template = recipe.place(template) if here else template
    images = load_images(name, data, limit)
    template = replace(recipe.prepare(template, images), data=images.digest, source=images.source)
    # Seed by seed, not condition by condition: what is there after an interrupt already makes pairs.
    pairs = itertools.product(range(seeds), wanted)
    plan = make_plan(out, [replace(template, condition=condition, seed=seed) for seed, condition in pairs])
    refuse_under_way(out, [job.name for job in plan.todo])
    return Asked(experiment, wanted, images, limit, template, plan)


def chosen_conditions(experiment: Experiment[S], given: Sequence[str] | None) -> list[str]:
    """Return the conditions that are meant, each once; raise `ArgumentError` if none is."""
    known = tuple(experiment.conditions)
    if given is None:
        return list(experiment.default_conditions)
    names = list(dict.fromkeys(condition_named(name, known) for name in given))
    if not names:
        raise ArgumentError(f"no condition was given; choose among {', '.join(map(repr, known))}")
    return names


def _launch_of(job: Job[TrainSettings], data: Images, limit: int | None) -> Launch:
    """Return how a run is trained, in a process that loads the data again."""
    out = job.path.parent.parent
    one = One(data.dataset.key, data.folder, limit, out, job.settings.config())
    return Launch(job.name, one.command(), (out / LAUNCHES).absolute())
