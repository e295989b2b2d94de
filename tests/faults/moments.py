"""Kill a job at random moments; ``python -m tests.faults.moments --moments N [--seed S]``.

A job tells of each of its file operations, and of each row, by a byte in a pipe. Its parent counts as many as chance
says, spins for up to two milliseconds more, and kills: no moment is left out because nobody thought of it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dropdiag.store.writer import RunWriter
from tests.faults import checks, oracle, tripwire, warm
from tests.faults.drive import tell
from tests.faults.forks import Child, forked
from tests.faults.scenes import SCENES, Place, Scene, Stage, perform

SPIN_SECONDS = 0.002


def telling(place: Place, scene: Scene, pipe: int, drained: bool) -> None:
    """Do a job, and tell of each operation; where it is not drained, the thread writes while steps go on."""
    tell = os.write
    real = RunWriter.add_scalars

    def add_scalars(self: RunWriter, rows: Any) -> None:
        tell(pipe, b"r")
        real(self, rows)

    RunWriter.add_scalars = add_scalars  # type: ignore[method-assign]
    tripwire.arm(place.run.parent, lambda *_: tell(pipe, b"o"))
    perform(place, scene, drained=drained)


def killed_after(place: Place, scene: Scene, progress: int, seconds: float, *, drained: bool) -> int:
    """Kill a job after so much progress and so many seconds; return how much progress it made."""
    read, write = os.pipe()
    child = Child(telling, place, scene, write, drained)
    os.close(write)
    done = 0
    while done < progress and (some := os.read(read, progress - done)):
        done += len(some)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    child.send(signal.SIGKILL)  # until it is waited for its number is its own
    child.wait()
    os.close(read)
    return done


def length(stage: Stage, scene: Scene) -> int:
    """Return how much progress a job makes to its end."""
    return killed_after(stage.new(scene), scene, 1 << 30, 0.0, drained=True)


def one(stage: Stage, name: str, lengths: dict[str, int], chance: random.Random) -> dict[str, Any]:
    scene = SCENES[name]
    place = stage.new(scene)
    progress = chance.randrange(lengths[name] + 1)
    killed_after(place, scene, progress, chance.uniform(0, SPIN_SECONDS), drained=chance.random() < 0.5)
    phase = (oracle.read(place.log).phases or ["before"])[-1]
    looked = forked(checks.after_kill, place, scene)
    value = looked.value or {"wrong": [f"the reader ended: {looked}"], "rows": 0, "begun": True, "blocked": False}
    shutil.rmtree(place.root)
    kind = "resuming" if scene.before and phase == "opening" else phase
    wrong = [f"{name}, after {progress} in {phase}: {one}" for one in value["wrong"]]
    return {"wrong": wrong, "rows": value["rows"], "kind": kind, "blocked": value["blocked"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warm.up(*warm.TRAINING)
    chance, figures, wrong = random.Random(options.seed), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as root:
        stage = Stage(Path(root))
        lengths = {name: length(stage, scene) for name, scene in SCENES.items()}
        for place in range(options.moments):
            found = one(stage, list(SCENES)[place % len(SCENES)], lengths, chance)
            figures.update({"moments": 1, "rows": found["rows"], "blocked": found["blocked"], f"in {found['kind']}": 1})
            wrong += found["wrong"]
    tell(figures, wrong)


if __name__ == "__main__":
    main()
