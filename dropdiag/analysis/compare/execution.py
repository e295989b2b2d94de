"""Whether the layers of two conditions follow one another, so that a trend over them can be taken."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from dropdiag.analysis.compare.measurements import Measurements
from dropdiag.formatting import site as site_name
from dropdiag.formatting import some
from dropdiag.store.order import Site
from dropdiag.store.reader import Run

UNRECORDED: Final = "no recorded order of execution"
PARALLEL: Final = "layers in parallel branches share a rank"
DIFFERING: Final = "the runs executed their layers in different orders"


def unordered(measurements: Measurements, sites: Sequence[Site], runs: Collection[str]) -> str:
    """Say why layers are in no one order.

    Parameters
    ----------
    measurements : Measurements
    sites : sequence of (str, int)
        Layers as the baseline calls them, and calls.
    runs : collection of str
        Labels of the runs.

    Returns
    -------
    str
        The reason, with the runs or layers that it is due to; empty where every run executed the layers one after the
        other, all in the same order.
    """
    every = dict(zip(measurements.runs.labels(), measurements.runs, strict=True))
    ranks = {label: _ranks(measurements, every[label], sites) for label in runs}
    lacking = [label for label, found in ranks.items() if len(found) < len(sites)]
    if lacking:
        return UNRECORDED + ("" if len(lacking) == len(ranks) else f" in {some(lacking)}")
    distinct = {tuple(found) for found in ranks.values()}
    shared = [name for found in distinct for name in _shared(sites, found)]
    if shared:
        return f"{PARALLEL} ({some(list(dict.fromkeys(shared)))})"
    # ranks also count what lies between the layers, as a dropout of one condition: their order is what must agree
    orders = {tuple(sorted(range(len(sites)), key=found.__getitem__)) for found in distinct}
    return DIFFERING if len(orders) > 1 else ""


def _ranks(measurements: Measurements, run: Run, sites: Sequence[Site]) -> list[int]:
    """Return the ranks that a run recorded of sites, under its own names for them."""
    own = measurements.names.get(run.condition, {})
    named = ((own.get(layer, layer), call) for layer, call in sites)
    return [run.order[site] for site in named if site in run.order]


def _shared(sites: Iterable[Site], ranks: Sequence[int]) -> list[str]:
    """Return the layers that do not have their rank alone."""
    return [site_name(*site) for site, rank in zip(sites, ranks, strict=True) if ranks.count(rank) > 1]
