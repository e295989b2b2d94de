"""Run a driver of faults as a process of its own, which can fork, and whose crash is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Report(NamedTuple):
    """What a driver found: how much was tried, and what is wrong, a sentence each."""

    figures: Mapping[str, int]
    wrong: list[str]

    def check(self) -> None:
        """Fail where something is wrong, with the first of it."""
        assert not self.wrong, f"{len(self.wrong)} of {dict(self.figures)}:\n" + "\n".join(self.wrong[:20])


def driven(driver: str, *arguments: object) -> Report:
    """Run ``python -m tests.faults.DRIVER``; return its report."""
    command = [sys.executable, "-m", f"tests.faults.{driver}", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-4000:]}"
    told = json.loads(ended.stdout.splitlines()[-1])
    return Report(told["figures"], told["wrong"])


def driven_by_halves(driver: str, *arguments: object, halves: Sequence[Sequence[object]]) -> Report:
    """Run a driver several times at once, each with arguments of its own beside those of all; return all reports as one."""
    with ThreadPoolExecutor(len(halves)) as pool:
        reports = list(pool.map(lambda own: driven(driver, *arguments, *own), halves))
    figures: Counter[str] = Counter()
    for report in reports:
        figures.update(report.figures)
    return Report(dict(figures), [one for report in reports for one in report.wrong])


def tell(figures: Mapping[str, int], wrong: list[str]) -> None:
    """Print a driver's report, the last line of what it prints."""
    sys.stdout.write(json.dumps({"figures": dict(figures), "wrong": wrong}) + "\n")
