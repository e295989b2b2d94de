"""Which interventions a model is under, and who is told of them: the Recorders that count its steps."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from torch import nn

from dropdiag.model.inserted import named_inserted

Own = TypeVar("Own", bound="Intervention")


class Intervention(ABC):
    """A change to the dropouts of a model that can be undone; as a context manager it is, at its end.

    Attributes
    ----------
    what : {"set", "off", "schedule", "insert"}
    patterns : tuple of str
        As given.
    sites : tuple of str
        The names of the dropouts that it changed.
    left : tuple of str
        Those that a pattern matched and whose rate cannot be set.
    in_force : bool
        Whether it has not been undone.

    Examples
    --------
    >>> with dd.interventions.off(model) as change:
    ...     rate = model.dropout1.p
    >>> rate, model.dropout1.p, change.what, change.sites
    (0.0, 0.5, 'off', ('dropout1', 'dropout2'))
    """

    what: str

    def __init__(self, patterns: Sequence[str], sites: Sequence[str], left: Sequence[str] = ()) -> None:
        self.patterns, self.sites, self.left = tuple(patterns), tuple(sites), tuple(left)
        self.in_force = True

    def undo(self) -> None:
        """Undo it, in whatever order with others; may be called again.

        A rate that something else has changed since stays as it is, with a warning. Modules that are gone by now need
        nothing; copies of the model made meanwhile keep what they were copied with.

        Examples
        --------
        >>> change = dd.interventions.set(model, {"dropout1": 0.1})
        >>> change.undo()
        >>> model.dropout1.p
        0.5
        """
        if not self.in_force:
            return
        self.in_force = False
        for made in _IN_FORCE.values():
            made.pop(self, None)
        try:
            self._take_back()
        finally:  # its warning may be an error
            for log in list(LOGS):
                log.undone(self)

    def _enter_into_force(self, model: nn.Module) -> None:
        """Tell those who are to know, once all is done."""
        _IN_FORCE.setdefault(model, {})[self] = None
        for log in list(LOGS):
            log.made(self)

    @abstractmethod
    def _take_back(self) -> None:
        """Put back what was changed."""

    @abstractmethod
    def touches(self, modules: set[int]) -> bool:
        """Whether it changed something of the modules with these ids."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Return what of it is its kind's own, for ``run.json``."""

    def follow(self, log: InterventionLog) -> None:  # noqa: B027 - most do not depend on the step
        """Take note of the training step that a Recorder is at."""

    def describe(self) -> dict[str, Any]:
        """Return it as ``run.json`` holds it, without the steps."""
        names = {"sites": list(self.sites), "left": list(self.left)}
        return {"what": self.what, "patterns": list(self.patterns), **names, **self.values()}

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        state = "" if self.in_force else ", undone"
        return f"<{self.what} {', '.join(self.patterns)}: {len(self.sites)} dropouts{state}>"


class InterventionLog:
    """The interventions of a run: those in force when its Recorder attached, and those made since.

    Parameters
    ----------
    model : nn.Module
    completed : int
        Number of completed training steps: 0, or where a resumed run goes on.
    entries : list of dict
        That of ``run.json``, to which it adds what `Intervention.describe` says, with ``step``, the number of steps
        that were completed when it was applied (or when the Recorder attached), and ``until``, the number when it was
        undone, None if it was not.

    Attributes
    ----------
    completed : int
    start : int
        The first `completed`.
    """

    def __init__(self, model: nn.Module, completed: int, entries: list[dict[str, Any]]) -> None:
        self._model = weakref.ref(model)
        self.completed = self.start = completed
        self._entries = entries
        self._in_force: dict[Intervention, dict[str, Any]] = {}
        for made in list(_IN_FORCE.values()):
            for intervention in made:
                self.made(intervention)
        LOGS.add(self)

    def made(self, intervention: Intervention) -> None:
        """Note an intervention, if it is one on this model."""
        model = self._model()
        if model is not None and intervention.touches(modules_of(model)):
            entry = {**intervention.describe(), "step": self.completed, "until": None}
            self._entries.append(entry)
            self._in_force[intervention] = entry
            intervention.follow(self)

    def undone(self, intervention: Intervention) -> None:
        """Note that an intervention was undone."""
        if (entry := self._in_force.pop(intervention, None)) is not None:
            entry["until"] = self.completed

    def step(self, completed: int) -> None:
        """Take note that a training step is over: schedules put the rates of the next one."""
        # First at the step that ends: a schedule that followed another Recorder may have lost it.
        if self._in_force:
            self._tell()
        self.completed = completed
        if self._in_force:
            self._tell()

    def _tell(self) -> None:
        for intervention in self._in_force:
            intervention.follow(self)

    def close(self) -> None:
        """Note nothing any more. May be called again."""
        LOGS.discard(self)


LOGS: Final[weakref.WeakSet[InterventionLog]] = weakref.WeakSet()
"""Those of the Recorders that are open."""

_IN_FORCE: Final[weakref.WeakKeyDictionary[nn.Module, dict[Intervention, None]]] = weakref.WeakKeyDictionary()
"""By the model that they were made on. Interventions hold no module, so a model is freed as it would be without."""


def modules_of(model: nn.Module) -> set[int]:
    """Return the ids of a model's modules, and of the dropouts that were inserted behind them."""
    return {*map(id, model.modules()), *(id(dropout) for _, _, dropout in named_inserted(model))}
