"""Axes that change the dropouts of the model itself, for a `train` that takes no rate.

``dropout:PATTERN``
    The rate of the dropouts that match; see `dropdiag.interventions.set`.
``insert:PATTERN``
    The rate of a dropout that is put behind the modules that match; see `dropdiag.interventions.insert`.
``early:STEPS:PATTERN``, ``late:STEPS:PATTERN``, ``linear:STEPS:PATTERN``
    A rate that holds for the first STEPS steps and is 0 afterwards; that is 0 for the first STEPS steps; that falls to
    0 within STEPS steps; see `dropdiag.interventions.schedule`.
``schedule:PATTERN``
    One of these as a text: ``early(0.1, 0, 500)``, ``late(0, 0.1, 500)``, ``linear(0.3, 0, 500)``; a number is a rate
    that does not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.experiments.sweep.axes import Value
from dropdiag.interventions.changes import checked_rate, insert, set_rates
from dropdiag.interventions.registry import Intervention
from dropdiag.interventions.schedules import schedule

Change: TypeAlias = Callable[[nn.Module], Intervention]

_KEY: Final = re.compile(r"(?P<kind>dropout|insert|schedule):(?P<pattern>.+)|"
                         r"(?P<phase>early|late|linear):(?P<steps>[^:]*):(?P<of>.+)")  # fmt: skip
_SCHEDULE: Final = re.compile(r"(early|late|linear)\(([^,()]+),([^,()]+),\s*(\d+)\s*\)")
_PREFIX: Final = re.compile(r"(dropout|insert|schedule|early|late|linear):")


def change(key: str, value: Value) -> Change | None:
    """Return what a key of a config does to a model, None for one that is `train`'s own.

    Raises
    ------
    ArgumentError
        If the key or the value is none of its kind.
    """
    if not _PREFIX.match(key):
        return None
    match = _KEY.fullmatch(key)
    if match is None or not (match["kind"] or match["steps"].isdecimal()):
        raise ArgumentError(
            f"{key!r} is no axis that changes dropouts; these are dropout:PATTERN, insert:PATTERN, schedule:PATTERN, "
            f"early:STEPS:PATTERN, late:STEPS:PATTERN and linear:STEPS:PATTERN"
        )
    if match["phase"]:
        return _phased(match["phase"], int(match["steps"]), match["of"], checked_rate(value, key))
    if match["kind"] == "schedule" and isinstance(value, str):
        return _scheduled(key, match["pattern"], value)
    rate = checked_rate(value, key)
    if match["kind"] == "insert":
        return partial(insert, after=match["pattern"], p=rate)
    return partial(set_rates, rates={match["pattern"]: rate})


def _phased(kind: str, steps: int, pattern: str, rate: float) -> Change:
    numbers = (0.0, rate, steps) if kind == "late" else (rate, 0.0, steps)
    options: dict[str, Any] = {kind: numbers}
    return partial(schedule, patterns=pattern, **options)


def _scheduled(key: str, pattern: str, given: str) -> Change:
    match = _SCHEDULE.fullmatch(given.strip())
    if match is None:
        raise ArgumentError(
            f"{key!r} takes rates and schedules, as early(0.1, 0, 500), late(0, 0.1, 500) or linear(0.3, 0, 500); "
            f"got {given!r}"
        )
    kind, first, last, steps = match.groups()
    try:
        options: dict[str, Any] = {kind: (float(first), float(last), int(steps))}
    except ValueError:
        raise ArgumentError(f"{key!r}: {given!r} has rates that are no numbers") from None
    return partial(schedule, patterns=pattern, **options)
