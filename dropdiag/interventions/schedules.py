"""Dropout rates that change as training goes on (Liu et al. 2023, "Dropout Reduces Underfitting", arXiv:2303.01500)."""

from __future__ import annotations

import operator
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.interventions.changes import as_patterns, checked_rate, choose, take_back
from dropdiag.interventions.registry import LOGS, Intervention, InterventionLog
from dropdiag.interventions.sites import list_dropouts, unwrapped
from dropdiag.interventions.slots import change, put

Phases: TypeAlias = tuple[float, float, int]
"""(first rate, last rate, number of steps)."""


class Schedule(Intervention):
    """Dropouts under a schedule.

    Attributes
    ----------
    completed : int
        Number of completed training steps; the rates are those of the step that comes next.
    rate : float
        The scheduled rate of that step.

    Examples
    --------
    >>> schedule = dd.interventions.schedule(model, early=(0.1, 0, 2))
    >>> schedule.rate
    0.1
    """

    what = "schedule"

    def __init__(
        self,
        model: nn.Module,
        patterns: tuple[str, ...],
        described: tuple[str, object],
        rate_after: Callable[[int], float],
        completed: int,
    ) -> None:
        chosen, left = choose(list_dropouts(model), patterns)
        super().__init__(patterns, [site.name for site in chosen], left)
        self.completed, self._rate_after, self._described = completed, rate_after, described
        self._places = [(site.name, weakref.ref(site.module), site.attribute) for site in chosen]
        self._lost: set[str] = set()
        self._driver: weakref.ref[InterventionLog] | None = None
        self._ahead = 0
        for site in chosen:
            put(site.module, site.attribute, self, self.rate)
        self._enter_into_force(unwrapped(model))

    @property
    def rate(self) -> float:
        """The scheduled rate of the next step.

        Examples
        --------
        >>> dd.interventions.schedule(model, early=(0.1, 0, 2)).rate
        0.1
        """
        return self._rate_after(self.completed)

    def step(self) -> None:
        """Mark the end of one training step: put the rate of the next one.

        A Recorder that is on the model does this in its own ``step()``; called beside it, this does nothing.

        Examples
        --------
        >>> schedule = dd.interventions.schedule(model, early=(0.1, 0, 2))
        >>> for _ in range(2):
        ...     schedule.step()
        >>> schedule.rate
        0.0
        """
        if self._recorder() is None:
            self._go_to(self.completed + 1)

    def follow(self, log: InterventionLog) -> None:
        """Go on as the Recorder does whose log this is, the first one that came."""
        now = self._recorder()
        if now is None:
            self._driver = weakref.ref(log)
            # A resumed run goes on where it was; a new one may begin anywhere in a training.
            resumed = 0 < log.start == log.completed
            self._ahead = 0 if resumed or self.completed == 0 else self.completed - log.completed
        if now is None or now is log:
            self._go_to(log.completed + self._ahead)

    def _recorder(self) -> InterventionLog | None:
        log = None if self._driver is None else self._driver()
        return log if log in LOGS else None

    def _go_to(self, completed: int) -> None:
        if completed == self.completed or not self.in_force:
            return
        self.completed = completed
        rate = self.rate
        for name, place, attribute in self._places:
            module = place()
            if module is not None and not change(module, attribute, self, rate) and name not in self._lost:
                self._lost.add(name)
                now = getattr(module, attribute, None)
                message = f"{name} leaves its schedule: something else has set its rate, to {now}"
                warnings.warn(message, DropdiagWarning, stacklevel=3)

    def _take_back(self) -> None:
        take_back(self, self._places, known=self._lost)

    def touches(self, modules: set[int]) -> bool:
        """Whether it sets a rate in one of the modules with these ids."""
        return any(id(place()) in modules for _, place, _ in self._places)

    def values(self) -> dict[str, Any]:
        """Return the kind of the schedule and its numbers."""
        kind, numbers = self._described
        return {"schedule": {kind: numbers}}


def schedule(
    model: nn.Module,
    patterns: str | Sequence[str] = "*",
    *,
    early: Phases | None = None,
    late: Phases | None = None,
    linear: Phases | None = None,
    stepped: Mapping[int, float] | None = None,
    completed: int = 0,
) -> Schedule:
    """Change the rates of dropouts as training goes on.

    A `Recorder` that is on the model, or comes later, moves the schedule on with its ``step()``; without one, call
    ``.step()`` of what is returned after each training step. Steps are numbered as a Recorder does: t counts the steps
    that are completed, so the first step runs at t = 0.

    Parameters
    ----------
    model : nn.Module
    patterns : str or sequence of str, default "*"
        As for `set`. All these dropouts have the same rate.
    early : (float, float, int), optional
        ``(p, after, n)``: rate p for the first n steps, a lower one after (0 for early dropout).
    late : (float, float, int), optional
        ``(before, p, n)``: a lower rate for the first n steps (0 for late dropout), p after.
    linear : (float, float, int), optional
        ``(first, last, n)``: ``first + (last - first) * min(t / n, 1)``.
    stepped : mapping of int to float, optional
        Completed steps -> rate from there on: ``{0: .3, 1000: .1, 2000: 0}``. It must say what holds from 0.
    completed : int, default 0
        Where to begin, for a training that goes on without a Recorder.

    Returns
    -------
    Schedule
        ``.undo()`` puts the old rates back; as a context manager it does so at its end.

    Raises
    ------
    ArgumentError
        As `set`; unless exactly one kind of schedule is given; for numbers that are none of its kind.

    Warns
    -----
    DropdiagWarning
        Where a wildcard matches dropouts that cannot be set, as `set` does; where something else sets a rate that is
        under the schedule, which is then left to it.

    Notes
    -----
    A Recorder that resumes a run after k steps puts the schedule at k. One that begins a run leaves it where it is, at
    0 or wherever its own ``.step()`` has brought it. Every new rate makes `torch.compile` compile the model again, and
    it gives up after a few: there, take ``stepped`` with few steps in place of ``linear``. In Liu et al. the rate of
    early dropout falls linearly; theirs is ``linear=(p, 0, n)``.

    References
    ----------
    Liu, Xu, Jin, Shen, Darrell (2023), "Dropout Reduces Underfitting", arXiv:2303.01500.

    Examples
    --------
    >>> from torch import nn
    >>> import dropdiag as dd
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3))
    >>> early = dd.interventions.schedule(model, early=(0.1, 0, 2))
    >>> for step in range(3):
    ...     print(model[1].p)
    ...     early.step()  # rec.step() does this, where there is a Recorder
    0.1
    0.1
    0.0
    """
    given = {"early": early, "late": late, "linear": linear, "stepped": stepped}
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        raise ArgumentError(f"give one of early=, late=, linear=, stepped=; got {', '.join(kinds) or 'none'}")
    kind = kinds[0]
    numbers, rate_after = _stepped(stepped) if stepped is not None else _phases(kind, given[kind])
    begin = _count(completed, "completed")
    return Schedule(unwrapped(model), as_patterns(patterns), (kind, numbers), rate_after, begin)


def _phases(kind: str, given: object) -> tuple[list[float], Callable[[int], float]]:
    """Return the numbers of a schedule between two rates, and the function of completed steps that it is."""
    if not isinstance(given, Sequence) or len(given) != 3:
        raise ArgumentError(f"{kind}= takes (first rate, last rate, number of steps), got {given!r}")
    first, last = checked_rate(given[0], kind), checked_rate(given[1], kind)
    steps = _count(given[2], f"{kind}: the number of steps")
    if (kind == "early" and first < last) or (kind == "late" and first > last):
        other = "late" if kind == "early" else "early"
        raise ArgumentError(f"{kind}=({first}, {last}, {steps}) goes the other way: that is {other}=")

    def rate_after(completed: int) -> float:
        if completed >= steps:
            return last
        return first + (last - first) * completed / steps if kind == "linear" else first

    return [first, last, steps], rate_after


def _stepped(given: Mapping[int, float]) -> tuple[dict[str, float], Callable[[int], float]]:
    if not isinstance(given, Mapping):
        raise ArgumentError(f"stepped= takes a mapping of completed steps to rates, got {given!r}")
    rates = {_count(at, "stepped: a step"): checked_rate(rate, "stepped") for at, rate in given.items()}
    if 0 not in rates:
        raise ArgumentError(f"stepped= must say which rate holds from step 0; got {dict(given)!r}")
    rates = dict(sorted(rates.items()))

    def rate_after(completed: int) -> float:
        return rates[max(at for at in rates if at <= completed)]

    return {str(at): rate for at, rate in rates.items()}, rate_after


def _count(value: object, what: str) -> int:
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < 0:
        raise ArgumentError(f"{what} must be a whole number of at least 0, got {value!r}")
    return count
