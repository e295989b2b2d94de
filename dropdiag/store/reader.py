"""Open run folders: one `Run`, or several `Runs` side by side. Needs no torch."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, overload

from dropdiag.errors import ArgumentError, RunError
from dropdiag.store.run import PathLike, Run
from dropdiag.store.runs import Runs, as_runs

__all__ = ["Run", "Runs", "as_runs", "load"]

Where: TypeAlias = PathLike | Sequence[PathLike]


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
    if isinstance(where, Mapping):
        found = {str(name): once(_paths(at)) for name, at in where.items()}
        check_disjoint(found)
        return Runs([Run(path, condition=name) for name, paths in found.items() for path in paths], ordered=True)
    if isinstance(where, (list, tuple)):
        return Runs([Run(path) for path in once(_paths(where))])
    raise ArgumentError(f"load() takes a path, a list of paths or a dict condition -> paths, got {where!r}")


def once(paths: list[Path]) -> list[Path]:
    """Drop paths to a run that came before: patterns may overlap, and a run is no second seed of itself."""
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def check_disjoint(found: Mapping[str, list[Path]]) -> None:
    """Raise `ArgumentError` if a run is given under two conditions."""
    owners: dict[Path, str] = {}
    for name, paths in found.items():
        for path in paths:
            owner = owners.setdefault(path.resolve(), name)
            if owner != name:
                raise ArgumentError(f"{path} is given as {owner!r} and as {name!r}; a run belongs to one condition")


def _paths(where: Where) -> list[Path]:
    if not isinstance(where, (str, Path)):
        return [path for one in where for path in _paths(one)]
    if Path(where).exists():
        return [Path(where)]
    found = [Path(p) for p in sorted(glob.glob(str(where))) if (Path(p) / "run.json").exists()]  # noqa: PTH207
    if not found:
        raise RunError(f"no run matches {str(where)!r}; a run is a folder with a run.json")
    return found
