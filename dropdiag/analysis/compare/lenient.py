"""Open and ask what can be read, and say in a sentence for each run what cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError, RunError
from dropdiag.store.reader import DAMAGE, Run, Runs, add_problem, open_runs
from dropdiag.store.run_facts import ENDED

Problems: TypeAlias = list[str]
T = TypeVar("T")


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
    runs, problems = open_runs(given, on_error="collect")
    if runs is None:
        raise RunError("no run can be read. " + " ".join(problems))
    for run in runs:
        state, steps = run.state, int(run.meta.get("steps", 0))
        if state != "completed":
            how = f"is still being recorded, or was killed: it is compared as it stands at step {steps}"
            end = state if state == ENDED else f"ended as {state!r}"
            ended = f"{end} at step {steps}: it is compared as far as it went"
            add_problem(problems, f"{run.path} {how if state == 'running' else ended}.")
    return runs, problems


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
    # all at once first: hardly any run is damaged, and what is asked is made for many
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
        # else a warning that was shown before, of another comparison of the same runs, would not come again
        warnings.simplefilter("always", DropdiagWarning)
        try:
            yield
        except (NotRecordedError, ArgumentError) as error:
            add_problem(problems, _sentence(str(error)))
    for warning in caught:
        add_problem(problems, _sentence(str(warning.message)))


def _answers(run: Run, ask: Callable[[Runs], Any], problems: Problems) -> bool:
    try:
        ask(Runs([run]))
    except (NotRecordedError, ArgumentError):
        # it does not hold what was asked for, or not alone; that is no damage
        return True
    except DAMAGE as error:
        add_problem(problems, f"{run.path} cannot be read ({error}) and is left out.")
        return False
    return True


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
