"""Which runs of a folder are done, which are to be trained, and which are broken and have to make room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

from dropdiag.errors import RunError
from dropdiag.store.folder import read_meta

RUNS: Final = "runs"
INTERRUPTED: Final = "interrupted"

W = TypeVar("W")
"""What decides a run."""

Check: TypeAlias = Callable[[Path, Mapping[str, Any]], None]
"""Folder of a completed run and its ``run.json``: raises `ArgumentError` where it is none of those that are meant."""


@dataclass(frozen=True)
class Job(Generic[W]):
    """A run to be trained, or found trained: what decides it and its folder."""

    settings: W
    path: Path

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.path.name


@dataclass(frozen=True)
class Plan(Generic[W]):
    """What to do with each run, in order; nothing has been written yet.

    Attributes
    ----------
    done : tuple of Job
        Completed with the same settings: not trained again.
    todo : tuple of Job
        To be trained.
    aside : tuple of (Path, Path)
        Folders of broken runs and where they are to be moved; nothing is ever deleted.
    """

    done: tuple[Job[W], ...]
    todo: tuple[Job[W], ...]
    aside: tuple[tuple[Path, Path], ...]

    def make_room(self) -> None:
        """Move broken runs aside and make the folder of runs.

        Raises
        ------
        RunError
            If the folder cannot be written.
        """
        try:
            for job in self.todo:
                job.path.parent.mkdir(parents=True, exist_ok=True)
            for source, target in self.aside:
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
        except OSError as error:
            raise RunError(f"cannot write into {error.filename}: {error.strerror}; choose another --out") from error


def planned(out: Path, wanted: Mapping[str, W], check: Check) -> Plan[W]:
    """Compare what is wanted with what `out` holds; reads only.

    Parameters
    ----------
    out : Path
        Its runs are in ``out/runs``.
    wanted : mapping
        Name of a run's folder -> what decides the run, in the order in which they are to be trained.
    check : callable
        Called for each completed run of the folder, also of those that are not asked for now: a folder stands for one
        experiment, and may be read as a whole.

    Raises
    ------
    ArgumentError
        As `check` does.
    """
    runs = out / RUNS
    found = completed(runs)
    for path, meta in found.items():
        check(path, meta)
    jobs = [Job(settings, runs / name) for name, settings in wanted.items()]
    todo = tuple(job for job in jobs if job.path not in found)
    return Plan(
        done=tuple(job for job in jobs if job.path in found),
        todo=todo,
        aside=tuple(_moves(out, (job.path for job in todo if job.path.exists()))),
    )


def completed(runs: Path) -> dict[Path, Mapping[str, Any]]:
    """Return the folders of completed runs, each with its ``run.json``, in the order of their names."""
    paths = sorted(runs.iterdir()) if runs.is_dir() else ()
    return {path: meta for path in paths if (meta := completed_meta(path)) is not None}


def completed_meta(path: Path) -> Mapping[str, Any] | None:
    """Return the ``run.json`` of a completed run, None of any other folder."""
    try:
        meta = read_meta(path)
    except RunError:
        return None  # no run, or one whose run.json is damaged: it is moved aside if its name is needed
    return meta if meta.get("state") == "completed" else None


def _moves(out: Path, broken: Iterable[Path]) -> Iterable[tuple[Path, Path]]:
    for path in broken:
        yield path, aside(out, path)


def aside(out: Path, path: Path) -> Path:
    """Return where the folder of a broken run is to be moved."""
    # Numbered: a run may be interrupted again and again, and nothing is overwritten.
    n = 1
    while (target := out / INTERRUPTED / f"{path.name}.interrupted-{n}").exists():
        n += 1
    return target
