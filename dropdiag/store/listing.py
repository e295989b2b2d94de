"""All runs below a folder, by what they say of themselves alone: fast, and no run stops the others."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.read_ahead import read_ahead
from dropdiag.store.run import Run
from dropdiag.store.storage.chosen import OBJECTS, storage_of
from dropdiag.store.storage.disk import lies
from dropdiag.store.storage.places import as_path, is_remote

COLUMNS: Final = ("name", "condition", "seed", "steps", "state", "size", "when", "ranks")


@dataclass(frozen=True)
class Listed:
    """One run.

    Attributes
    ----------
    name : str
        Its path from the folder that was listed, with slashes.
    path : str
    condition : str
    seed : int or None
    steps : int
        Training steps that are recorded.
    state : {"running", "completed", "failed", "interrupted", "ended without closing"}
        As of `dropdiag.Run.state`: a job that was killed on another machine still reads ``running``.
    size : int
        Bytes of its files.
    when : str
        When it was created: UTC, ISO 8601.
    config : dict
    ranks : str
        From how many it is read, in words; empty of a run of one process.
    """

    name: str
    path: str
    condition: str
    seed: int | None
    steps: int
    state: str
    size: int
    when: str
    config: dict[str, Any]
    ranks: str = ""


class Listing(NamedTuple):
    """Runs by name, and why others cannot be read: name -> reason."""

    runs: list[Listed]
    unreadable: dict[str, str]


def is_run(path: Path | str) -> bool:
    """Whether a path is a run folder: it has a ``run.json``."""
    if is_remote(path):
        return OBJECTS.kind(as_path(path) / "run.json") == "file"
    return os.path.isfile(os.path.join(path, "run.json"))  # noqa: PTH113, PTH118 - of thousands, twice as fast


def run_folders(target: Path) -> list[Path]:
    """Return the run folders at or below a path, sorted.

    Parameters
    ----------
    target : Path
        A run folder, or a folder with runs at any depth. Hidden folders are passed over; links are followed to runs
        alone, so that no circle is walked.

    Raises
    ------
    RunError
        If there is no such folder, or it cannot be read.

    Warns
    -----
    DropdiagWarning
        For each folder below it that cannot be looked into.
    """
    if is_run(target):
        return [target]
    if storage_of(target).kind(target) != "folder":
        raise RunError(f"{target} is no folder; give a run folder, or a folder with runs below it")
    if is_remote(target):
        return [target / name for name in _objects_below(target) if _is_path(target, name)]
    return sorted(map(Path, _below(target)))


def _below(root: Path) -> Iterator[str]:
    """Yield the run folders below a folder: one look at each folder, none into a run."""
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                shown = (entry for entry in entries if not entry.name.startswith("."))
                inside = [entry for entry in shown if lies(entry, os.DirEntry.is_dir)]
        except OSError as error:
            if folder == str(root):
                raise RunError(f"{root} cannot be read: {error}; give a folder that can") from error
            warnings.warn(f"{folder} cannot be read and is left out: {error}", DropdiagWarning, stacklevel=4)
            continue
        for entry in inside:
            if is_run(entry.path):
                yield entry.path
            elif not entry.is_symlink():
                waiting.append(entry.path)


def _objects_below(root: Path) -> list[str]:
    """Return the run folders below a folder of an object store, from there, sorted: one listing of all its objects."""
    found = list[str]()
    for one in OBJECTS.below(root):
        run, _, file = one.name.rpartition("/")
        hidden = any(part.startswith(".") for part in run.split("/"))
        if file == "run.json" and run and not hidden:
            found.append(run)
    runs = set(found)
    return [run for run in found if not any(run[:end] in runs for end, letter in enumerate(run) if letter == "/")]


def _is_path(root: Path, name: str) -> bool:
    """Whether a name in an object store is no address of another store; says so where it is one."""
    if "::" not in name and "://" not in name:
        return True
    text = f"{root}/{name} is left out: '::' and '://' in the name of an object lead to other stores; rename its run"
    warnings.warn(text, DropdiagWarning, stacklevel=4)
    return False


def listing(root: Path) -> Listing:
    """List the runs below a folder, at any depth; a run itself is a list of one.

    Parameters
    ----------
    root : Path

    Returns
    -------
    Listing

    Raises
    ------
    RunError
        If it is no folder.

    Warns
    -----
    DropdiagWarning
        For each folder that cannot be looked into.
    """
    root = root.expanduser()
    if storage_of(root).kind(root) != "folder":
        raise RunError(f"{root} is no folder; give one with run folders in it")
    paths = run_folders(root)
    found = list(read_ahead(lambda path: _listed(root, path), paths))
    runs = [one for _, one in found if isinstance(one, Listed)]
    reasons = {_name(root, path): one for path, one in found if isinstance(one, str)}
    return Listing(runs, reasons)


def filtered(runs: Sequence[Listed], where: Sequence[tuple[str, str]]) -> list[Listed]:
    """Return the runs that have all of some values.

    Parameters
    ----------
    runs : sequence of Listed
    where : sequence of (str, str)
        Key -> value. A key is one of the config's (``optimizer.lr`` reaches into a dict), or else a column; the
        value is compared as JSON (``0.10`` is 0.1, ``true`` is True) or as text.

    Raises
    ------
    ArgumentError
        If no run has the key; the message lists those that there are.
    """
    kept = list(runs)
    for key, text in where:
        _check_key(key, runs)
        kept = [run for run in kept if _same(_value(run, key), text)]
    return kept


def ordered(runs: Sequence[Listed], key: str, *, reverse: bool = False) -> list[Listed]:
    """Return the runs in order of a column or a key of the config; numbers before text, missing ones last.

    Raises
    ------
    ArgumentError
        If no run has the key.
    """
    _check_key(key, runs, columns_first=True)
    values = [(run, _value(run, key, columns_first=True)) for run in runs]
    known = [(run, value) for run, value in values if value is not None]
    ranked = sorted(known, key=lambda pair: _rank(pair[1]), reverse=reverse)
    return [run for run, _ in ranked] + [run for run, value in values if value is None]


def _name(root: Path, path: Path) -> str:
    return root.name if path == root else path.relative_to(root).as_posix()


def _listed(root: Path, path: Path) -> Listed | str:
    """Read one run; where it cannot be read, return why."""
    try:
        run = Run(path)
        meta = run.meta
        return Listed(
            run.name if path == root else _name(root, path), str(path), run.condition, run.seed,
            int(meta.get("steps", 0)), run.state, folder_size(path), str(meta["created"]),
            dict(meta["config"]), run.of_ranks,
        )  # fmt: skip
    except RunError as error:
        return str(error)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        return f"{path}: its run.json is not as this version writes it: {error!r}"


def folder_size(path: Path) -> int:
    """Bytes of all files of a run; one that goes while they are counted counts nothing."""
    if is_remote(path):
        return sum(one.size for one in OBJECTS.below(path))
    total, waiting = 0, [str(path)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif lies(entry, os.DirEntry.is_file):
                    total += _bytes(entry)
    return total


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0


def _value(run: Listed, key: str, *, columns_first: bool = False) -> Any:
    """Return a run's value of a key; None where it has none."""
    column = getattr(run, key) if key in COLUMNS else None
    first, second = (column, _of_config(run, key)) if columns_first else (_of_config(run, key), column)
    return second if first is None else first


def _of_config(run: Listed, key: str) -> Any:
    value: Any = run.config
    if key in value:
        return value[key]
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def _check_key(key: str, runs: Sequence[Listed], *, columns_first: bool = False) -> None:
    if runs and key not in COLUMNS and all(_value(run, key, columns_first=columns_first) is None for run in runs):
        known = sorted({name for run in runs for name in run.config} - set(COLUMNS))
        raise ArgumentError(f"no run has {key!r}; there are {', '.join((*COLUMNS, *known))}")


def _same(value: Any, text: str) -> bool:
    if value is None:
        return text in ("null", "")
    if isinstance(value, str):
        return value == text
    try:
        wanted = json.loads(text)
    except ValueError:
        return False
    return isinstance(wanted, bool) == isinstance(value, bool) and bool(wanted == value)  # 1 is not true


def _rank(value: Any) -> tuple[int, Any]:
    number = isinstance(value, (int, float))  # a key may be a number in one run and text in another
    return (0, value) if number else (1, value if isinstance(value, str) else json.dumps(value))
