"""Caches per-run values until the run's files change: a page that follows runs reads only what is new."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from dropdiag.errors import DropdiagWarning
from dropdiag.store.listing import run_folders
from dropdiag.store.storage.chosen import OBJECTS
from dropdiag.store.storage.places import is_remote

Value = TypeVar("Value")
State: TypeAlias = tuple[tuple[str, int, int], ...]
WIDER = 1.5
"""Remembered ends of an axis stay while they hold the new ones and are at most so many times as far apart."""


def state(target: Path) -> State:
    """Names, sizes and times of all files of the runs: equal where nothing has changed."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DropdiagWarning)  # said when the runs are opened
        paths = run_folders(target)
    if is_remote(target):
        told = ((run, one) for run in paths for one in OBJECTS.below(run) if one.name.endswith((".json", ".parquet")))
        return tuple((str(run / one.name), one.size, hash(one.version)) for run, one in told)
    for run in paths:
        for file in [run / "run.json", *sorted(run.glob("rank-*/rank.json")), *sorted(run.glob("rank-*/*.parquet"))]:
            try:
                known = file.stat()
            except OSError:  # compacted or replaced just now: the next look finds what came in its place
                continue
            found.append((str(file), known.st_size, known.st_mtime_ns))
    return tuple(found)


class RunCache:
    """Values by run and name, each with the run's state and what else it depends on."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        self._kept: dict[tuple[str, Hashable], tuple[State, Hashable, Any]] = {}
        self._ends: dict[Hashable, tuple[float, float]] = {}

    def look(self, state: State) -> None:
        """Take the state of all files, as it was before the runs were opened; forget the runs that are gone."""
        states: dict[str, list[tuple[str, int, int]]] = {}
        for entry in state:
            folder, name = os.path.split(entry[0])  # of a URL as well
            # segments, and what the other ranks say, lie one folder below run.json
            run = folder if name == "run.json" else os.path.dirname(folder)  # noqa: PTH120
            states.setdefault(run, []).append(entry)
        self._states = {run: tuple(entries) for run, entries in states.items()}
        self._kept = {key: one for key, one in self._kept.items() if key[0] in self._states}

    def recall(self, run: Path, name: Hashable, depends: Hashable, make: Callable[[], Value]) -> Value:
        """Return what was made of a run, or make it: anew where the run or what it depends on has changed.

        Parameters
        ----------
        run : Path
        name : hashable
            One value is kept a run and name.
        depends : hashable
        make : callable
            Without arguments.
        """
        now = self._states.get(str(run))
        if now is None:  # a run that came after the look: what is read may be newer than the state known of it
            return make()
        kept = self._kept.get((str(run), name))
        if kept is not None and kept[:2] == (now, depends):
            known: Value = kept[2]
            return known
        made = make()
        self._kept[str(run), name] = now, depends, made
        return made

    def ends(self, name: Hashable, low: float, high: float) -> tuple[float, float]:
        """Return an axis's ends: those of the last time, where they still fit (what was read can then be kept)."""
        before = self._ends.get(name)
        if before and before[0] <= low and high <= before[1] and before[1] - before[0] <= WIDER * (high - low):
            return before
        self._ends[name] = low, high
        return low, high
