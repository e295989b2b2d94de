"""Open and ask what can be read, and say in a sentence for each run what cannot."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from dropdiag.errors import ArgumentError, DropdiagError, DropdiagWarning, NotRecordedError, RunError
from dropdiag.store.reader import Run, Runs, Where, check_disjoint, once

Problems: TypeAlias = list[str]
T = TypeVar("T")

# What a damaged folder can make the reader raise: pyarrow's errors are OSError, ValueError and LookupError.
DAMAGE: Final = (DropdiagError, OSError, ValueError, LookupError, TypeError, AttributeError)


def opened(given: Any) -> tuple[Runs, Problems]:
    """Open runs one by one.

    Parameters
    ----------
    given : Runs, sequence of Run, or what `load` takes
        A dict of conditions, or a list of paths.

    Returns
    -------
    runs : Runs
        Those that can be read.
    problems : list of str
        A sentence for each of the others, and for each pattern that no folder matches.

    Raises
    ------
    ArgumentError
        If it is of another type, or a run is given under two conditions.
    RunError
        If no run can be read.
    """
    problems: Problems = []
    runs = [run for run in _each(given, problems) if _readable(run, problems)]
    if not runs:
        raise RunError("no run can be read. " + " ".join(problems))
    ordered = given.ordered if isinstance(given, Runs) else isinstance(given, Mapping)
    return Runs(runs, ordered=ordered), problems


def attempt(runs: Runs, ask: Callable[[Runs], T], problems: Problems) -> T | None:
    """Ask something of runs; where a damaged one makes that fail, ask it of the others.

    Parameters
    ----------
    runs : Runs
    ask : callable
    problems : list of str
        What went wrong is added: what was warned of, and the runs that were left out.

    Returns
    -------
    The answer, or None where no run holds what was asked for.
    """
    whole: list[Run] = []
    with noted(problems):
        try:
            return ask(runs)
        except (NotRecordedError, ArgumentError):
            raise
        except DAMAGE:
            whole = [run for run in runs if _answers(run, ask, problems)]
    return attempt(Runs(whole), ask, problems) if 0 < len(whole) < len(runs) else None


@contextmanager
def noted(problems: Problems) -> Iterator[None]:
    """Add to problems what is warned of inside, and what was not recorded; the block ends there."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        try:
            yield
        except (NotRecordedError, ArgumentError) as error:
            add(problems, _sentence(str(error)))
    for warning in caught:
        add(problems, _sentence(str(warning.message)))


def _answers(run: Run, ask: Callable[[Runs], Any], problems: Problems) -> bool:
    try:
        ask(Runs([run]))
    except (NotRecordedError, ArgumentError):
        return True
    except DAMAGE as error:
        add(problems, f"{run.path} cannot be read ({error}) and is left out.")
        return False
    return True


def _each(given: Any, problems: Problems) -> list[Run]:
    if isinstance(given, Runs):
        return list(given)
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, Run) for one in given):
        return list(given)
    if isinstance(given, Mapping):
        found = {str(name): once(_paths(where, problems)) for name, where in given.items()}
        check_disjoint(found)
        return [run for name, paths in found.items() for path in paths for run in _opened(path, name, problems)]
    if isinstance(given, Run):
        return [given]
    if isinstance(given, (str, Path)):
        given = [given]
    if isinstance(given, (list, tuple)):
        return [run for path in once(_paths(given, problems)) for run in _opened(path, None, problems)]
    raise ArgumentError(
        f"compare() takes runs, a path or pattern, a list of them or a dict condition -> paths, got {given!r}"
    )


def _opened(path: Path, condition: str | None, problems: Problems) -> list[Run]:
    try:
        return [Run(path, condition)]
    except DAMAGE as error:
        add(problems, _sentence(f"{error}; the run is left out" if isinstance(error, DropdiagError) else
                                 f"{path} cannot be read ({error}); the run is left out"))  # fmt: skip
        return []


def _readable(run: Run, problems: Problems) -> bool:
    """Whether ``run.json`` says what a comparison needs to know."""
    try:
        meta = run.meta
        _ = run.condition, run.seed, run.name, meta["sessions"], [(s["layer"], s["kind"]) for s in meta["layers"]]
        state, steps = meta["state"], int(meta.get("steps", 0))
    except RunError as error:
        add(problems, _sentence(f"{error}; the run is left out"))
        return False
    except DAMAGE as error:
        add(problems, f"{run.path / 'run.json'} is damaged ({error!r}); the run is left out.")
        return False
    if state != "completed":
        how = f"is still being recorded, or was killed: it is compared as it stands at step {steps}"
        ended = f"ended as {state!r} at step {steps}: it is compared as far as it went"
        add(problems, f"{run.path} {how if state == 'running' else ended}.")
    return True


def _paths(where: Where, problems: Problems) -> list[Path]:
    if not isinstance(where, (str, Path)):
        return [path for one in where for path in _paths(one, problems)]
    if Path(where).exists():
        return [Path(where)]
    found = [path for name in sorted(glob.glob(str(where))) if (path := Path(name)).is_dir()]  # noqa: PTH207
    if not found:
        add(problems, f"no run matches {str(where)!r}; a run is a folder with a run.json.")
    return found


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def add(problems: Problems, problem: str) -> None:
    """Add a sentence, unless it was said before."""
    if problem not in problems:
        problems.append(problem)
