"""What a training is part of: a sweep, say, that gives Recorders their config. Nothing, where nobody set it."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Protocol

from torch import nn


class Surroundings(Protocol):
    """Is asked before a Recorder opens in it, and told of its steps."""

    def opening(self, model: nn.Module, path: Path, name: str | None, config: object) -> dict[str, Any]:
        """Return the config of the run; what is to be changed in the model is changed here.

        Parameters
        ----------
        model : nn.Module
            An eager one.
        path, name, config
            As the Recorder was given them.

        Raises
        ------
        ArgumentError
            Where the Recorder is none that belongs here; nothing has been written then.
        """

    def step(self, completed: int) -> None:
        """Take note of the number of completed training steps."""


SURROUNDINGS: Final[ContextVar[Surroundings | None]] = ContextVar("dropdiag_surroundings", default=None)
