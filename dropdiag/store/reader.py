"""Open run folders: one `Run`, or several `Runs` side by side. Needs no torch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, overload

from dropdiag.errors import ArgumentError, DropdiagError, DropdiagWarning, RunError
from dropdiag.store.copies import counted_once
from dropdiag.store.garbage import no_garbage
from dropdiag.store.object_runs import WILD
from dropdiag.store.paths import existing, is_several, runs_at
from dropdiag.store.problems import Problems, add_problem
from dropdiag.store.run import Run
from dropdiag.store.runs import Runs, as_runs
from dropdiag.store.storage.places import PathLike, is_path, is_remote

__all__ = ["Opened", "Run", "Runs", "Where", "add_problem", "as_runs", "load", "open_runs"]

Where: TypeAlias = PathLike | Sequence[PathLike]

# What a damaged folder can make the reader raise: pyarrow's errors are OSError, ValueError and LookupError.
DAMAGE: Final = (DropdiagError, OSError, ValueError, LookupError, TypeError, AttributeError)

_NO_WILD: Final = dict.fromkeys(map(ord, [*WILD, "]"]))


class Opened(NamedTuple):
    """What `open_runs` found.

    Attributes
    ----------
    runs : Runs or None
        Those that can be read; None where there is none.
    problems : list of str
        A sentence for each run that cannot be, for each that is a copy, and for each pattern that no run matches.
    """

    runs: Runs | None
    problems: list[str]


@overload
def load(where: PathLike) -> Run | Runs: ...
@overload
def load(where: Iterable[Any] | Mapping[str, Where]) -> Runs: ...
def load(where: PathLike | Iterable[Any] | Mapping[str, Where]) -> Run | Runs:
    """Open recorded runs.

    Parameters
    ----------
    where : path, pattern, list of them, or dict
        The path of a run opens it. A folder opens all runs below it, at any depth; a pattern those that match: ``*``
        within a name, ``**`` across folders, ``~`` the home folder. A list opens several. Each run is under the
        condition that its config names; where a list has two or more patterns or folders and no config names any,
        each of them is a condition. A dict opens condition -> path, folder, pattern, or list of them. A path that
        exists is never taken for a pattern, whatever its name. Runs come in sorted order.

    Returns
    -------
    Run or Runs
        A `Run` for the path of a run; else `Runs`, also of one.

    Raises
    ------
    RunError
        If a path is no run and has none below it, or a pattern matches none; the message says what is there instead.
        If a run that is given by its own path cannot be read, or none of those that were found below a folder or by
        patterns can be.
    ArgumentError
        If ``where`` or a part of it is empty or of another type, or a run, or a copy of it, is given under two
        conditions.

    Warns
    -----
    DropdiagWarning
        For each run that is a copy of another (`dropdiag.store.copies`): they count once; for each ``run.json`` that is
        not as it was written, and each run that two processes recorded at the same time; for each run below a folder,
        or that a pattern matches, which cannot be read: the others are returned.

    Examples
    --------
    >>> dd.load("runs/base-s0")
    <Run 'base-s0': No dropout, seed 0, 10 steps, completed>
    >>> dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"}).conditions
    ['No dropout', 'Dropout']
    >>> len(dd.load("runs"))
    9
    """
    if is_path(where):
        path = existing(where)
        if path is not None and not is_several(path):
            run = Run(next(runs_at(path)))
            for remark in run.remarks:
                warnings.warn(remark, DropdiagWarning, stacklevel=2)
            return run
    elif not isinstance(where, (Iterable, Mapping)) or isinstance(where, (bytes, Run)):
        raise ArgumentError(f"load() takes a path, a list of paths or a dict condition -> paths, got {where!r}")
    runs = open_runs(where).runs
    return Runs([]) if runs is None else runs  # of an empty list: Runs says what is wrong


def open_runs(
    where: Any, on_error: Literal["raise", "collect"] = "raise", *, copies: Literal["once", "keep"] = "once"
) -> Opened:
    """Open recorded runs, in the one way in which all of dropdiag does.

    Parameters
    ----------
    where : Run, Runs, path, list or dict
        Runs that are open, or what `load` takes; also lists of both. Paths to one run count once, also where patterns
        overlap or links lead to it.
    on_error : {"raise", "collect"}
        What a run that cannot be read, or a pattern that matches none, leads to: an error, or a sentence among the
        problems, so that it stops no other run. Copies of a run are warned of, or named among the problems. A run that
        was found below a folder or by a pattern stops no other run in either case: it is warned of.
    copies : {"once", "keep"}
        Whether copies of a run are left out (`dropdiag.store.copies.counted_once`); "keep" is for who chooses among
        the runs first.

    Returns
    -------
    Opened

    Raises
    ------
    ArgumentError
        If ``where`` is of another type, a condition has no path, or a run is given under two conditions.
    RunError
        With ``on_error="raise"``, if a run that is given by its own path cannot be read, a pattern matches none, or
        no run is left.

    Warns
    -----
    DropdiagWarning
        For each copy, each remark on a run (`Run.remarks`), and each run that was found and is left out, with
        ``on_error="raise"``.
    """
    problems = Problems(lenient=on_error == "collect")
    with no_garbage():
        runs, ordered = _each(where, problems)
        if problems.lenient:
            runs = [run for run in runs if _opens(partial(_checked, run), run.path, problems)]
        for run in runs:
            problems.add(*(f"{remark}." for remark in run.remarks))
        if copies == "once" and len(runs) > 1:
            runs, copied = counted_once(runs)
            problems.add(*copied)
    return Opened(Runs(runs, ordered=ordered) if runs else None, problems.told(any_left=bool(runs)))


def _each(where: Any, problems: Problems) -> tuple[list[Run], bool]:
    """Return the runs, copies among them, and whether their conditions are in an order that the user gave."""
    if isinstance(where, Runs):
        return list(where), where.ordered
    if isinstance(where, Mapping):
        return list(_of_conditions(where, problems)), True
    if not isinstance(where, (list, tuple)):
        where = list(where) if _is_several(where) else [where]
    found = _in_list(where, problems)
    if len(where) > 1 and found and not any(run.names_condition for run in found):
        parts = [part for part in where if is_path(part) and is_several(part)]
        if len(parts) == len(where):  # nobody writes two patterns who means one group
            return list(_of_conditions(dict(zip(_names(parts), parts, strict=True)), problems)), True
    return found, False


def _is_several(where: Any) -> bool:
    """Whether it is a collection of what may be opened."""
    if is_path(where) or isinstance(where, (bytes, Run)):
        return False
    if isinstance(where, Iterable) and not isinstance(where, Mapping):
        return True
    raise ArgumentError(
        f"dropdiag takes runs, a path or pattern, a list of them or a dict condition -> paths, got {where!r}"
    )


def _in_list(where: Any, problems: Problems) -> list[Run]:
    """Return the runs of a list: those of paths once, in the order in which they come."""
    runs: list[Run] = []
    paths: list[PathLike] = []
    for part in where:
        if isinstance(part, (Run, Runs)):
            runs += _each(part, problems)[0] if isinstance(part, Runs) else [part]
        else:
            paths.append(part)
    return runs + [run for place in _once(paths, problems).values() for run in _opened(place, None, problems)]


def _of_conditions(where: Mapping[Any, Any], problems: Problems) -> Iterator[Run]:
    """Yield the runs of a dict of conditions, each under its own."""
    found: dict[str, dict[object, _Place]] = {}
    opened: dict[str, list[Run]] = {}
    for key, at in where.items():
        name = str(key)  # 0 and False are conditions
        if name in found:
            raise ArgumentError(f"two conditions are called {name!r}; give all of its runs as one list")
        parts = at if isinstance(at, (list, tuple, Runs)) else list(at) if _is_several(at) else [at]
        if not parts:
            raise ArgumentError(
                f"the condition {name!r} has no run: it is given {at!r}; leave it out, or name its runs"
            )
        found[name] = _once([part for part in parts if not isinstance(part, (Run, Runs))], problems)
        opened[name] = _in_list([part for part in parts if isinstance(part, (Run, Runs))], problems)
    check_disjoint({name: {key: place.path for key, place in places.items()} for name, places in found.items()})
    for name, places in found.items():
        yield from (run.under(name) for run in opened[name])
        yield from (run for place in places.values() for run in _opened(place, name, problems))


def _names(parts: Sequence[PathLike]) -> list[str]:
    """Name conditions as their patterns or folders are called, where they differ: of "a/s*" and "b/s*", "a" and "b"."""
    known = [
        [name for one in Path(str(part)).parts if (name := one.translate(_NO_WILD).strip("-_. /"))] for part in parts
    ]
    while all(len(names) > 1 for names in known) and len({names[-1] for names in known}) == 1:
        known = [names[:-1] for names in known]
    found = [names[-1] for names in known if names]
    return found if len(set(found)) == len(parts) else [str(part) for part in parts]


class _Place(NamedTuple):
    """Where a run lies, and whether it was found below a folder or by a pattern, not given by its own path."""

    path: Path
    found: bool


def _once(where: Any, problems: Problems) -> dict[object, _Place]:
    """Return paths by what identifies their folder: a run is no second seed of itself."""
    known: dict[object, _Place] = {}
    for place in _paths(where, problems):
        path = place.path
        identity = _identity(path)
        first = known.pop(identity, place)
        if first is not place and _full(first.path) != _full(path):
            problems.add(f"{path} and {first.path} are one folder, to which links lead: it is counted once.")
        known[identity] = first._replace(found=first.found and place.found)  # at the place of the last, as the first
    return known


def _identity(path: Path) -> object:
    """Return what two paths to one folder share, links and all; one look, where resolving takes one a parent."""
    if is_remote(path):
        return str(path)
    try:
        known = os.stat(path)  # noqa: PTH116 - of thousands
    except OSError:  # opening it says what is wrong
        return str(path.absolute())
    return known.st_dev, known.st_ino


def _full(path: Path) -> str:
    return str(path) if is_remote(path) else os.path.abspath(path)  # noqa: PTH100 - links stay as they are


def check_disjoint(found: Mapping[str, Mapping[Any, PathLike]]) -> None:
    """Raise `ArgumentError` if a run is under two conditions: condition -> what identifies a run -> its path."""
    owners: dict[object, str] = {}
    for name, paths in found.items():
        for identity, path in paths.items():
            owner = owners.setdefault(identity, name)
            if owner != name:
                raise ArgumentError(f"{path} is given as {owner!r} and as {name!r}; a run belongs to one condition")


def _paths(where: Any, problems: Problems) -> Iterator[_Place]:
    if is_path(where):
        try:
            several, given = is_several(where), existing(where)
            for path in runs_at(where, lenient=problems.lenient):
                yield _Place(path, several and path != given)
        except RunError as error:
            if not problems.lenient:
                raise
            problems.add(str(error) if str(error).endswith("?") else f"{error}.")
        return
    if not _is_several(where) or isinstance(where, Mapping):
        raise ArgumentError(f"dropdiag takes paths and patterns of runs as text or Path, got {where!r}")
    parts = list(where)
    for one in parts:
        if _is_several(one) and not list(one):
            raise ArgumentError(f"one of the paths is an empty list: {where!r}; leave it out")
        yield from _paths(one, problems)


def _opened(place: _Place, condition: str | None, problems: Problems) -> list[Run]:
    if not problems.lenient and not place.found:
        return [Run(place.path, condition)]
    return _opens(lambda: _checked(Run(place.path, condition)), place.path, problems)


def _opens(opening: Callable[[], Run], path: Path, problems: Problems) -> list[Run]:
    """Return a run, or nothing and add why it cannot be read."""
    try:
        return [opening()]
    except DAMAGE as error:
        what = str(error) if isinstance(error, DropdiagError) else f"{path} cannot be read ({error})"
        problems.leave_out(what)
        return []


def _checked(run: Run) -> Run:
    """Return a run that says what every reader needs to know; raise `RunError` where it does not."""
    _ = run.condition, run.seed, run.name
    return run
