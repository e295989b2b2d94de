"""What is seen while runs are trained: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
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
        Name of each run -> its training steps.
    console : Console
    """

    def __init__(self, steps: Mapping[str, int], console: Console) -> None:
        self._console, self._total = console, dict(steps)
        self._done = dict.fromkeys(steps, 0)

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

    def __init__(self, steps: Mapping[str, int], console: Console) -> None:
        super().__init__(steps, console)
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
        self._all = self._progress.add_task("all runs", total=sum(steps.values()), note="")
        # Not started: the time that is shown is that of the run's own steps, not of its waiting for a process.
        self._tasks = {
            name: self._progress.add_task(name, total=total, note="", start=False, visible=False)
            for name, total in steps.items()
        }

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def step(self, run: str, step: int, accuracy: float | None) -> None:
        """Move the bars."""
        task = self._tasks[run]
        if not self._done[run]:
            self._progress.start_task(task)
            self._progress.update(task, visible=True)
        if accuracy is not None:
            self._progress.update(task, note=f"test accuracy {accuracy:.4f}")
        self._progress.update(task, completed=step)
        self._progress.advance(self._all, step - self._done[run])
        self._done[run] = step

    def end(self, run: str, error: str | None) -> None:
        """Note an error beside the bar; a run that ended well, perhaps before its last step, has a full one."""
        task, done = self._tasks[run], self._done[run]
        if error is not None:
            self._progress.update(task, visible=True, note=f"[red]{escape(printable(error.splitlines()[0]))}")
        elif done:
            # Early stopping: the steps that are not taken any more must not count as work that is left.
            self._total[run] = done
            self._progress.update(self._all, total=sum(self._total.values()))
            self._progress.update(task, total=done)
        self._progress.stop_task(task)


class Lines(Display):
    """One line a run when it ends, and one a minute in between; see `Display`."""

    def __init__(self, steps: Mapping[str, int], console: Console) -> None:
        super().__init__(steps, console)
        self._accuracy: dict[str, float] = {}
        self._ended = 0
        self._begun = self._said = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        """Nothing is open."""

    def step(self, run: str, step: int, accuracy: float | None) -> None:
        """Print the progress if nothing was printed for a minute."""
        self._done[run] = step
        if accuracy is not None:
            self._accuracy[run] = accuracy
        if time.monotonic() - self._said > QUIET_SECONDS:
            self._say(f"{run}: step {step:,} of {self._total[run]:,}{self._measured(run)}")

    def end(self, run: str, error: str | None) -> None:
        """Print how the run ended."""
        self._ended += 1
        how = f"failed: {error.splitlines()[0]}" if error else f"done{self._measured(run)}"
        # A run that failed or stopped early has no steps left either.
        self._done[run] = self._total[run]
        self._say(f"[{self._ended}/{len(self._total)}] {run} {how}")

    def _measured(self, run: str) -> str:
        return f", test accuracy {self._accuracy[run]:.4f}" if run in self._accuracy else ""

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        done, total = sum(self._done.values()), sum(self._total.values())
        seconds = self._said - self._begun
        left = f"; {seconds:.0f} s gone, about {seconds * (total - done) / done:.0f} s left" if 0 < done < total else ""
        self._console.print(printable(text + left), markup=False, highlight=False, soft_wrap=True)


def display_for(steps: Mapping[str, int], console: Console) -> Display:
    """Return bars for a terminal, plain lines for anything else."""
    return Bars(steps, console) if console.is_terminal else Lines(steps, console)
