"""The rows of a run folder's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ScalarRow(NamedTuple):
    """One number: a quantity of a site (or of the run, where ``layer`` is None) at a step.

    ``count`` is of how many values it is made, None where that is not known: several ranks' rows are weighted by it.
    """

    step: int
    phase: str
    layer: str | None
    call: int
    quantity: str
    value: float | None
    count: float | None = None  # type: ignore[assignment]  # as the column is called, though tuples count with it


class HistogramRow(NamedTuple):
    """One sparse histogram: bin numbers ascending, counts positive."""

    step: int
    phase: str
    layer: str
    call: int
    quantity: str
    bins: NDArray[np.uint16]
    counts: NDArray[np.int64]


class StateRow(NamedTuple):
    """What several ranks' numbers are merged from, as one rank saw it: ``docs/run-folder.md`` lists the states.

    ``count`` is the number of values, or of samples; ``nodes`` of how many nodes the state is.
    """

    step: int
    phase: str
    layer: str
    call: int
    quantity: str
    count: int  # type: ignore[assignment]
    nodes: int
    state: NDArray[np.float64]
