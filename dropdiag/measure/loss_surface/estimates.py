"""Numbers that may not be there: estimates with their standard errors, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from dropdiag.measure.result import Value
from dropdiag.store.schema import at

Named: TypeAlias = tuple[str, str | None]
"""Quantity and layer."""
Numbers: TypeAlias = Callable[[], Sequence[float]]


class NoValueError(ArithmeticError):
    """A number that could not be computed, with the reason in words."""


def mean_and_error(samples: Sequence[float]) -> tuple[float, float]:
    """Return the mean of samples and its standard error, NaN of one alone.

    Raises
    ------
    NoValueError
        If a sample is not finite.
    """
    values = np.asarray(samples, dtype=np.float64)
    if not np.isfinite(values).all():
        raise NoValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} samples are not finite")
    error = values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else math.nan
    return float(values.mean()), float(error)


def attempt(names: Sequence[Named], compute: Numbers, why: str | None = None) -> list[Value]:
    """Return numbers under their names, or why there are none: the reason given, or what goes wrong."""
    if why is None:
        try:
            return [Value(name, x, layer) for (name, layer), x in zip(names, compute(), strict=True)]
        except NoValueError as error:
            why = str(error)
    return [Value(name, None, layer, why=why) for name, layer in names]


def with_error(quantity: str, layer: str | None = None, x: float | None = None) -> list[Named]:
    """Return the names of an estimate and its standard error."""
    return [(name if x is None else at(name, x), layer) for name in (quantity, f"{quantity}_se")]
