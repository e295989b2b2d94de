"""Little memory at many levels, and operations on files that fail at random: the long forms of `tests.faults`."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dropdiag.store import background
from tests.faults.children import assert_nothing_twice, in_child, steps_with
from tests.faults.test_disk import check_after_faults, record_with_faults
from tests.faults.test_memory import record_with_little

LEVELS = 34
PLACES = ("opening", "beginning", "training", "close")
SEEDS = 240


def levels() -> list[float]:
    """Megabytes, from nothing to what is plenty: about as many in each decade."""
    return [0.0, *np.geomspace(0.03, 1500.0, LEVELS - 1).round(3).tolist()]


def _sweep(folder: Path) -> None:
    """Record with each amount of memory, each in a child of this process, which has not yet imported Arrow."""
    assert "pyarrow" not in sys.modules
    background.NICE = 0  # beside other work the thread would wait for long, in each of many children
    found = []
    for place in PLACES:
        for megabytes in levels():
            name = f"{place}-{megabytes}"
            ended = in_child(lambda p=place, m=megabytes, n=name: record_with_little(folder / n, m, p), folder, name)
            found.append((name, ended.status, ended.result, ended.printed[-2000:]))
    (folder / "found.json").write_text(json.dumps(found))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux alone")
def test_at_no_level_of_memory_recording_ends_a_training(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_sweep, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == LEVELS * len(PLACES) >= 100
    bad = [one for one in found if one[1] != 0]
    assert not bad, bad
    complete = 0
    for name, _, _, _ in found:
        if (tmp_path / name / "run.json").exists():
            assert_nothing_twice(tmp_path / name)
            steps = steps_with(tmp_path / name, "loss")
            complete += steps == list(range(1, 9))
            told = json.loads((tmp_path / name / "run.json").read_text())
            assert steps == list(range(1, 9)) or told["warnings"] or told["state"] != "completed", name
    ends = Counter(result for _, _, result, _ in found)
    figures = {"levels_of_memory": len(found), "ends": ends, "complete": complete, "aborts": 0}
    print(f"figures: {json.dumps(figures)}")  # noqa: T201 - for docs/reliability.md


@pytest.mark.slow
def test_operations_that_fail_at_random_lose_nothing_silently_in_many_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "NICE", 0)
    rows = lost = warned = 0
    for seed in range(SEEDS):
        path = tmp_path / str(seed)
        losses, well, told = record_with_faults(path, seed)
        kept = check_after_faults(path, losses, well, told)
        rows, lost = rows + kept, lost + len(losses) - kept
        warned += bool(told)
    figures = {"draws": SEEDS, "steps": rows + lost, "runs_that_warned": warned, "steps_lost_and_named": lost}
    print(f"figures: {json.dumps(figures)}")  # noqa: T201
