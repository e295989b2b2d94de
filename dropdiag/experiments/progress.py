"""What is seen while runs are trained: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dropdiag.printable import printable

QUIET_SECONDS: Final = 60.0


class Display(ABC):
    """Follows runs by name; entered before the first and left after the last.

    Parameters
    ----------
    steps : mapping
        Name of each run -> its training steps. None, of all of them, where that is not known: they are taken to be as
        many as those of runs that have finished.
    console : Console
    finished : sequence of int, optional
        The steps of runs that have finished before.
    """

    def __init__(self, steps: Mapping[str, int | None], console: Console, finished: Sequence[int] = ()) -> None:
        self._console, self._total = console, dict(steps)
        self._done = dict.fromkeys(steps, 0)
        self._unknown = None in steps.values()
        self._guessed = {name for name, total in steps.items() if total is None}
        self._finished, self._ended = list(finished), 0
        self._guess()

    def _guess(self) -> None:
        """Take the runs whose steps are not known to be as long as those that have finished."""
        if self._finished:
            usual = round(sum(self._finished) / len(self._finished))
            self._total |= {name: max(usual, self._done[name]) for name in self._guessed}

    def _whole(self) -> int | None:
        """Return the steps of all runs; None where they are not known yet."""
        known = [total for total in self._total.values() if total is not None]
        return sum(known) if len(known) == len(self._total) else None

    def _note(self, run: str, step: int) -> None:
        self._done[run] = step
        total = self._total[run]
        if run in self._guessed and total is not None and step > total:
            self._total[run] = step

    def _note_end(self, run: str, *, whole: bool) -> None:
        """Take the steps of a run that is over for all that it has; one that failed tells nothing of others."""
        self._ended += 1
        if run in self._guessed or (whole and self._done[run]):
            self._total[run] = self._done[run]
        if run in self._guessed:
            self._guessed.discard(run)
            self._finished += [self._done[run]] if whole else []
            self._guess()

    def __enter__(self) -> Display:
        """Begin to show runs."""
        return self

    @abstractmethod
    def __exit__(self, *_error: object) -> None:
        """Show nothing any more."""

    @abstractmethod
    def step(self, run: str, step: int, accuracy: float | None) -> None:
        """Report that `run` has done `step` steps, with its test accuracy if it was just measured."""

    @abstractmethod
    def end(self, run: str, error: str | None) -> None:
        """Report that `run` is over, and the error that ended it, if any."""

    def wrote(self, run: str, text: str) -> None:
        """Show what `run` wrote to its standard output and standard error: warnings."""
        lines = "\n".join(map(printable, f"{run} wrote: {text}".split("\n")))
        self._console.print(lines, markup=False, highlight=False, soft_wrap=True)


class Bars(Display):
    """One bar a run and one for all, with the time left; see `Display`."""

    def __init__(self, steps: Mapping[str, int | None], console: Console, finished: Sequence[int] = ()) -> None:
        super().__init__(steps, console, finished)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            speed_estimate_period=120,
        )
        self._all = self._progress.add_task("all runs", total=self._whole(), note=self._counted())
        # Not started: the time that is shown is that of the run's own steps, not of its waiting for a process.
        self._tasks = {
            name: self._progress.add_task(name, total=total, note="", start=False, visible=False)
            for name, total in self._total.items()
        }

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def step(self, run: str, step: int, accuracy: float | None) -> None:
        """Move the bars."""
        task, before = self._tasks[run], self._done[run]
        if not before:
            self._progress.start_task(task)
            self._progress.update(task, visible=True)
        if accuracy is not None:
            self._progress.update(task, note=f"test accuracy {accuracy:.4f}")
        self._note(run, step)
        self._progress.update(task, completed=step, total=self._total[run])
        self._progress.update(self._all, advance=step - before, total=self._whole(), note=self._counted())

    def end(self, run: str, error: str | None) -> None:
        """Note an error beside the bar; a run that ended well, perhaps before its last step, has a full one."""
        task = self._tasks[run]
        if error is not None:
            self._progress.update(task, visible=True, note=f"[red]{escape(printable(error.splitlines()[0]))}")
        # Early stopping: the steps that are not taken any more must not count as work that is left.
        self._note_end(run, whole=error is None)
        for name, other in self._tasks.items():
            self._progress.update(other, total=self._total[name])
        self._progress.update(self._all, total=self._whole(), note=self._counted())
        self._progress.stop_task(task)

    def _counted(self) -> str:
        """Return how many runs have ended, and how fast steps are where it is not known how many there will be."""
        if not self._unknown:
            return ""
        speed = self._progress.tasks[0].speed if self._progress.tasks else None
        per_second = "" if speed is None else f", {speed:,.0f} steps/s"
        return f"{self._ended} of {len(self._total)} runs{per_second}"


class Lines(Display):
    """One line a run when it ends, and one a minute in between; see `Display`."""

    def __init__(self, steps: Mapping[str, int | None], console: Console, finished: Sequence[int] = ()) -> None:
        super().__init__(steps, console, finished)
        self._accuracy: dict[str, float] = {}
        self._begun = self._said = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        """Nothing is open."""

    def step(self, run: str, step: int, accuracy: float | None) -> None:
        """Print the progress if nothing was printed for a minute."""
        self._note(run, step)
        if accuracy is not None:
            self._accuracy[run] = accuracy
        if time.monotonic() - self._said > QUIET_SECONDS:
            total = self._total[run]
            of = "" if total is None else f" of {total:,}"
            self._say(f"{run}: step {step:,}{of}{self._measured(run)}")

    def end(self, run: str, error: str | None) -> None:
        """Print how the run ended."""
        how = f"failed: {error.splitlines()[0]}" if error else f"done{self._measured(run)}"
        # A run that failed or stopped early has no steps left either.
        self._note_end(run, whole=error is None)
        self._done[run] = self._total[run] or 0
        self._say(f"[{self._ended}/{len(self._total)}] {run} {how}")

    def _measured(self, run: str) -> str:
        return f", test accuracy {self._accuracy[run]:.4f}" if run in self._accuracy else ""

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        done, total = sum(self._done.values()), self._whole()
        seconds = self._said - self._begun
        left = ""
        if total is not None and 0 < done < total:
            left = f"; {seconds:.0f} s gone, about {seconds * (total - done) / done:.0f} s left"
        elif total is None and seconds and done:
            left = f"; {seconds:.0f} s gone, {done / seconds:,.0f} steps/s"
        self._console.print(printable(text + left), markup=False, highlight=False, soft_wrap=True)


def display_for(steps: Mapping[str, int | None], console: Console, finished: Sequence[int] = ()) -> Display:
    """Return bars for a terminal, plain lines for anything else."""
    return (Bars if console.is_terminal else Lines)(steps, console, finished)
