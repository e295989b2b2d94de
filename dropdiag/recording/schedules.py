"""When to record: a schedule is a plain callable ``step -> bool``.

Steps are counted by completed training steps, so the first training step is step 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from dropdiag.errors import ArgumentError

Schedule: TypeAlias = Callable[[int], bool]
"""Step number (1, 2, ...) -> whether histograms are taken in that step. Must not depend on earlier calls."""


@dataclass(frozen=True)
class every:  # noqa: N801 - reads as a phrase: every(10)
    """The first step and every n-th: 1, n, 2n, ...

    Parameters
    ----------
    n : int
        Distance between recorded steps, at least 1.

    Raises
    ------
    ArgumentError
        If ``n`` is not an integer of at least 1.

    Examples
    --------
    >>> [step for step in range(1, 31) if dd.every(10)(step)]
    [1, 10, 20, 30]
    """

    n: int

    def __post_init__(self) -> None:
        _at_least("every(n)", self.n, 1)

    def __call__(self, step: int) -> bool:
        """Whether ``step`` is recorded."""
        return step == 1 or step % self.n == 0


@dataclass(frozen=True)
class log_spaced:  # noqa: N801 - reads as a phrase: log_spaced(10)
    """About ``per_decade`` steps in each decade: dense at the start, sparse later.

    Step ``s`` is recorded where ``floor(per_decade * log10(s))`` differs from that of ``s - 1``; step 1 is.

    Parameters
    ----------
    per_decade : int
        Recorded steps between 10^k and 10^(k+1), at least 1. Early decades hold no more than they have steps.

    Raises
    ------
    ArgumentError
        If ``per_decade`` is not an integer of at least 1.

    Examples
    --------
    >>> [step for step in range(1, 200) if dd.log_spaced(3)(step)]
    [1, 3, 5, 10, 22, 47, 100]
    """

    per_decade: int = 10

    def __post_init__(self) -> None:
        _at_least("log_spaced(per_decade)", self.per_decade, 1)

    def __call__(self, step: int) -> bool:
        """Whether ``step`` is recorded."""
        return step == 1 or self._rung(step) > self._rung(step - 1)

    def _rung(self, step: int) -> int:
        if step < 1:
            return -1
        # The largest k with 10**(k / per_decade) <= step: a guess in floats, corrected in exact integers.
        k = int(self.per_decade * math.log10(step))
        while 10 ** (k + 1) <= step**self.per_decade:
            k += 1
        while 10**k > step**self.per_decade:
            k -= 1
        return k


def as_schedule(value: int | Schedule) -> Schedule:
    """Turn ``every=`` of the Recorder into a schedule.

    Parameters
    ----------
    value : int or callable
        An integer ``n`` means ``every(n)``; a callable is taken as it is.

    Raises
    ------
    ArgumentError
        If ``value`` is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return every(value)
    if callable(value):
        return value
    raise ArgumentError(f"every= takes an integer or a callable step -> bool, got {value!r}; use every=10, say")


def check_schedule(schedule: Schedule, step: int) -> None:
    """Raise `ArgumentError` unless a schedule takes the number of the first step."""
    try:
        bool(schedule(step))
    except Exception as error:
        raise ArgumentError(
            f"every= must be callable with a step's number, but {schedule!r} failed: {error!r}"
        ) from error


def _at_least(what: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{what} takes an integer of at least {least}, got {value!r}")
