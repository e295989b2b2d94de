"""The measurements by name, as `Recorder.measure` knows them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from dropdiag.errors import ArgumentError

MEASURES: Final[dict[str, str]] = {
    "ablation": "dropdiag.measure.ablation:ablation",
    "ensemble": "dropdiag.measure.ensemble:ensemble",
    "flatness": "dropdiag.measure.flatness:flatness",
    "gradient_direction": "dropdiag.measure.gradient_direction:gradient_direction",
    "masks_by_weights": "dropdiag.measure.masks_by_weights:masks_by_weights",
    "net_variance": "dropdiag.measure.net_variance:net_variance",
    "robustness": "dropdiag.measure.robustness:robustness",
}
"""Name -> module and function: the model first, then the batch."""

_PHASES: Final = {"net_variance": "masks"}


def default_phase(name: str) -> str:
    """Return the phase of a measurement's rows, where none is given."""
    return _PHASES.get(name, name)


def measure_called(name: str) -> Callable[..., Any]:
    """Return a measurement's function by name; raise `ArgumentError` for a name that none has."""
    if name not in MEASURES:
        raise ArgumentError(f"there is no measurement {name!r}; there are {', '.join(sorted(MEASURES))}")
    module, _, function = MEASURES[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
