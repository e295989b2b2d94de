"""The last values of everything that one run holds beside what its overview draws: a user's own quantities too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from dropdiag.analysis.compare.measures import COUNTERS
from dropdiag.analysis.dropouts import QUANTITIES as DROPOUTS
from dropdiag.analysis.overview import CORRELATION, FLOW, LEFT, NET_VALUE, RIGHT, WEIGHT
from dropdiag.analysis.select import matching
from dropdiag.formatting import words
from dropdiag.store.histogram_rows import Steps, lasts
from dropdiag.store.reader import Run
from dropdiag.store.schema import TRAIN, UNCOMPARED, quantity_of

IN_OVERVIEW: Final = frozenset({WEIGHT, NET_VALUE, CORRELATION, FLOW, LEFT, RIGHT, *DROPOUTS})


@dataclass(frozen=True)
class LastValue:
    """The last value of a quantity in one phase.

    Attributes
    ----------
    quantity : str
    label, unit : str
        As the probe that records it says, or dropdiag; the name and "" where nobody does.
    phase : str
    layer : str
        Empty for the network as a whole.
    call : int
    step : int
    value : float
        Of a distribution the mean. NaN where it is missing.
    sd : float
        Of a distribution over its values; NaN for a number.
    """

    quantity: str
    label: str
    unit: str
    phase: str
    layer: str
    call: int
    step: int
    value: float
    sd: float = float("nan")


def last_values(
    run: Run, *, layer: str | None = None, step: int | None = None, phase: str | None = None
) -> list[LastValue]:
    """Return the last value of each quantity, phase and site that `dropdiag.analysis.overview` leaves out.

    Parameters
    ----------
    run : Run
    layer : str, optional
        Glob pattern of layers' names; the network as a whole is then left out.
    step : int, optional
        Values up to this step alone.
    phase : str, optional
        Held-out values of this phase alone; those of training are returned all the same.

    Returns
    -------
    list of LastValue
        The network as a whole first, then by quantity and phase, layers in network order. What only counts or times
        (`Quantity.scale` "none", of dropdiag's own) is left out.
    """
    wanted = matching(run, layer)
    found = [
        one for one in (*_scalars(run, step), *_distributions(run, step))
        if _is_shown(run, one.quantity) and (phase is None or one.phase in (phase, TRAIN))
        and (layer is None or (one.layer and wanted(one.layer)))
    ]  # fmt: skip
    names = {name: i for i, name in enumerate(dict.fromkeys(one.quantity for one in found))}

    def order(one: LastValue) -> tuple[Any, ...]:
        place = run.places.key((one.layer, one.call))
        return one.layer != "", names[one.quantity], one.phase != TRAIN, one.phase, place

    return sorted(found, key=order)


def _is_shown(run: Run, name: str) -> bool:
    own = None if quantity_of(name) is None else quantity_of(name, run.quantities)
    counts = name.lower() in COUNTERS or (own is not None and own.scale == UNCOMPARED)
    return name not in IN_OVERVIEW and not counts


def _scalars(run: Run, step: int | None) -> Iterator[LastValue]:
    rows = run.select(steps=(None, step))
    keys = ["quantity", "phase", "layer", "call"]
    # the network's own have no layer: without dropna=False their rows would be in no group
    last = rows.loc[rows.groupby(keys, dropna=False, sort=False)["step"].idxmax()] if len(rows) else rows
    row: Any
    for row in last.itertuples():
        site = "" if pd.isna(row.layer) else str(row.layer)
        yield LastValue(str(row.quantity), *_described(run, str(row.quantity)), str(row.phase), site, int(row.call),
                        int(row.step), float(row.value))  # fmt: skip


def _distributions(run: Run, step: int | None) -> Iterator[LastValue]:
    def choose(steps: Steps) -> Steps:
        return {key: last for key, last in lasts(steps, step).items() if _is_shown(run, key[0])}

    recorded = run.recorded(choose)
    recorded.warn()
    order = list(recorded.steps)  # that in which they were first recorded, not last
    rows = sorted(recorded.rows(), key=lambda row: order.index((row.quantity, row.phase)))
    for at, phase, layer, call, name, histogram in rows:
        yield LastValue(name, *_described(run, name), phase, layer, call, at, histogram.mean(), histogram.std())


def _described(run: Run, name: str) -> tuple[str, str]:
    known = quantity_of(name, run.quantities)
    return (name, "") if known is None else (words(known.label), known.unit)
