"""Kill a job at each file operation in turn; ``python -m tests.faults.kills --every N [--scene NAME]...``."""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults import checks, tripwire, warm
from tests.faults.drive import tell
from tests.faults.forks import forked
from tests.faults.scenes import SCENES, Place, Scene, Stage, perform


def killed_at(place: Place, scene: Scene, at: int) -> None:
    tripwire.arm(place.run.parent, tripwire.killing(at))
    perform(place, scene)


def operations(place: Place, scene: Scene) -> list[str]:
    """Do a job undisturbed; return its file operations."""
    found = []
    tripwire.arm(place.run.parent, lambda _, what, path: found.append(f"{what} {Path(path).name}"))
    perform(place, scene)
    return found


def sweep(stage: Stage, name: str, every: int, offset: int = 0) -> dict[str, Any]:
    """Kill one scene at every n-th operation."""
    scene = SCENES[name]
    whole = stage.new(scene)
    ended = forked(operations, whole, scene)
    if not ended.well:
        raise RuntimeError(f"the scene {name!r} does not end well by itself: {ended}")
    figures: Counter[str] = Counter(operations=len(ended.value))
    wrong = []
    for at in range(1 + offset % every, len(ended.value) + 1, every):
        place = stage.new(scene)
        died = forked(killed_at, place, scene, at)
        if died.killed_by != signal.SIGKILL:
            wrong += [f"{name}, operation {at}: it was to be killed: {died}"] if died.error else []
            continue
        looked = forked(checks.after_kill, place, scene)
        value = looked.value or {"wrong": [f"the reader ended: {looked}"], "rows": 0, "begun": True, "blocked": False}
        figures.update(kills=1, rows=value["rows"], not_begun=not value["begun"], blocked=value["blocked"])
        wrong += [f"{name}, operation {at} ({ended.value[at - 1]}): {one}" for one in value["wrong"]]
        shutil.rmtree(place.root)
    return {"figures": dict(figures), "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int)
    parser.add_argument("--scene", action="append")
    options = parser.parse_args()
    names = options.scene or list(SCENES)
    warm.up(*(warm.TRAINING if any(SCENES[name].trained for name in names) else ()))
    figures: Counter[str] = Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as root:
        stage = Stage(Path(root))
        for place, name in enumerate(names):
            # by default each scene begins at another operation, so that few kills meet many kinds of them
            found = sweep(stage, name, options.every, place if options.offset is None else options.offset)
            figures.update(found["figures"])
            wrong += found["wrong"]
    tell(figures, wrong)


if __name__ == "__main__":
    main()
