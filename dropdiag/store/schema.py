"""The run folder's schema: its version, the quantities and their units; `dropdiag.store.tables` has the columns.

`dropdiag.store.quantity` says what a quantity is, `dropdiag.store.quantities` lists dropdiag's own; both are found here
as well. None of them imports anything of the package but its errors, so that the torch side (which writes) and the
paper side (which reads) agree on them without importing each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from dropdiag.store.quantities import MEASURED, QUANTITIES
from dropdiag.store.quantity import (
    DIFFERENCE,
    DISTANCE,
    KINDS,
    LOG_RATIO,
    MAXIMUM,
    MEAN,
    MERGES,
    MINIMUM,
    SCALES,
    SUM,
    UNCOMPARED,
    Quantity,
    at,
    base_and_x,
)  # fmt: skip

__all__ = [
    "DIFFERENCE", "DISTANCE", "EVAL", "FORMAT", "KINDS", "LOG_RATIO", "MAXIMUM", "MEAN", "MEASURED", "MERGES",
    "MINIMUM", "ORDERED", "QUANTITIES", "READABLE", "SCALES", "SCHEMA_VERSION", "SEALED", "SUM", "TRAIN", "UNCOMPARED",
    "Quantity", "at",
    "base_and_x", "quantities", "quantities_of", "quantity_of",
]  # fmt: skip

FORMAT: Final = "dropdiag-run"
SCHEMA_VERSION: Final = 3
READABLE: Final = (1, 2, 3)
"""Schema versions that can be read: runs of version 1 say neither an execution order nor former names, those before 3
have no digests and do not say which process wrote them."""
ORDERED: Final = 2
"""From this version on runs say an execution order, and name calls of functions as today."""
SEALED: Final = 3
"""From this version on files have digests."""

_DESCRIBED: Final = ("kind", "unit", "label", "scale", "merge")
"""What is read of a quantity: a later version may say more of it."""
TRAIN: Final = "train"
EVAL: Final = "eval"


def quantity_of(name: str, known: Mapping[str, Quantity] = QUANTITIES) -> Quantity | None:
    """Return what is known of a quantity by name, of one at a value of its parameter from that of its family.

    Parameters
    ----------
    name : str
        As ``noisy_loss`` or ``noisy_loss@0.1``.
    known : mapping, optional
        Quantities by name; of families, under the name without a value.

    Returns
    -------
    Quantity or None
        None for a name that is none of them, such as that of a user's own number.
    """
    if name in known:
        return known[name]
    base, x = base_and_x(name)
    if x is None or base not in known:
        return None
    return replace(known[base], name=name, label=f"{known[base].label} at {x:g}")


def quantities(*names: str) -> tuple[Quantity, ...]:
    """Return quantities of dropdiag's own by name, for the probe that records them."""
    return tuple(QUANTITIES[name] for name in names)


def quantities_of(meta: Mapping[str, Any]) -> dict[str, Quantity]:
    """Return the quantities of a run by name.

    Parameters
    ----------
    meta : mapping
        Of ``run.json``. Its ``quantities`` (those of the run's probes) stand over `QUANTITIES`; runs that were
        recorded before they were written have none.
    """
    told = meta.get("quantities") or {}
    own = {name: {key: described[key] for key in _DESCRIBED if key in described} for name, described in told.items()}
    return {**QUANTITIES, **{name: Quantity(name, **described) for name, described in own.items()}}
