from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import dropdiag
from dropdiag.experiments.engines.launch import Launch

ROOT = Path(dropdiag.__file__).parents[1]
PROGRAM = Path(__file__).with_name("training.py")
LATE = 60.0
"""Seconds after which what is waited for will not come."""


@pytest.fixture(autouse=True)
def same_package(monkeypatch):
    """Processes import the package that is tested, wherever they start."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


def launch(folder: Path, name: str, how: str, **options) -> Launch:
    """A training that ends as it is told, see `training`."""
    return Launch(name, (sys.executable, str(PROGRAM), str(folder / name), how), folder / "launches", **options)


def launches(folder: Path, *how: str) -> list[Launch]:
    return [launch(folder, f"r{i}", each) for i, each in enumerate(how)]


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Return when something holds; the clock only ends what never will."""
    late = time.monotonic() + LATE
    while not holds():
        assert time.monotonic() < late, f"{what}: not after {LATE} s"
        time.sleep(0.02)


def trainings(folder: Path) -> list[psutil.Process]:
    """The processes of the trainings that have begun, as far as they are there."""
    pids = [json.loads(path.read_text().splitlines()[0])["begun"] for path in folder.glob("launches/*.jsonl")]
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def are_gone(processes: list[psutil.Process]) -> bool:
    # One whose new parent does not wait for it stays a zombie.
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)
