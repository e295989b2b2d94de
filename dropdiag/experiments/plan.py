"""Which runs have to be trained: finished ones are kept, broken ones moved aside, foreign ones refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.settings import OF_ONE_RUN, TrainSettings
from dropdiag.store.folder import read_meta

RUNS: Final = "runs"
INTERRUPTED: Final = "interrupted"


@dataclass(frozen=True)
class Job:
    """A run to be trained, or found trained: its settings and its folder."""

    settings: TrainSettings
    path: Path

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.path.name


@dataclass(frozen=True)
class Plan:
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

    done: tuple[Job, ...]
    todo: tuple[Job, ...]
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


def run_name(condition: str, seed: int) -> str:
    """Return the folder name of a run: ``no-dropout-s0``, ``batch-norm-gaaf-s1``."""
    return f"{condition.casefold().replace(' + ', '-').replace(' ', '-')}-s{seed}"


def make_plan(out: Path, wanted: Sequence[TrainSettings]) -> Plan:
    """Compare what is wanted with what `out` holds; reads only.

    Parameters
    ----------
    out : Path
        Folder of the experiment; its runs are in ``out/runs``.
    wanted : sequence of TrainSettings
        One a run, of one experiment; apart from condition and seed they are the same.

    Raises
    ------
    ArgumentError
        If `out` holds completed runs of other settings or other data, or runs of something else.
    """
    runs = out / RUNS
    found = _completed(runs)
    # Also runs that are not asked for now: a folder stands for one experiment, and may be read as a whole.
    for path, meta in found.items():
        _check_same(path, meta, wanted[0])
    jobs = [Job(settings, runs / run_name(settings.condition, settings.seed)) for settings in wanted]
    todo = tuple(job for job in jobs if job.path not in found)
    return Plan(
        done=tuple(job for job in jobs if job.path in found),
        todo=todo,
        aside=tuple(_moves(out, (job.path for job in todo if job.path.exists()))),
    )


def _completed(runs: Path) -> dict[Path, Mapping[str, Any]]:
    found: dict[Path, Mapping[str, Any]] = {}
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        try:
            meta = read_meta(path)
        except RunError:
            continue  # no run, or one whose run.json is damaged: it is moved aside if its name is needed
        if meta.get("state") == "completed":
            found[path] = meta
    return found


def _moves(out: Path, broken: Iterable[Path]) -> Iterable[tuple[Path, Path]]:
    for path in broken:
        # Numbered: a run may be interrupted again and again, and nothing is overwritten.
        n = 1
        while (target := out / INTERRUPTED / f"{path.name}.interrupted-{n}").exists():
            n += 1
        yield path, target


def _check_same(path: Path, meta: Mapping[str, Any], wanted: TrainSettings) -> None:
    try:
        there = type(wanted).from_config(meta["config"])
    except (ArgumentError, KeyError, TypeError, AttributeError):
        raise ArgumentError(f"{path} is a run that `dropdiag reproduce` did not make; choose another --out") from None
    differing = [
        f"{f.name} {_shown(there, f.name)} there, {_shown(wanted, f.name)} now"
        for f in fields(wanted)
        if f.compare and f.name not in OF_ONE_RUN and getattr(there, f.name) != getattr(wanted, f.name)
    ]
    if differing:
        raise ArgumentError(
            f"{path} was completed with other settings ({'; '.join(differing)}); "
            f"choose another --out, or repeat the settings to go on with the runs there"
        )


def _shown(settings: TrainSettings, name: str) -> str:
    if name == "data":
        return f"{settings.source or 'unknown source'} (digest {settings.data[:12]})"
    return str(getattr(settings, name))
