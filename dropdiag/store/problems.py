"""What is left out where runs are opened, and why: collected, warned of, or raised."""

from __future__ import annotations

import warnings

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.printable import well_formed


class Problems:
    """Sentences on what is left out, each once.

    Parameters
    ----------
    lenient : bool
        Whether they are collected; else they are warned of, and what was asked for by its own path raises.
    """

    def __init__(self, *, lenient: bool) -> None:
        self.lenient = lenient
        self._said: dict[str, None] = {}
        self._errors: list[RunError] = []

    def add(self, *sentences: str) -> None:
        """Add sentences."""
        for sentence in sentences:
            self._said.setdefault(well_formed(sentence))

    def leave_out(self, why: str) -> None:
        """Add that a run is left out, and why."""
        self.add(f"{why}; the run is left out.")
        self._errors.append(RunError(why))

    def told(self, *, any_left: bool) -> list[str]:
        """Return the sentences where they are collected; else warn, or raise where no run is left."""
        if self.lenient:
            return list(self._said)
        if self._errors and not any_left:
            more = f" (and {len(self._errors) - 1:,} more cannot be read)" if len(self._errors) > 1 else ""
            raise RunError(f"{self._errors[0]}{more}") from self._errors[0]
        for sentence in self._said:
            warnings.warn(sentence, DropdiagWarning, stacklevel=4)
        return []


def add_problem(problems: list[str], problem: str) -> None:
    """Add a sentence, unless it was said before."""
    if (said := well_formed(problem)) not in problems:
        problems.append(said)
