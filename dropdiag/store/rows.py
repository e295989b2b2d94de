"""The rows of a run folder's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ScalarRow(NamedTuple):
    """One number: a quantity of a site (or of the run, where ``layer`` is None) at a step."""

    step: int
    phase: str
    layer: str | None
    call: int
    quantity: str
    value: float | None


class HistogramRow(NamedTuple):
    """One sparse histogram: bin numbers ascending, counts positive."""

    step: int
    phase: str
    layer: str
    call: int
    quantity: str
    bins: NDArray[np.uint16]
    counts: NDArray[np.int64]
