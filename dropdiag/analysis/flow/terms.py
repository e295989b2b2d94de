"""The terms of one run: logarithms of the ratios of neighbouring readings on the way down from the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from dropdiag.analysis.flow.chain import (
    MASK_INPUT,
    MASK_OUTPUT,
    NET,
    NODE,
    OUTPUT,
    OUTPUT_NAME,
    PARTS,
    WHOLE,
    Path,
    Place,
    Reading,
)
from dropdiag.analysis.flow.readings import Floats, Means
from dropdiag.store.order import Site

ERROR: Final = "output error"
TRANSPORT: Final = "transport"
PATHS: Final = "other paths"
MASK: Final = "mask"
SLOPE: Final = "slope"
TOTAL: Final = "total"
KINDS: Final = (ERROR, TRANSPORT, PATHS, MASK, SLOPE)
"""In the order in which they act on a gradient."""
WORDS: Final[Mapping[str, str]] = {
    WHOLE[OUTPUT]: "gradient of the output", WHOLE[NODE]: "gradient of the node values",
    WHOLE[NET]: "gradient of the net values", WHOLE[MASK_OUTPUT]: "gradient above the mask",
    WHOLE[MASK_INPUT]: "gradient below the mask", PARTS[NODE]: "part by the chain of the gradient of what leaves",
    PARTS[NET]: "part by the chain of the gradient of what enters",
}  # fmt: skip


class Term(NamedTuple):
    """One factor of the gradient flow of a run.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    place : Place
        The tensor that it leads to.
    name : str
        What it is of: the layers in between, a dropout, an activation.
    logs : ndarray of float64, shape (bins,)
        NaN where a reading is missing.
    why : str
        Why it is.
    """

    kind: str
    place: Place
    name: str
    logs: Floats
    why: str = ""


def terms_of(one: Means, path: Path) -> list[Term]:
    """Return the terms of a path, from the output down.

    Their sum is the logarithm of the gradient flow at its end: the terms between two neighbours are that of their
    ratio.
    """
    down = path[::-1]
    found = list(_first(one, down[0]))
    for upper, lower in pairwise(down):
        found += _between(one, upper, lower)
    return found


def flow_of(one: Means, site: Site) -> Floats:
    """Return the logarithm of the gradient flow of an activation."""
    reading = Reading(WHOLE[NET], *site)
    return _log(one.means.get(reading), reading)[0]


def _first(one: Means, top: Place) -> Iterator[Term]:
    if top.kind == OUTPUT:
        yield _term(one, ERROR, top, top.layer, (top.whole, None))
        return
    why = top.why or f"the gradient of {top.layer!r} is not known to come from an output"
    nothing = np.full(1, np.nan)
    output = Place(OUTPUT, OUTPUT_NAME, 0)
    yield Term(ERROR, output, OUTPUT_NAME, nothing, why)
    yield Term(TRANSPORT, top, f"to {top.layer}", nothing, why)


def _between(one: Means, upper: Place, lower: Place) -> Iterator[Term]:
    branches = lower.part in one.means
    arrived = lower.part if branches else lower.whole
    kind = _kind(upper, lower)
    name = lower.layer if kind != TRANSPORT else lower.between
    yield _term(one, kind, lower, name, (arrived, upper.whole))
    if branches:
        yield _term(one, PATHS, lower, lower.layer, (lower.whole, lower.part))


def _kind(upper: Place, lower: Place) -> str:
    if upper.site == lower.site and (lower.kind, upper.kind) == (NET, NODE):
        return SLOPE
    return MASK if upper.site == lower.site and (lower.kind, upper.kind) == (MASK_INPUT, MASK_OUTPUT) else TRANSPORT


def _term(one: Means, kind: str, place: Place, name: str, ratio: tuple[Reading, Reading | None]) -> Term:
    """Logarithm of the ratio of two readings; of the first alone, where it is that of the output."""
    over, under = ratio
    top, why_top = _log(one.means.get(over), over)
    low, why_low = (np.zeros_like(top), "") if under is None else _log(one.means.get(under), under)
    logs = top - low
    if np.isfinite(logs).any():
        return Term(kind, place, name, logs)
    return Term(kind, place, name, logs, (place.why if place.part in ratio else "") or why_top or why_low)


def _log(values: Floats | None, reading: Reading) -> tuple[Floats, str]:
    """Logarithm of a reading, and why there is none."""
    what = f"the {WORDS[reading.quantity]} of {reading.layer!r}" + (
        f", call {reading.call + 1}," if reading.call else ""
    )
    if values is None:
        return np.full(1, np.nan), f"{what} was not recorded"
    positive = values > 0.0
    logs = np.log(values, out=np.full(values.shape, np.nan), where=positive)
    if positive.any():
        return logs, ""
    return logs, f"{what} is 0" if (values == 0.0).any() else f"{what} has no value"
