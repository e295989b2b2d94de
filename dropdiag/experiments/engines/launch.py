"""One training as a command line, and how it ended."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dropdiag.errors import ArgumentError


@dataclass(frozen=True)
class Launch:
    """One training: a program that an engine starts as a process of its own.

    The program runs what trains in `dropdiag.experiments.engines.inside.training_process`, which reports its steps
    and that it is whole: without that word it counts as failed, whatever its exit code.

    Attributes
    ----------
    name : str
        Of the run; no two launches of one call share it.
    command : tuple of str
        The program and its arguments. It finds the same files wherever it is started: paths are absolute.
    folder : Path
        Where `report` and `output` are appended to; made if it is not there.
    environment : mapping
        Variables that are set for it, beside those that are there already.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """File of what it reports; see `dropdiag.experiments.engines.report`."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def output(self) -> Path:
        """File of what it writes to standard output and standard error."""
        return self.folder / f"{self.name}.log"

    def in_shell(self) -> str:
        """Return the command as one line for a shell."""
        variables = ["env", *(f"{name}={value}" for name, value in self.environment.items())]
        return shlex.join([*(variables if self.environment else ()), *self.command])


@dataclass(frozen=True)
class End:
    """How a launch ended.

    Attributes
    ----------
    name : str
        That of the launch.
    error : str or None
        What ended it before it was whole.
    output : str
        The last of what it wrote to standard output and standard error.
    """

    name: str
    error: str | None = None
    output: str = ""


def check_names(launches: Sequence[Launch]) -> None:
    """Raise `ArgumentError` if two launches have one name: they would report into one file."""
    names = [launch.name for launch in launches]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"launches must have names of their own, got several {', '.join(map(repr, twice))}")
