"""Run folders by path, by pattern, or below a folder."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dropdiag.errors import RunError
from dropdiag.store.listing import is_run, run_folders
from dropdiag.store.object_runs import WILD, first_of, is_wild, runs_in_store
from dropdiag.store.storage.places import PathLike, as_path, is_remote, without_scheme

RUN: Final = "a run is a folder with a run.json"


def runs_at(where: PathLike, *, lenient: bool = False) -> Iterator[Path]:
    """Yield the run folders that a path or a pattern stands for.

    Parameters
    ----------
    where : path
        A run folder, or its run.json; a folder with runs below it, at any depth; or a glob pattern of such, in which
        ``**`` stands for any number of folders and ``~`` for the home folder. A path that exists is never taken for a
        pattern, whatever its name, nor is the part of a pattern before its first slash that exists.
    lenient : bool
        Whether a folder that lost its run.json, or all that it held, is yielded, too, where a pattern matches it: for
        who names it as a problem.

    Yields
    ------
    Path
        Absolute; those of a pattern or a folder sorted. Other folders that a pattern matches are passed over.

    Raises
    ------
    RunError
        If there is none; the message says what there is instead.
    """
    where = without_scheme(where)
    if is_remote(where):
        yield from runs_in_store(as_path(where))
        return
    path = existing(where)
    if path is None:
        yield from _matching(os.path.expanduser(str(where)), lenient=lenient)  # noqa: PTH111 - as in `existing`
    elif is_run(path) or not path.is_dir():
        yield path.parent if path.name == "run.json" else path
    else:
        # a folder without any run is yielded as it is: opening it says what is wrong
        yield from run_folders(path) or [path]


def existing(where: PathLike) -> Path | None:
    """Return the path, absolute, where there is one; "~" may be the home folder, and the name of a run.

    Of an object store, where looking costs requests, that of a pattern is None, and any other is returned.
    """
    if is_remote(where):
        path = as_path(where)
        return None if is_wild(path) else path
    as_path(where)  # refuses what was a URL
    where = without_scheme(where)
    for path in (Path(where), Path(os.path.expanduser(where))):  # noqa: PTH111 - Path's raises where there is no such user
        if os.path.lexists(path):
            return path.absolute()
    return None


def is_several(where: PathLike) -> bool:
    """Whether it stands for runs that may be many: a pattern, or a folder that is no run itself."""
    path = existing(where)
    if is_remote(where):
        return path is None or not (is_run(path) or path.name == "run.json")
    return path.is_dir() and not is_run(path) if path is not None else bool(WILD & set(str(where)))


def _matching(pattern: str, *, lenient: bool) -> Iterator[Path]:
    names = _globbed(_literal_start(pattern)) or _globbed(pattern.replace("[", "[[]"))
    deep = "**" in pattern  # what is below is matched itself
    found = []
    for name in names:
        if is_run(name):
            found.append(Path(name))
        elif not deep and os.path.isdir(name):  # noqa: PTH112 - of thousands
            below = run_folders(Path(name))
            found += below or ([Path(name)] if lenient and _lost_its_run(name) else [])
    if not found:
        raise RunError(_nothing(pattern))
    yield from (path.absolute() for path in found)


def _lost_its_run(folder: str) -> bool:
    """Whether a folder without run.json was one of a run: nothing is left in it, or a rank is."""
    inside = os.listdir(folder)  # noqa: PTH208 - of thousands
    return not inside or any(name.startswith("rank-") for name in inside)


def _globbed(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - a pattern is no path


def _literal_start(pattern: str) -> str:
    """Escape the longest beginning of a pattern, up to a slash, that is a path: "lr=[0.1]/s*" means that folder."""
    parts = pattern.split("/")
    for end in range(len(parts) - 1, 0, -1):
        start = "/".join(parts[:end])
        if start and os.path.lexists(start):
            return "/".join([glob.escape(start), *parts[end:]])
    return pattern


def _nothing(pattern: str) -> str:
    """Say that nothing matches, and what was probably meant."""
    said = f"no run matches {pattern!r}" if WILD & set(pattern) else f"{pattern} is not a run: there is no such folder"
    parts = Path(pattern).parts
    inside, missing, rest = _first_missing(parts)
    try:
        names = sorted(entry.name for entry in os.scandir(inside or ".") if entry.is_dir())
    except OSError:
        names = []
    near = difflib.get_close_matches(missing, [name for name in names if not name.startswith(".")], n=1)
    if near:
        return f"{said}; {RUN}; did you mean {str(Path(*inside.parts, near[0], *rest))!r}?"
    return f"{said}; {RUN}; {inside.absolute()} has {f'the folders {first_of(names)}' if names else 'no folder'}"


def _first_missing(parts: tuple[str, ...]) -> tuple[Path, str, tuple[str, ...]]:
    """Return the part of a path that exists, the name after it, and the rest."""
    for end in range(len(parts) - 1, 0, -1):
        if Path(*parts[:end]).is_dir():
            return Path(*parts[:end]), parts[end], parts[end + 1 :]
    return Path(), parts[0] if parts else "", parts[1:]
