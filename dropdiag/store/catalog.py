"""All runs below a folder, by the values of their config or by patterns of their paths."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.copies import counted_once
from dropdiag.store.listing import is_run, run_folders
from dropdiag.store.reader import check_disjoint, open_runs
from dropdiag.store.run import Run
from dropdiag.store.runs import Runs
from dropdiag.store.seeds import seed_column
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import PathLike, as_path

if TYPE_CHECKING:
    import pandas as pd

Patterns: TypeAlias = str | Sequence[str]
Conditions: TypeAlias = Mapping[str, Patterns]
_Found: TypeAlias = dict[str, Run]  # by the path from the catalog's root


class Update(NamedTuple):
    """What `Catalog.update` did.

    Attributes
    ----------
    read : int
        Runs below the folder: nothing else is done.
    kept, removed : int
        Always 0: nothing is kept.
    unreadable : dict of str to str
        Always empty: `Catalog.runs` names what it cannot read.
    problems : list of str
        Always empty.
    """

    read: int
    kept: int
    removed: int
    unreadable: dict[str, str]
    problems: list[str]


class Catalog:
    """All runs below a folder, at any depth, chosen and grouped by their paths or by their config.

    It is a way of opening runs and has no files of its own: reading is fast enough without. A folder ``.catalog``
    that an earlier version left is neither read nor touched; it may be deleted.

    Parameters
    ----------
    root : path
        Folder with run folders in it.

    Raises
    ------
    RunError
        If it is no folder, or a run itself.

    Examples
    --------
    >>> dd.Catalog("runs").runs("rate").conditions
    ['rate=0.0', 'rate=0.5']
    """

    def __init__(self, root: PathLike) -> None:
        self.root = as_path(root)
        if storage_of(self.root).kind(self.root) != "folder":
            raise RunError(f"{self.root} is no folder; a catalog is that of a folder with runs in it")
        if is_run(self.root):
            raise RunError(f"{self.root} is a run itself; give the folder above it, or load() the run")

    def __repr__(self) -> str:
        return f"<Catalog of {str(self.root)!r}>"

    def update(self, progress: object = None) -> Update:  # noqa: ARG002 - earlier versions told it how far they were
        """Do nothing: a catalog has no files any more, so there is nothing to bring up to date.

        Warns
        -----
        DeprecationWarning
            It will be removed in the next version.
        """
        text = "Catalog.update() does nothing any more: runs are read from their folders; leave it out"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return Update(len(run_folders(self.root)), 0, 0, {}, [])

    @property
    def table(self) -> pd.DataFrame:
        """One row a run: path (from the root), condition, seed, state, steps, and each key of the config.

        Examples
        --------
        >>> dd.Catalog("runs").table[["path", "condition", "seed"]].head(2)
              path   condition  seed
        0  base-s0  No dropout     0
        1  base-s1  No dropout     1
        """
        import pandas as pd  # noqa: PLC0415

        names = ["path", "condition", "seed", "state", "steps"]
        runs = self._opened()
        rows = [(path, run.condition, run.seed, run.state, run.meta.get("steps", 0))
                for path, run in runs.items()]  # fmt: skip
        frame = pd.DataFrame(rows, columns=names)
        frame["seed"] = seed_column([run.seed for run in runs.values()])
        configs = pd.DataFrame([run.meta["config"] for run in runs.values()], index=frame.index)
        configs = configs.drop(columns=["condition", "seed"], errors="ignore")
        return frame.join(configs.rename(columns={name: f"config.{name}" for name in names}))

    def runs(
        self, conditions: Conditions | str | Sequence[str] | None = None, where: Mapping[str, Any] | None = None
    ) -> Runs:
        """Return runs as `dropdiag.load` does.

        Parameters
        ----------
        conditions : dict, str or sequence of str, optional
            A dict: condition -> glob pattern (or several) of paths from the root. A name, or several: keys of
            the config, whose values make the condition (``"lr"`` gives ``"lr=0.1"``, ``"lr=0.01"``). By default
            each run is under the condition that its config names.
        where : dict, optional
            Key of the config -> value, or list of values: other runs are left out.

        Returns
        -------
        Runs
            By condition as given, then by path. `Runs.select` and `Runs.batches` read no more than is asked for.

        Raises
        ------
        RunError
            If no run is left.
        ArgumentError
            If a run, or a copy of it, is under two conditions, a key is in no run's config, or ``conditions`` or a
            part of it is empty.

        Warns
        -----
        DropdiagWarning
            For each run that cannot be read, which is left out, and for each copy of another, which counts once.

        Examples
        --------
        >>> dd.Catalog("runs").runs({"Base": "base-*"}).conditions
        ['Base']
        >>> dd.Catalog("runs").runs("condition", where={"rate": 0.5}).conditions
        ['condition=Dropout']
        """
        found = _filtered(self._opened(), where)
        if not found:
            raise RunError(f"no run below {self.root} is left with where={where!r}")
        if isinstance(conditions, Mapping):
            chosen = _by_pattern(found, conditions)
        else:
            chosen = list(found.values()) if conditions is None else _by_keys(found, conditions)
        runs, problems = counted_once(chosen)  # after the choice: whoever chooses a copy has that one
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=2)
        return Runs(runs, ordered=isinstance(conditions, Mapping))

    def _opened(self) -> _Found:
        runs, problems = open_runs(run_folders(self.root), on_error="collect", copies="keep")
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=3)
        return {run.path.relative_to(self.root).as_posix(): run for run in runs or ()}


def _filtered(found: _Found, where: Mapping[str, Any] | None) -> _Found:
    """Keep the runs whose config has the values asked for."""
    for key, value in (where or {}).items():
        _check_key(key, found)
        values = value if isinstance(value, (list, tuple)) else [value]
        found = {path: run for path, run in found.items()
                 if key in run.meta["config"] and _among(run.meta["config"][key], values)}  # fmt: skip
    return found


def _among(value: Any, wanted: Sequence[Any]) -> bool:
    """Whether a value is one of those; to Python, but to nobody who asks for a rate, 0 is False and 1 is True."""
    return any(isinstance(value, bool) == isinstance(one, bool) and value == one for one in wanted)


def _by_pattern(found: _Found, conditions: Conditions) -> list[Run]:
    """Group runs by the patterns of their paths, in the order of the conditions."""
    chosen: dict[str, dict[str, str]] = {}
    _check_some(conditions)
    for key, patterns in conditions.items():
        name = str(key)
        _check_some(patterns)
        several = [patterns] if isinstance(patterns, str) else list(patterns)
        chosen[name] = {path: path for path in found if any(_matches(path, pattern) for pattern in several)}
        if not chosen[name]:
            raise RunError(f"no run of the catalog matches {patterns!r}; a pattern is that of a path from its root")
    check_disjoint(chosen)
    return [found[path].under(name) for name, paths in chosen.items() for path in paths]


def _by_keys(found: _Found, keys: str | Sequence[str]) -> list[Run]:
    """Make each run's condition of values of its config."""
    several = [keys] if isinstance(keys, str) else list(keys)
    _check_some(several)
    for key in several:
        _check_key(key, found)
    return [run.under(", ".join(f"{key}={run.meta['config'].get(key)}" for key in several)) for run in found.values()]


def _check_some(given: Sequence[Any] | Conditions) -> None:
    if not given:
        raise ArgumentError(f"conditions= is empty, or a part of it is: got {given!r}; leave it out for all runs")


def _check_key(key: str, found: _Found) -> None:
    known = sorted({name for run in found.values() for name in run.meta["config"]})
    if key not in known:
        raise ArgumentError(f"no run's config has {key!r}; there are {', '.join(map(repr, known)) or 'none'}")


def _matches(path: str, pattern: str) -> bool:
    """Whether a path matches a glob pattern, in which no * stands for a slash."""
    parts, wanted = path.split("/"), pattern.split("/")  # fnmatch alone lets * stand for a slash
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
