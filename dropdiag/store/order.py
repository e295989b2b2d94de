"""In which order a network's sites are executed: what a run recorded of it, and the orders of several runs joined.

An order is a sequence of groups of sites, (layer, call), in which the sites of one group share a rank: they stand in
parallel branches, or changed places while they were recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Site: TypeAlias = tuple[str, int]
Group: TypeAlias = tuple[Site, ...]
Order: TypeAlias = tuple[Group, ...]
Key: TypeAlias = tuple[int, int, int]


def recorded(meta: Mapping[str, Any]) -> Order:
    """Return the order of execution that ``run.json`` has; nothing of runs that recorded none (schema 1)."""
    return tuple(tuple((str(layer), int(call)) for layer, call in group) for group in meta.get("order") or ())


def ranks(order: Order) -> dict[Site, int]:
    """Return the rank of each site, from 0."""
    return {site: rank for rank, group in enumerate(order) for site in group}


def listed(meta: Mapping[str, Any]) -> Order:
    """Return the order of execution, then the sites that it does not hold as ``layers`` lists them, a rank each."""
    known = recorded(meta)
    held = {site for group in known for site in group}
    others = ((str(row["layer"]), int(row["call"])) for row in meta["layers"])
    return *known, *((site,) for site in dict.fromkeys(others) if site not in held)


class Places:
    """Where sites stand among each other.

    Parameters
    ----------
    order : Order
    problem : str
        Why it is not that of every run; empty where it is.
    """

    def __init__(self, order: Order, problem: str = "") -> None:
        self.problem = problem
        self._keys: dict[Site, Key] = {
            site: (rank, place, site[1]) for rank, group in enumerate(order) for place, site in enumerate(group)
        }
        self._last: dict[str, Key] = {}
        for (layer, _), key in sorted(self._keys.items(), key=lambda item: item[0][1]):
            self._last[layer] = key
        self._end = (len(order), 0, 0)

    def key(self, site: Site) -> Key:
        """Return what to sort by: a call that is not known comes after those of its layer, a layer after all others."""
        layer, call = site
        if site in self._keys:
            return self._keys[site]
        rank, place, _ = self._last.get(layer, self._end)
        return rank, place, call

    def has(self, layer: str) -> bool:
        """Whether a layer is known."""
        return layer in self._last

    def sorted(self, sites: Iterable[Site]) -> list[Site]:
        """Return sites in their order; those of which nothing is known by name."""
        return sorted(sites, key=lambda site: (self.key(site), site))

    def layers(self, names: Iterable[str]) -> list[str]:
        """Return layers in the order of their first calls."""
        return sorted(names, key=lambda name: self.key((name, 0)))


def joined(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Places:
    """Join the orders of several runs: the first run's, with what only others have behind what comes before it there.

    Parameters
    ----------
    runs : sequence of (str, mapping)
        Name and ``run.json`` of each. What was recorded counts; lists of layers only add what no order holds.

    Returns
    -------
    Places
        Its problem tells of the first two runs that executed two sites in opposite orders.
    """
    order, problem = Order(), ""
    executed = _distinct(runs, "order", recorded)
    for name, other in executed:
        order, turned = _with(order, other)
        problem = problem or ("" if turned is None else _told(executed, name, turned))
    for _, other in _distinct(runs, "layers", listed):  # what never ran, or of which no order was recorded
        order, _ = _with(order, other)
    return Places(order, problem)


def _distinct(
    runs: Iterable[tuple[str, Mapping[str, Any]]], field: str, order_of: Callable[[Mapping[str, Any]], Order]
) -> list[tuple[str, Order]]:
    """Return the orders that differ, each with the first run that has it."""
    found: dict[Order, str] = {}
    before: Any = None
    for name, meta in runs:
        # compared as it was read: most runs have the same, and making thousands of tuples takes longer
        if meta.get(field) != before:
            found.setdefault(order_of(meta), name)
            before = meta.get(field)
    return [(name, order) for order, name in found.items() if order]


def _told(executed: Sequence[tuple[str, Order]], name: str, turned: tuple[Site, Site]) -> str:
    """Say which runs executed two sites in opposite orders; the named run has the first one of them first."""
    held = [(run, [ranks(order).get(site) for site in turned]) for run, order in executed]
    # where no run has both, they follow from several runs
    other = next((run for run, (a, b) in held if a is not None and b is not None and b < a), executed[0][0])
    one, two = (f"{layer!r}" + (f" (call {call + 1})" if call else "") for layer, call in turned)
    return (
        f"{other} and {name} executed their layers in different orders: {two} comes before {one} in the first, after "
        f"it in the second; layers stand in the order of {executed[0][0]}"
    )


def _with(order: Order, other: Order) -> tuple[Order, tuple[Site, Site] | None]:
    """Add the sites that only the other order has; also two sites that stand the other way round in it, if any do."""
    known = ranks(order)
    joining: dict[int, list[Site]] = {}
    behind: dict[int, list[Group]] = {}
    at, last, turned = -1, None, None
    for group in other:
        here = [site for site in group if site in known]
        new = [site for site in group if site not in known]
        for site in here:
            if known[site] < at and turned is None and last is not None:
                turned = last, site
        if here:
            joining.setdefault(known[here[0]], []).extend(new)
            latest = max(here, key=known.__getitem__)
            at, last = (known[latest], latest) if known[latest] >= at else (at, last)
        elif new:
            behind.setdefault(at, []).append(tuple(new))
    made = [*behind.get(-1, ())]
    for rank, group in enumerate(order):
        made += [(*group, *joining.get(rank, ())), *behind.get(rank, ())]
    return tuple(made), turned
