"""A small real run of two ranks with all four tables, under names without a digest: what decodes them is what is tried."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests import ranks
from tests.described import without_digests
from tests.hostile.mutations import mutated

ROOT = Path(__file__).parents[2]
SLOPES = np.linspace(0.0, 1.0, 32_640)


def write(path: Path) -> Path:
    """Write it."""
    rng = np.random.default_rng(0)
    areas = {"Tanh": {"left": [[None, -1.8]], "right": [[1.8, None]], "eps": 0.1, "sup": 1.0}}
    layers = [dict(row, activation="Tanh") if row["kind"] == "activation" else row for row in ranks.LAYERS]
    for rank in (0, 1):
        one = ranks.writer(path, rank, 2, activations=areas, layers=layers)
        if rank == 0:  # they are most of the bytes
            one.add_derivatives({"Tanh": SLOPES})
        for step in (1, 2, 3):
            ranks.add(one, *_rows(rng, step))
        ranks.close(one, 3)
    without_digests(path)
    return path


def restore(path: Path, other: Path) -> None:
    """Put a run in its place that is as it was written: a process that died left a changed segment there."""
    write(other)
    shutil.rmtree(path)
    other.rename(path)


def _rows(rng: np.random.Generator, step: int) -> list[list[Any]]:
    x = rng.normal(size=(20, 5))
    return [
        [ranks.scalar(step, "loss", float(step), 4.0, None), ranks.scalar(step, "accuracy", 0.5, 4.0, None, "eval")],
        ranks.histogram(step, "weight", rng.normal(size=60), "fc"),
        ranks.histogram(step, "net_value", rng.normal(size=60)),
        *ranks.moment_rows(step, "net_value", x),
        *ranks.correlation_rows(step, x),
        *ranks.noise_rows(step, x, rng.random((20, 5))),
    ]


class Read:
    """What a process found that read changed segments: it may have died of some, and was started again behind them.

    Attributes
    ----------
    found : list of dict
        What should not have come out: ``seed``, ``change``, ``found``.
    inputs : int
    peak_mb : float
        Memory beyond what the run itself takes.
    """

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.inputs, self.peak_mb = 0, 0.0

    def read(self, folder: Path, first: int, seeds: int) -> None:
        """Let a process read so many; of one that it dies of, the later ones are left."""
        segments = [path.read_bytes() for path in sorted(folder.glob("rank-*/*.parquet"))]
        with tempfile.TemporaryDirectory() as inputs:
            for seed in range(first, first + seeds):  # here: what changing them takes is not what reading them takes
                place, content, change = mutated(seed, segments)
                (Path(inputs) / f"{seed:012}.{place}.{change}").write_bytes(content)
            command = [sys.executable, "-m", "tests.hostile.reading_child", folder, inputs]
            done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        self.found += [one for one in told if "found" in one]
        last = max((one["last"] for one in told if "last" in one), default=first - 1)
        self.inputs += last + 1 - first
        self.peak_mb = max([self.peak_mb, *(one["peak_mb"] for one in told if "peak_mb" in one)])
        if done.returncode:
            died = f"exit status {done.returncode}: {done.stderr[-2000:]}"
            self.found.append({"seed": last + 1, "change": "", "found": died})
