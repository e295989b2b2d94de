"""A catalog of many runs: their scalars in one place, derived from the run folders and checked against them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.run import PathLike, Run
from dropdiag.store.runs import Runs

if TYPE_CHECKING:
    import pandas as pd

    from dropdiag.store.cataloguing import Progress, Update
    from dropdiag.store.index import Entry

Patterns: TypeAlias = str | Sequence[str]
Conditions: TypeAlias = Mapping[str, Patterns]
NAMED = 5  # runs that a warning names


class Catalog:
    """The scalars of all runs below a folder, so that thousands of them are read at once.

    It lies in ``ROOT/.catalog``, is derived from the run folders alone, and may be deleted at any time. Run
    folders are never touched. A catalog gives no stale numbers: `runs` compares each ``run.json`` with what the
    catalog read, and takes what changed since from its folder.

    Parameters
    ----------
    root : path
        Folder with run folders in it, at any depth.

    Raises
    ------
    RunError
        If it is no folder, or a run itself.
    """

    def __init__(self, root: PathLike) -> None:
        self.root = Path(root).expanduser().absolute()
        if not self.root.is_dir():
            raise RunError(f"{self.root} is no folder; a catalog is that of a folder with runs in it")
        if (self.root / "run.json").exists():
            raise RunError(f"{self.root} is a run itself; give the folder above it, or load() the run")

    def __repr__(self) -> str:
        return f"<Catalog of {str(self.root)!r}>"

    def update(self, progress: Progress | None = None) -> Update:
        """Read the runs that are new or have changed; forget those that are gone.

        Parameters
        ----------
        progress : callable, optional
            Is given how many of the runs to read are done, and how many there are.

        Returns
        -------
        Update
            Numbers of runs read, kept and removed; ``unreadable``, a dict path -> reason of runs left out.

        Warns
        -----
        DropdiagWarning
            For each run and each segment that cannot be read; the others are.
        """
        from dropdiag.store.cataloguing import update  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`

        result = update(self.root, progress)
        for sentence in (*(f"{why}; the run is left out" for why in result.unreadable.values()), *result.problems):
            warnings.warn(sentence, DropdiagWarning, stacklevel=2)
        return result

    @property
    def table(self) -> pd.DataFrame:
        """One row a run as the catalog has it: path, condition, seed, state, steps, and each key of the config."""
        import pandas as pd  # noqa: PLC0415

        from dropdiag.store.index import read_index  # noqa: PLC0415

        entries = read_index(self.root)
        names = ["path", "condition", "seed", "state", "steps"]
        frame = pd.DataFrame([[getattr(entry, name) for name in names] for entry in entries], columns=names)
        frame["seed"] = frame["seed"].astype("Int64")
        configs = pd.DataFrame([json.loads(entry.config) for entry in entries], index=frame.index)
        configs = configs.drop(columns=["condition", "seed"], errors="ignore")
        return frame.join(configs.rename(columns={name: f"config.{name}" for name in names}))

    def runs(
        self, conditions: Conditions | str | Sequence[str] | None = None, where: Mapping[str, Any] | None = None
    ) -> Runs:
        """Return runs as `dropdiag.load` does, their scalars from the catalog, all else from their folders.

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
            If there is no catalog yet, or no run is left.
        ArgumentError
            If a run is under two conditions, or a key is in no run's config.

        Warns
        -----
        DropdiagWarning
            If runs are new or have changed (they are read from their folders), are gone or cannot be read (they
            are left out), or segments of them could not be read.
        """
        found = _filtered(self._checked(), where)
        if not found:
            raise RunError(f"no run below {self.root} is left with where={where!r}")
        chosen: Sequence[tuple[str | None, _Candidate]] = [(None, run) for run in found]
        if isinstance(conditions, Mapping):
            chosen = _by_pattern(found, conditions)
        elif conditions is not None:
            chosen = _by_keys(found, conditions)
        return Runs([run.opened(condition) for condition, run in chosen], ordered=isinstance(conditions, Mapping))

    def _checked(self) -> list[_Candidate]:
        """Return all runs there are now, each with its entry where the catalog has it as it is."""
        from dropdiag.store.index import find_runs, read_index, segments_of  # noqa: PLC0415

        entries = {entry.path: entry for entry in read_index(self.root)}
        there = dict(sorted(find_runs(self.root)))
        fresh = {path: entry for path, entry in entries.items() if there.get(path) == entry.stamp}
        # A job killed between its rows and its run.json leaves rows under an unchanged stamp.
        running = [path for path, entry in fresh.items() if entry.state == "running"]
        for path in running:
            if segments_of(self.root / path) != fresh[path].segments:
                del fresh[path]
        changed = {path: self._open(path) for path in there if path not in fresh}
        self._warn("are new or have changed since the catalog was made, and are read from their folders",
                   [path for path, run in changed.items() if run is not None])  # fmt: skip
        self._warn("of the catalog are gone, and are left out", sorted(entries.keys() - there.keys()))
        for problem in (problem for entry in fresh.values() for problem in json.loads(entry.problems)):
            warnings.warn(problem, DropdiagWarning, stacklevel=4)
        found = [_Candidate(self.root, path, fresh.get(path), changed.get(path)) for path in there]
        return [one for one in found if one.entry is not None or one.run is not None]

    def _open(self, path: str) -> Run | None:
        try:
            return Run(self.root / path)
        except RunError as error:
            warnings.warn(f"{error}; the run is left out", DropdiagWarning, stacklevel=5)
            return None

    def _warn(self, what: str, paths: list[str]) -> None:
        if paths:
            more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
            text = f"{', '.join(paths[:NAMED])}{more} {what}; `dropdiag catalog {self.root}` brings it up to date"
            warnings.warn(text, DropdiagWarning, stacklevel=4)


class _Candidate(NamedTuple):
    """A run below the root: as the catalog has it, or else as its folder has it."""

    root: Path
    path: str
    entry: Entry | None
    run: Run | None

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {} if self.run is None else self.run.meta["config"]
        return config if self.entry is None else json.loads(self.entry.config)

    def opened(self, condition: str | None) -> Run:
        if self.entry is None:
            return Run(self.root / self.path, condition)
        from dropdiag.store.batches import Kept  # noqa: PLC0415
        from dropdiag.store.index import FOLDER  # noqa: PLC0415

        kept = Kept(self.root / FOLDER / self.entry.part, self.entry.entry)
        known = self.entry.condition if condition is None else condition
        return Run.listed(self.root / self.path, self.entry.name, known, self.entry.seed, kept)


def _filtered(found: list[_Candidate], where: Mapping[str, Any] | None) -> list[_Candidate]:
    """Candidates whose config has the values asked for."""
    for key, value in (where or {}).items():
        _check_key(key, found)
        values = value if isinstance(value, (list, tuple)) else [value]
        found = [run for run in found if key in run.config and run.config[key] in values]
    return found


def _by_pattern(found: list[_Candidate], conditions: Mapping[str, Patterns]) -> list[tuple[str, _Candidate]]:
    """Candidates of each condition, in its order."""
    chosen, owners = [], dict[str, str]()
    for name, patterns in conditions.items():
        several = [patterns] if isinstance(patterns, str) else list(patterns)
        inside = [run for run in found if any(_matches(run.path, pattern) for pattern in several)]
        if not inside:
            raise RunError(f"no run of the catalog matches {patterns!r}; a pattern is that of a path from its root")
        for run in inside:
            owner = owners.setdefault(run.path, name)
            if owner != name:
                raise ArgumentError(f"{run.path} is given as {owner!r} and as {name!r}; a run belongs to one condition")
        chosen += [(name, run) for run in inside]
    return chosen


def _by_keys(found: list[_Candidate], keys: str | Sequence[str]) -> list[tuple[str, _Candidate]]:
    """Candidates under a condition made of their config's values."""
    several = [keys] if isinstance(keys, str) else list(keys)
    for key in several:
        _check_key(key, found)
    return [(", ".join(f"{key}={run.config.get(key)}" for key in several), run) for run in found]


def _check_key(key: str, found: list[_Candidate]) -> None:
    known = sorted({name for run in found for name in run.config})
    if key not in known:
        raise ArgumentError(f"no run's config has {key!r}; there are {', '.join(map(repr, known)) or 'none'}")


def _matches(path: str, pattern: str) -> bool:
    """Whether a path matches a glob pattern, in which no * stands for a slash."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
