"""Open run folders: one `Run`, or several `Runs` side by side. Needs no torch."""

from __future__ import annotations

import gc
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, overload

from dropdiag.errors import ArgumentError, DropdiagError, RunError
from dropdiag.store.listing import is_run
from dropdiag.store.run import PathLike, Run
from dropdiag.store.runs import Runs, as_runs

__all__ = ["Opened", "Run", "Runs", "Where", "as_runs", "load", "open_runs"]

Where: TypeAlias = PathLike | Sequence[PathLike]

# What a damaged folder can make the reader raise: pyarrow's errors are OSError, ValueError and LookupError.
DAMAGE: Final = (DropdiagError, OSError, ValueError, LookupError, TypeError, AttributeError)


class Opened(NamedTuple):
    """What `open_runs` found.

    Attributes
    ----------
    runs : Runs or None
        Those that can be read; None where there is none.
    problems : list of str
        A sentence for each run that cannot be, and for each pattern that no run matches.
    """

    runs: Runs | None
    problems: list[str]


@overload
def load(where: PathLike) -> Run: ...
@overload
def load(where: list[PathLike] | tuple[PathLike, ...] | Mapping[str, Where]) -> Runs: ...
def load(where: PathLike | list[PathLike] | tuple[PathLike, ...] | Mapping[str, Where]) -> Run | Runs:
    """Open recorded runs.

    Parameters
    ----------
    where : path, list of paths, or dict
        A path opens one run. A list opens several, each under the condition its config names. A dict opens
        condition -> path, glob pattern, or list of them. Patterns are ``glob``'s, in sorted order.

    Returns
    -------
    Run or Runs
        A `Run` for a path; `Runs` for a list or a dict (also of one).

    Raises
    ------
    RunError
        If a path is no run, or a pattern matches none.
    ArgumentError
        If ``where`` is empty or of another type, or a run is given under two conditions.
    """
    if isinstance(where, (str, Path)):
        return Run(where)
    if not isinstance(where, (list, tuple, Mapping)):
        raise ArgumentError(f"load() takes a path, a list of paths or a dict condition -> paths, got {where!r}")
    runs = open_runs(where).runs
    return Runs([]) if runs is None else runs  # of an empty list: Runs says what is wrong


def open_runs(where: Any, on_error: Literal["raise", "collect"] = "raise") -> Opened:
    """Open recorded runs, in the one way in which all of dropdiag does.

    Parameters
    ----------
    where : Run, Runs, path, list or dict
        Runs that are open; a path or glob pattern, or a list of them, each run under the condition that its config
        names; or a dict condition -> path, pattern, or list of them. A path that exists is never taken for a
        pattern, whatever its name. Paths to one run count once, also where patterns overlap or links lead to it.
    on_error : {"raise", "collect"}
        What a run that cannot be read, or a pattern that matches none, leads to: an error, or a sentence among the
        problems, so that it stops no other run.

    Returns
    -------
    Opened

    Raises
    ------
    ArgumentError
        If ``where`` is of another type, or a run is given under two conditions.
    RunError
        If a run cannot be read or a pattern matches none, with ``on_error="raise"``.
    """
    problems: list[str] | None = [] if on_error == "collect" else None
    with _no_garbage():
        runs = [run for run in _each(where, problems) if problems is None or _is_whole(run, problems)]
    ordered = where.ordered if isinstance(where, Runs) else isinstance(where, Mapping)
    return Opened(Runs(runs, ordered=ordered) if runs else None, problems or [])


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Keep the collector of cyclic garbage from looking, again and again, through the growing ``run.json`` of all.

    They hold no cycles; of 10,000 runs it takes as long as reading them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _each(where: Any, problems: list[str] | None) -> list[Run]:
    if isinstance(where, Run):
        return [where]
    if isinstance(where, Runs):
        return list(where)
    if isinstance(where, (str, Path)):
        where = [where]
    if isinstance(where, (list, tuple)):
        if where and all(isinstance(one, Run) for one in where):
            return list(where)
        return [run for path in _once(where, problems).values() for run in _opened(path, None, problems)]
    if isinstance(where, Mapping):
        found = {str(name): _once(at, problems) for name, at in where.items()}
        check_disjoint(found)
        return [run for name, paths in found.items() for path in paths.values()
                for run in _opened(path, name, problems)]  # fmt: skip
    raise ArgumentError(
        f"dropdiag takes runs, a path or pattern, a list of them or a dict condition -> paths, got {where!r}"
    )


def _once(where: Where, problems: list[str] | None) -> dict[object, Path]:
    """Return paths by what identifies their folder: a run is no second seed of itself."""
    found: dict[object, Path] = {}
    for path in _paths(where, problems):
        identity = _identity(path)
        found[identity] = found.pop(identity, path)  # at the place of the last of several paths, as the first of them
    return found


def _identity(path: Path) -> object:
    """Return what two paths to one folder share, links and all; one look, where resolving takes one a parent."""
    try:
        known = os.stat(path)  # noqa: PTH116 - of thousands
    except OSError:  # opening it says what is wrong
        return str(path.absolute())
    return known.st_dev, known.st_ino


def check_disjoint(found: Mapping[str, Mapping[Any, PathLike]]) -> None:
    """Raise `ArgumentError` if a run is under two conditions: condition -> what identifies a run -> its path."""
    owners: dict[object, str] = {}
    for name, paths in found.items():
        for identity, path in paths.items():
            owner = owners.setdefault(identity, name)
            if owner != name:
                raise ArgumentError(f"{path} is given as {owner!r} and as {name!r}; a run belongs to one condition")


def _paths(where: Where, problems: list[str] | None) -> Iterator[Path]:
    if not isinstance(where, (str, Path)):
        for one in where:
            yield from _paths(one, problems)
        return
    # before patterns: a run may be called "lr=[0.1]", or "~old", which is nobody's home
    for path in (Path(where), Path(os.path.expanduser(where))):  # noqa: PTH111 - Path's raises where there is no such user
        if path.exists():
            yield path.absolute()
            return
    yield from _matching(where, problems)


def _matching(pattern: PathLike, problems: list[str] | None) -> Iterator[Path]:
    # where problems are collected, a folder that lost its run.json is one of them
    fits = is_run if problems is None else os.path.isdir
    names = glob.glob(os.path.expanduser(pattern))  # noqa: PTH111, PTH207 - a pattern is no path
    found = [name for name in sorted(names) if fits(name)]
    if not found:
        problem = f"no run matches {str(pattern)!r}; a run is a folder with a run.json"
        if problems is None:
            raise RunError(problem)
        add_problem(problems, f"{problem}.")
    yield from map(Path, found)


def _opened(path: Path, condition: str | None, problems: list[str] | None) -> list[Run]:
    if problems is None:
        return [Run(path, condition)]
    try:
        return [Run(path, condition)]
    except DAMAGE as error:
        what = str(error) if isinstance(error, DropdiagError) else f"{path} cannot be read ({error})"
        add_problem(problems, f"{what}; the run is left out.")
        return []


def _is_whole(run: Run, problems: list[str]) -> bool:
    """Whether ``run.json`` says what every reader needs to know."""
    try:
        meta = run.meta
        _ = run.condition, run.seed, run.name, meta["sessions"], meta["state"], int(meta.get("steps", 0))
        _ = [(site["layer"], site["kind"]) for site in meta["layers"]]
    except DAMAGE as error:
        add_problem(problems, f"{run.path / 'run.json'} is damaged ({error!r}); the run is left out.")
        return False
    return True


def add_problem(problems: list[str], problem: str) -> None:
    """Add a sentence, unless it was said before."""
    if problem not in problems:
        problems.append(problem)
