"""Run folders of an object store, by path, by pattern, or below a folder: one listing of all objects below it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from dropdiag.errors import RunError
from dropdiag.store.listing import is_run, run_folders
from dropdiag.store.storage.chosen import OBJECTS

WILD: Final = frozenset("*?[")
_RUN: Final = "a run is a folder with a run.json"


def is_wild(path: Path) -> bool:
    """Whether the path of a store is a pattern: below the bucket, a part of it has ``*``, ``?`` or ``[``."""
    return _literal_parts(path) < len(path.parts)


def runs_in_store(path: Path) -> Iterator[Path]:
    """Yield the run folders that a path of a store or a pattern stands for, as `dropdiag.store.paths.runs_at` does.

    Raises
    ------
    RunError
        If there is none.
    """
    if path.name == "run.json":
        yield path.parent
    elif is_run(path):
        yield path
    elif is_wild(path):
        yield from _matching(path)
    else:
        yield from _below(path)


def _below(path: Path) -> list[Path]:
    kind = OBJECTS.kind(path)
    if kind is None:
        raise RunError(f"{path} is not a run: nothing lies there; {_RUN}{_near(path)}")
    # a folder without any run is yielded as it is: opening it says what is wrong
    return (run_folders(path) if kind == "folder" else []) or [path]


def _matching(pattern: Path) -> list[Path]:
    start, wanted = _start(pattern)
    known = run_folders(start) if OBJECTS.kind(start) == "folder" else []
    depth = len(start.parts)
    found = [path for path in known if _matches(path.parts[depth:], wanted, deep="**" in wanted)]
    if not found:
        raise RunError(f"no run matches {str(pattern)!r}; {_RUN}{_near(start / 'run')}")
    return found


def _literal_parts(path: Path) -> int:
    wild = (place for place, part in enumerate(path.parts) if place and WILD & set(part))
    return next(wild, len(path.parts))


def _start(pattern: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder before the first part that is wild, and the parts from there."""
    literal = _literal_parts(pattern)
    start = pattern
    for _ in pattern.parts[literal:]:
        start = start.parent
    return start, pattern.parts[literal:]


def _matches(parts: Sequence[str], wanted: Sequence[str], *, deep: bool) -> bool:
    """Whether a run matches a pattern, or, unless that goes to any depth itself, a folder above the run does."""
    ends = [len(parts)] if deep else range(1, len(parts) + 1)
    return any(_match(parts[:end], wanted) for end in ends)


def _match(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_match(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    same = bool(parts) and (parts[0] == wanted[0] or fnmatchcase(parts[0], wanted[0]))
    return same and _match(parts[1:], wanted[1:])


def _near(path: Path) -> str:
    """Say what lies beside a path that is not there."""
    try:
        names = sorted(OBJECTS.names(path.parent))
    except OSError:
        return f"; {path.parent} has nothing"
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return f"; did you mean {str(path.parent / near[0])!r}?"
    return f"; {path.parent} has {first_of(names)}"


def first_of(names: Sequence[str]) -> str:
    """Return the first names of a folder, as text."""
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
