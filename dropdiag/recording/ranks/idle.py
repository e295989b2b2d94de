"""The Recorder of a rank that records nothing, as another one does it for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from torch import nn

from dropdiag.recording.records import Missing, Record
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import Resume, forced, read_meta


class IdleSession:
    """Counts steps, as a session does, and leaves the model alone.

    Parameters
    ----------
    path : Path
        What the Recorder was given; rank 0 makes the folder.
    resume : bool, int, "force" or ("force", int)
        As for the Recorder: steps are counted on from there.
    """

    def __init__(self, path: Path, resume: Resume) -> None:
        self.path = path
        _, step = forced(resume)
        self.completed = int(read_meta(path)["steps"]) if step is True else int(step)
        self.open_evaluation: str | None = None
        self.closed = self.forked = False
        self.router = SimpleNamespace(mask=None)

    def step(self, own: list[Record]) -> None:  # noqa: ARG002 - nothing is kept
        """Count a step."""
        self.completed += 1

    def watch_origin(self, model: nn.Module) -> None:
        """Look at nothing."""

    def put(self, phase: str, records: list[Record]) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Do nothing: nothing waits."""

    @contextmanager
    def evaluation(self, name: str) -> Iterator[None]:
        """Note that an evaluation is open."""
        self.open_evaluation = name
        try:
            yield
        finally:
            self.open_evaluation = None

    @contextmanager
    def measurement(self, name: str) -> Iterator[tuple[str, list[Record]]]:
        """Let a measurement be taken, and keep nothing of it."""
        yield name, []

    def note_missing(self, several: Iterable[Missing]) -> None:
        """Keep nothing."""

    def coverage(self) -> Coverage:
        """Return an empty table."""
        return Coverage([])

    def belongs_to(self, recorder: object) -> None:
        """Do nothing: there is nothing to end when a Recorder is lost."""

    def close(self, state: str, error: str | None) -> None:  # noqa: ARG002 - as above
        """Count no more."""
        self.closed = True
