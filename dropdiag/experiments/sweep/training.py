"""One run of a sweep: the user's function between seeds that are set and what is asked of its run afterwards."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.engines.report import Report
from dropdiag.experiments.folders import RUNS, aside, completed_meta, planned
from dropdiag.experiments.sweep.axes import OWN, SEED, SWEEP
from dropdiag.experiments.sweep.changes import change
from dropdiag.experiments.sweep.config import Config
from dropdiag.experiments.sweep.function import Function, Train
from dropdiag.experiments.sweep.one import One
from dropdiag.experiments.under_way import being_trained
from dropdiag.recording.arguments import checked_config
from dropdiag.recording.surroundings import SURROUNDINGS
from dropdiag.store.folder import read_meta
from dropdiag.store.storage.places import as_path


class Training:
    """What surrounds the Recorder of one run: gives it its config, and changes the model; see `Surroundings`.

    Parameters
    ----------
    path : Path
        The run folder, absolute.
    config : Config
    report : Report
    """

    def __init__(self, path: Path, config: Config, report: Report) -> None:
        self.path, self.config, self._report = path, config, report
        self._opened = False
        # held here, as schedules are followed only while somebody holds them
        self._changes: list[object] = []

    def opening(self, model: nn.Module, path: Path, name: str | None, config: object) -> dict[str, Any]:
        """See `Surroundings.opening`."""
        if self._opened:
            raise ArgumentError(
                f"train opens a second Recorder, at {path}: a run of a sweep is one Recorder on one model, and "
                f"{self.path} has its own"
            )
        if name is not None or path != self.path:
            at = path if name is None else path / name
            raise ArgumentError(f"train opens a Recorder at {at}, and was given {self.path}: open it at that path")
        merged = self._merged(config)
        self._changes = [
            made(model) for key, value in self.config.given.items() if (made := change(key, value)) is not None
        ]
        self._opened = True
        return merged

    def step(self, completed: int) -> None:
        """See `Surroundings.step`."""
        self._report.step(completed)

    def _merged(self, config: object) -> dict[str, Any]:
        given, own = self.config.given, checked_config(None if config is self.config else config)
        for key in own.keys() & given.keys():
            if own[key] != given[key]:
                raise ArgumentError(
                    f"the Recorder's config has {key!r} = {own[key]!r}, where the sweep gives {given[key]!r}: "
                    f"leave {key!r} out, or call it something else"
                )
        return {**given, **own}

    def check(self) -> None:
        """Raise `RunError` unless `train` did what a run of a sweep is."""
        if not self._opened:
            raise RunError(
                f"train has recorded nothing: it opened no Recorder at the path that it was given, {self.path}; "
                "write `with dd.Recorder(model, path) as rec:` around its steps"
            )
        meta = read_meta(self.path)
        if meta["state"] != "completed":
            why = f" ({meta['error']})" if meta["error"] else ""
            raise RunError(
                f"the run is {meta['state']}{why}, though train is over: "
                "close the Recorder, best by `with dd.Recorder(model, path) as rec:`"
            )
        if not meta["steps"]:
            raise RunError("the run has no step: train must call rec.step() after each training step")
        keys = [key for key, value in self.config.given.items() if key not in OWN and change(key, value) is None]
        if unread := self.config.unread(keys):
            raise RunError(
                f"{', '.join(map(repr, unread))} was never read by train, so all its values would give the same "
                f"network: use config[{unread[0]!r}] in it, or an axis that sets the model's dropouts itself, as "
                "'dropout:*' does"
            )


def train_one(one: One, report: Report, train: Train | None = None) -> None:
    """Train a run, unless it is finished.

    Parameters
    ----------
    one : One
    report : Report
    train : callable, optional
        In place of the one that is named.

    Raises
    ------
    RunError
        If `train` did not record into its path as it should, another process trains the run, or its folder cannot be
        written. Also whatever `train` raises; a run that was completed before is moved aside then.
    ArgumentError
        If the file of `train` is not the one that was planned with.
    """
    with being_trained(one.out, one.name):
        plan = planned(one.out, {one.name: one.config}, lambda _path, _meta: None)
        if not plan.todo:
            return
        plan.make_room()
        path = as_path(one.out / RUNS / one.name)  # absolute, and written as the Recorder writes its own
        training = Training(path, Config(one.config), report)
        try:
            _call(one, training, train)
            training.check()
        except BaseException:
            if completed_meta(path) is not None:
                _move(one.out, path)  # whole, as a recording; what was to be compared it is not
            raise


def _call(one: One, training: Training, train: Train | None) -> None:
    token = SURROUNDINGS.set(training)
    try:
        train = train or _loaded(one)
        seed_all(one.config[SEED])
        train(training.config, training.path)
    finally:
        SURROUNDINGS.reset(token)


def _loaded(one: One) -> Train:
    function = Function.named(one.train)
    if function.described != one.config[SWEEP]:
        was, now = one.config[SWEEP], function.described
        raise ArgumentError(f"the run was planned with {was}, and {function.file} now is {now}: plan it anew")
    return function.load()


def seed_all(seed: int) -> None:
    """Seed torch, numpy and Python's own random numbers."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what the user's code may draw from
    random.seed(seed)


def _move(out: Path, path: Path) -> None:
    target = aside(out, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
