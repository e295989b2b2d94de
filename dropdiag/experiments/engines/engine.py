"""What an engine is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from dropdiag.experiments.engines.launch import End, Launch


class Engine(Protocol):
    """Runs launchers, several at a time; each starts a training as a process of its own and waits for it.

    So a training that is killed, or leaves the interpreter, is one `End` with an error, and the others go on.
    """

    @property
    def here(self) -> bool:
        """Whether trainings are processes of this machine, which then decides what they can use."""

    def describe(self, launches: int) -> str:
        """Return where so many trainings run and how many at a time, in a few words."""

    def run(self, launches: Sequence[Launch]) -> Generator[End, None, None]:
        """Start all trainings; yield how each ended, in the order in which they do.

        An interrupt, or closing the iterator, ends those that are under way, and waits for them.

        Raises
        ------
        ArgumentError
            If two launches share a name.
        """
