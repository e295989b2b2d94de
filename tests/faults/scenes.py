"""What a job does to a run folder, directly through the writer: begin, go on, flush, close; each ready to be killed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dropdiag.store.folder import resume_step
from dropdiag.store.writer import RunWriter
from tests.faults import oracle
from tests.faults.forks import forked

ACTIVATION = "Tanh"
AREA = {"eps": 0.1, "sup": 1.0, "left": [[None, -1.8]], "right": [[1.8, None]]}
META: dict[str, Any] = {
    "config": {"condition": "Dropout", "seed": 3}, "steps": 0, "versions": {"dropdiag": "0"}, "probes": [],
    "layers": [{"layer": name, "call": 0, "kind": "activation", "type": "Tanh", "activation": ACTIVATION,
                "shape": None, "functional": False, "aliases": [], "skipped": None} for name in oracle.LAYERS],
    "order": [[["a", 0]], [["b", 0]]], "activations": {ACTIVATION: AREA}, "disabled_probes": [],
    "warnings": [], "quantities": {}, "missing": [], "interventions": [],
}  # fmt: skip
IDENTIFIER = "f" * 32
FLUSH_STEPS = 2


@dataclass(frozen=True)
class Place:
    """Where a job works: the run's folder, and the log beside it."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "runs" / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    def copied_to(self, root: Path) -> Place:
        shutil.copytree(self.root, root)
        return Place(root)


@dataclass(frozen=True)
class Scene:
    """A job: what was there before, from where it goes on, how many steps it records, how it ends, on how many ranks."""

    before: str | None = None
    resume: bool | int = False
    steps: int = 6
    state: str = "completed"
    ranks: int = 1
    trained: bool = False  # a network, with a Recorder; else rows are handed to the writer


SCENES = {
    "new": Scene(),
    "failed": Scene(state="failed"),
    "resumed after a crash": Scene("crashed", True, 4),
    "resumed when completed": Scene("completed", True, 4),
    "resumed at a step": Scene("completed", 3, 4),
    "new on two ranks": Scene(ranks=2),
    "resumed on two ranks": Scene("crashed on two ranks", True, 4, ranks=2),
    "a training": Scene(trained=True, steps=5),
    "a training resumed": Scene("crashed training", True, 4, trained=True),
}


def perform(place: Place, scene: Scene, *, drained: bool = True) -> None:
    """Do a job; where it is not drained, the writer's thread writes while the next steps are recorded."""
    log, session = oracle.Log(place.log), len(oracle.read(place.log).from_step) + 1
    oracle.watch(log, session)
    if scene.trained:
        from tests.faults.training import train  # torch is not paid by who trains nothing

        train(place.run, log, session, resume=scene.resume, steps=scene.steps, drained=drained)
    else:
        _write(place, scene, log, session, drained=drained)
    log.note(phase="closed")


def _write(place: Place, scene: Scene, log: oracle.Log, session: int, *, drained: bool) -> None:
    start = resume_step(place.run, scene.resume)
    log.note(phase="opening")
    log.note(begin=session, from_step=0 if start is None else start)
    writers = open_writers(place.run, start, session, scene.ranks)
    log.note(opened=session)
    steps = range((start or 0) + 1, (start or 0) + scene.steps + 1)
    log.note(phase="recording")
    record(writers, session, steps, drained=drained)
    log.note(phase="closing")
    for writer in reversed(writers):
        writer.close(scene.state, None if scene.state == "completed" else "Error: of the scene")


def open_writers(path: Path, start: int | None, session: int, ranks: int) -> list[RunWriter]:
    """Open the writer of each rank."""
    if ranks == 1:
        return [RunWriter(path, {**META, "steps": start or 0}, resume_from=start)]
    told = {"id": f"session-{session}", "world_size": ranks}
    found = []
    for rank in range(ranks):
        meta = {**META, "id": IDENTIFIER, "steps": start or 0,
                "ranks": {"rank": rank, "world_size": ranks, "training": IDENTIFIER, "recorded": "all"}}  # fmt: skip
        found.append(RunWriter(path, meta, rank=rank, resume_from=start, session=told, counts=True))
    return found


def record(
    writers: Sequence[RunWriter],
    session: int,
    steps: Sequence[int],
    *,
    drained: bool = True,
    derivatives: bool = True,
) -> None:
    """Record some steps on each rank."""
    for writer in writers if derivatives else ():
        writer.add_derivatives({ACTIVATION: oracle.derivative(ACTIVATION)})
    for step in steps:
        for writer in writers:
            writer.add_scalars(oracle.scalars(session, step))
            writer.add_histograms(oracle.histograms(session, step))
            if step % FLUSH_STEPS == 0:
                writer.meta["steps"] = step
                writer.flush()
                if drained:
                    writer.drain()
        if steps and step == steps[-1]:
            for writer in writers:
                writer.meta["steps"] = step


def crash(place: Place, scene: Scene) -> None:
    """Do a job that dies between two flushes, with more segments on the disk than ``run.json`` speaks of."""

    log = oracle.Log(place.log)
    oracle.watch(log, 1)
    log.note(begin=1, from_step=0)
    writers = open_writers(place.run, None, 1, scene.ranks)
    log.note(opened=1)
    record(writers, 1, range(1, FLUSH_STEPS + 1))
    for writer in writers:
        writer.save_meta = lambda **_: None  # type: ignore[method-assign]
    record(writers, 1, range(FLUSH_STEPS + 1, 2 * FLUSH_STEPS + 2))
    os._exit(0)


def crash_training(place: Place) -> None:
    """Train until a flush, and die."""
    from tests.faults.training import train

    log = oracle.Log(place.log)
    oracle.watch(log, 1)
    train(place.run, log, 1, resume=False, steps=5, dies=True)


BEFORE: dict[str, Callable[[Place], None]] = {
    "completed": lambda place: perform(place, Scene()),
    "crashed": lambda place: crash(place, Scene()),
    "crashed on two ranks": lambda place: crash(place, Scene(ranks=2)),
    "crashed training": crash_training,
}


class Stage:
    """Places to start scenes from, each prepared once, when it is first wanted."""

    def __init__(self, root: Path) -> None:
        self._root, self._count = root, 0
        (root / "nothing" / "runs").mkdir(parents=True)

    def new(self, scene: Scene) -> Place:
        """Return a fresh place for a scene."""
        self._count += 1
        before = Place(self._root / (scene.before or "nothing"))
        if not before.root.exists():
            before.run.parent.mkdir(parents=True)
            forked(BEFORE[str(scene.before)], before)
            json.loads((before.run / "run.json").read_bytes())
        return before.copied_to(self._root / f"at-{self._count}")
