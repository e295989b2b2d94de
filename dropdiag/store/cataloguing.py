"""Bring a catalog up to date: read what is new or changed, write it to new parts, then name them in the index.

No lock is taken. A part has a name that nobody else takes, and counts only once the index names it; of two
updates at one time the later index stands, and what the other one wrote is read again at the next update. Parts
that no index names are removed when they are old, so that whoever still reads an older index finds its parts.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from dropdiag.errors import RunError
from dropdiag.store.batches import THREADS, WINDOW
from dropdiag.store.index import FOLDER, Entry, Stamp, find_runs, read_index, segments_of, write_index
from dropdiag.store.parts import read_part, write_part
from dropdiag.store.reading import read_rows
from dropdiag.store.run import Run
from dropdiag.store.selection import Selection

PART_ROWS: Final = 1_000_000
GRACE_SECONDS: Final = 600.0
WRITTEN: Final = re.compile(r"scalars-[0-9a-f]{32}\.(parquet|tmp)|index-[0-9a-f]{32}\.tmp")
"""Names of what a catalog writes beside its index; nothing else is ever removed."""
Progress = Callable[[int, int], None]


class Update(NamedTuple):
    """What an update did.

    Attributes
    ----------
    read : int
        Runs that were new or had changed.
    kept : int
        Runs that were as the catalog has them.
    removed : int
        Runs of the catalog that are gone.
    unreadable : dict of str to str
        Path of each run that was left out -> why.
    problems : list of str
        A sentence on each segment that could not be read.
    """

    read: int
    kept: int
    removed: int
    unreadable: dict[str, str]
    problems: list[str]


_Found = tuple[Entry, pa.Table]


def update(root: Path, progress: Progress | None = None) -> Update:
    """Bring the catalog of a folder up to date; make it where there is none or it cannot be read.

    Parameters
    ----------
    root : Path
    progress : callable, optional
        Is given how many of the runs to read are done, and how many there are.

    Raises
    ------
    RunError
        If its folder cannot be written, or is a link or no folder: old files of others would be swept out of it.
    """
    _make_folder(root)
    before, runs = _before(root), dict(sorted(find_runs(root)))
    same = {path: entry for path, entry in (before or {}).items() if _same(root, entry, runs.get(path))}
    todo = {path: stamp for path, stamp in runs.items() if path not in same}
    removed = len((before or {}).keys() - runs.keys())
    unreadable: dict[str, str] = {}
    moving = _small(same.values(), anyway=bool(todo))
    if todo or removed or moving or before is None:
        moved = _moved(root, moving, todo, runs)
        number = 1 + max((entry.entry for entry in (before or {}).values()), default=0)
        new = _written(root / FOLDER, chain(moved, _read_all(root, todo, number, unreadable, progress)))
        entries = {**same, **{entry.path: entry for entry in new}}
        write_index(root, [entries[path] for path in runs if path in entries])
    entries = {entry.path: entry for entry in read_index(root)}
    _sweep(root / FOLDER, {entry.part for entry in entries.values()})
    problems = [problem for entry in entries.values() for problem in json.loads(entry.problems)]
    return Update(len(todo) - len(unreadable), len(same), removed, unreadable, problems)


def _make_folder(root: Path) -> None:
    folder = root / FOLDER
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "is a link" if folder.is_symlink() else "is no folder"
        raise RunError(f"{folder} {what}, and a catalog is kept in a folder of its own; move it away")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"the catalog of {root} cannot be written: {error}; catalog a folder that can be") from error


def _before(root: Path) -> dict[str, Entry] | None:
    """Return what the catalog knows; None where there is none that can be read, and all is to be read anew."""
    try:
        return {entry.path: entry for entry in read_index(root)}
    except RunError:
        return None


def _same(root: Path, entry: Entry, stamp: Stamp | None) -> bool:
    """Whether a run is as the catalog has it, all of it."""
    if stamp != entry.stamp or entry.problems != "[]" or not (root / FOLDER / entry.part).exists():
        return False
    return segments_of(root / entry.path) == entry.segments


def _small(entries: Iterable[Entry], *, anyway: bool) -> list[Entry]:
    """Entries of the parts that are less than half full, to be joined to one where there are several."""
    rows: Counter[str] = Counter()
    entries = list(entries)
    for entry in entries:
        rows[entry.part] += entry.rows
    small = {part for part, live in rows.items() if live < PART_ROWS // 2}
    return [entry for entry in entries if entry.part in small] if anyway or len(small) > 1 else []


def _moved(root: Path, entries: Iterable[Entry], todo: dict[str, Stamp], runs: Mapping[str, Stamp]) -> Iterator[_Found]:
    """Yield the scalars of runs from their parts; those of a part that cannot be read are put to what is to do."""
    parts: dict[str, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.part, []).append(entry)
    for part, inside in parts.items():
        try:
            table = read_part(root / FOLDER / part, {e.entry: i for i, e in enumerate(inside)}, Selection())
        except RunError:
            todo.update({entry.path: runs[entry.path] for entry in inside})
            continue
        ends = np.searchsorted(table["position"].to_numpy(), np.arange(len(inside) + 1))
        for i, entry in enumerate(inside):
            yield entry, table.slice(ends[i], ends[i + 1] - ends[i]).drop_columns("position")


def _read_all(
    root: Path,
    todo: Mapping[str, Stamp],
    number: int,
    unreadable: dict[str, str],
    progress: Progress | None,
) -> Iterator[_Found]:
    """Read runs in threads, a window of them at a time; name those that cannot be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        runs = list(todo.items())
        for begin in range(0, len(runs), WINDOW):
            window = runs[begin : begin + WINDOW]
            found = pool.map(lambda item: _read(root, *item), window)
            for place, ((path, _), one) in enumerate(zip(window, found, strict=True), begin):
                if isinstance(one, str):
                    unreadable[path] = one
                else:
                    yield one[0]._replace(entry=number + place), one[1]
                if progress is not None:
                    progress(place + 1, len(runs))


def _read(root: Path, path: str, stamp: Stamp) -> _Found | str:
    """Read one run; where it cannot be read, return why."""
    try:
        run = Run(root / path)
        segments = segments_of(run.path)
        table, problems = read_rows(run.path, run.meta["sessions"], "scalars", Selection())
        entry = Entry(
            0, path, run.name, run.condition, run.seed, str(run.meta["state"]), int(run.meta.get("steps", 0)),
            json.dumps(run.meta["config"]), *stamp, segments, json.dumps(problems), "", len(table),
        )  # fmt: skip
    except RunError as error:
        return str(error)
    except (KeyError, TypeError, ValueError, OSError) as error:
        return f"{root / path}: its run.json is not as this version writes it: {error!r}"
    return entry, table


def _written(folder: Path, found: Iterable[_Found]) -> Iterator[Entry]:
    """Write scalars to parts of about `PART_ROWS` rows, and yield their entries."""
    waiting: list[_Found] = []
    for one in found:
        waiting.append(one)
        if sum(entry.rows for entry, _ in waiting) >= PART_ROWS:
            yield from _as_part(folder, waiting)
            waiting = []
    if waiting:
        yield from _as_part(folder, waiting)


def _as_part(folder: Path, found: list[_Found]) -> list[Entry]:
    part = write_part(folder, {entry.entry: table for entry, table in found})
    return [entry._replace(part=part.name) for entry, _ in found]


def _sweep(folder: Path, named: set[str]) -> None:
    """Remove old files that the index does not name: parts of earlier indexes, and what a kill left."""
    for file in folder.iterdir():
        ours = WRITTEN.fullmatch(file.name) and file.is_file() and not file.is_symlink()
        if ours and file.name not in named and time.time() - file.stat().st_mtime > GRACE_SECONDS:
            file.unlink(missing_ok=True)
