"""The runs below a folder as they are now: those that can be read, why others cannot, and whether any has changed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TypeAlias

from dropdiag.errors import DropdiagError, DropdiagWarning
from dropdiag.store.listing import run_folders
from dropdiag.store.run import Run
from dropdiag.store.runs import Runs

State: TypeAlias = tuple[tuple[str, int, int], ...]


def folders(target: Path) -> list[Path]:
    """Run folders at or below a path, sorted.

    Raises
    ------
    RunError
        If there is no such folder, or it cannot be read.
    """
    return run_folders(target)


def state(target: Path) -> State:
    """Names, sizes and times of all files of the runs: equal where nothing has changed."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DropdiagWarning)  # said when the runs are opened
        paths = folders(target)
    for run in paths:
        for file in [run / "run.json", *sorted(run.glob("rank-*/*.parquet"))]:
            try:
                known = file.stat()
            except OSError:  # compacted or replaced just now: the next look finds what came in its place
                continue
            found.append((str(file), known.st_size, known.st_mtime_ns))
    return tuple(found)


def opened(target: Path) -> tuple[Runs | None, list[str]]:
    """Open what can be read.

    Returns
    -------
    runs : Runs or None
        None where there is none yet.
    problems : list of str
        A sentence for each run that cannot be read.
    """
    runs, problems = [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        for path in folders(target):
            try:
                runs.append(Run(path))
            except DropdiagError as error:  # noqa: PERF203 - one run that cannot be read stops no other
                problems.append(str(error))
    problems += [str(one.message) for one in caught if issubclass(one.category, DropdiagWarning)]
    order = list(dict.fromkeys(run.condition for run in runs))
    runs.sort(key=lambda run: order.index(run.condition))
    return (Runs(runs) if runs else None), problems
