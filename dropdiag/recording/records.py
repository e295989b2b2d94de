"""What goes into the run folder: one value of one site at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.formatting import some
from dropdiag.measure.result import Result
from dropdiag.probes.base import State
from dropdiag.sketches.histogram import HistogramSketch, Sparse
from dropdiag.store.door.writing import check_name
from dropdiag.store.net_variance import NetVariance

OWN_SCALARS: Final = frozenset(
    (
        "step_seconds",
        "evaluation_seconds",
        "recorder_seconds",
        "schedule_thinned",
        "probes_rested",
        "step_skipped",
        "repeated_items",
        "evaluation_digest",
    )
)
"""Scalars of the run that dropdiag writes itself: no user's may be called so."""


_OVER_SATURATED: Final = frozenset(("gradient_probability", "slope_over_masks", "slope_at_mean"))


class Record(NamedTuple):
    """One value of one site and call, or of the run itself (no layer)."""

    layer: str | None
    call: int
    quantity: str
    value: Tensor | HistogramSketch | Sparse | State | float | None
    n: float | Tensor | None = None
    """Of how many values it is made, where several ranks' are to be merged and that is known."""


def run_scalar(quantity: str, value: float | Tensor) -> Record:
    """Return a number that belongs to no layer."""
    return Record(None, 0, quantity, value)


def user_scalars(method: str, scalars: object, named: Mapping[str, object]) -> list[Record]:
    """Return the numbers that a user gives to a method of the Recorder.

    Parameters
    ----------
    method : str
        Its name.
    scalars : mapping or None
    named : mapping
        Those that were given as keywords.

    Raises
    ------
    ArgumentError
        If one is not one number, its name is no text or one of dropdiag's own, or it comes twice.
    """
    given = {} if scalars is None else scalars
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{method}() takes numbers by name, {method}(loss=loss) or {method}({{'loss': loss}}), got {given!r}"
        )
    if twice := sorted(given.keys() & named.keys()):
        raise ArgumentError(f"{method}() got {', '.join(twice)} twice, in the mapping and as keywords")
    return [user_scalar(name, value) for name, value in (*given.items(), *named.items())]


def user_scalar(name: object, value: object) -> Record:
    """Return one number that a user gives to the Recorder.

    Raises
    ------
    ArgumentError
        If it is not one number, or its name is no text or one of dropdiag's own.
    """
    return run_scalar(_own_name(name), one_number(f"{name}= must be one number", value))


CHECKED: Final = 1000
_checked: set[str] = set()
"""Names of numbers that are known to be fine, as the same ones come in every step."""


def _own_name(name: object) -> str:
    if type(name) is str and name in _checked:
        return name
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"the name of a number must be text, got {name!r}")
    check_name("the name of a number", name)
    if name in OWN_SCALARS:
        raise ArgumentError(f"{name}= is recorded by dropdiag itself; choose another name")
    if type(name) is str and len(_checked) < CHECKED:
        _checked.add(name)
    return name


def one_number(demand: str, value: object) -> float | Tensor:
    """Return a number as it is now: a float, or a tensor of shape () on an accelerator.

    Raises
    ------
    ArgumentError
        If it is no number or more than one. The message begins with `demand`.
    """
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ArgumentError(f"{demand}, got a tensor of shape {tuple(value.shape)}, {value.dtype}")
        # On an accelerator it is read later, many at a time: a copy, as the tensor may be changed before.
        return float(value.item()) if value.is_cpu else value.detach().clone().reshape(())
    try:
        if isinstance(value, (str, bytes)):  # float() would read them
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ArgumentError(f"{demand}, got {value!r}") from None


def measured_records(found: NetVariance | Result) -> Iterator[Record]:
    """Give what is recorded of a measurement; None where there is no number."""
    if isinstance(found, NetVariance):
        yield from _net_variance_records(found)
        return
    for value in found.values():
        known = value.value if value.value is not None and math.isfinite(value.value) else None
        yield Record(value.layer, value.call, value.quantity, known, value.n)


class Missing(NamedTuple):
    """Numbers that a measurement has not, and why."""

    phase: str
    why: str
    of: list[tuple[str, str | None]]
    """Quantity and layer of each; None for the network."""

    def __str__(self) -> str:
        names = [name if layer is None else f"{name} of {layer}" for name, layer in self.of]
        return f"{self.phase}: {some(names, 4)} is missing: {self.why}"

    def described(self) -> dict[str, Any]:
        """Return what ``run.json`` says of it."""
        return {"phase": self.phase, "why": self.why, "of": [list(one) for one in self.of]}


def missing_in(phase: str, found: NetVariance | Result) -> list[Missing]:
    """Return what is missing in a measurement, by the reason."""
    values = () if isinstance(found, NetVariance) else found.values()
    missing: dict[str, list[tuple[str, str | None]]] = {}
    for value in values:
        if value.value is None or not math.isfinite(value.value):
            missing.setdefault(value.why or f"it is {value.value}", []).append((value.quantity, value.layer))
    return [Missing(phase, why, of) for why, of in missing.items()]


def _net_variance_records(found: NetVariance) -> Iterator[Record]:
    """Give what is recorded of a measurement of net variance; None where there is no number."""
    rate = math.nan if found.p is None else found.p
    for layer in found:
        numbers = {**layer.scalars(), "dropout_masks": float(layer.masks), "dropout_rate": rate}
        saturated = float(layer.saturated.sum())
        for quantity, value in numbers.items():
            # by these the means of several ranks' batches are merged
            n = saturated if quantity in _OVER_SATURATED else float(layer.mean.size)
            yield Record(layer.layer, layer.call, quantity, None if math.isnan(value) else value, n)
        for quantity, histogram in layer.histograms().items():
            yield Record(layer.layer, layer.call, quantity, (histogram.bins, histogram.counts))
