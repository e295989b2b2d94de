"""In which order a network's sites are executed: what a run recorded of it, and the orders of several runs joined.

An order is a sequence of groups of sites, (layer, call), in which the sites of one group share a rank: they stand in
parallel branches, or changed places while they were recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import combinations, pairwise, product
from typing import Any, Final, TypeAlias

Site: TypeAlias = tuple[str, int]
Group: TypeAlias = tuple[Site, ...]
Order: TypeAlias = tuple[Group, ...]
Key: TypeAlias = tuple[int, int, int]
FEW: Final = 30


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
        for (layer, call), key in self._keys.items():
            if layer not in self._last or call >= self._last[layer][2]:
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
    """Join the orders of several runs: a site comes before another if it does in any run, or else in the first run.

    Parameters
    ----------
    runs : sequence of (str, mapping)
        Name and ``run.json`` of each. What was recorded counts; lists of layers only add what no order holds.

    Returns
    -------
    Places
        Where two runs executed two sites in opposite orders its problem says so, and the earlier run decides.
    """
    executed, lists = _distinct(runs, "order", recorded), _distinct(runs, "layers", listed)
    orders = [order for _, order in executed]
    ran = {site for order in orders for group in order for site in group}
    # a list is no order of execution: it says where to put a site that no order holds, and nothing of the others
    pairs = [pair for order in orders for pair in _steps(order)]
    pairs += [(one, two) for _, order in lists for one, two in _steps(order) if two not in ran]
    sites = dict.fromkeys(site for order in (*orders, *(one for _, one in lists)) for group in order for site in group)
    return Places(tuple((site,) for site in _sorted(list(sites), pairs)), _contradiction(executed))


def _steps(order: Order) -> Iterator[tuple[Site, Site]]:
    """Yield each site with those of the next rank."""
    for group, following in pairwise(order):
        yield from product(group, following)


def _sorted(sites: Sequence[Site], pairs: Iterable[tuple[Site, Site]]) -> list[Site]:
    """Sort sites so that the first of each pair comes first; what no pair decides, or several contradict, as given."""
    number = {site: i for i, site in enumerate(sites)}
    followers: dict[int, set[int]] = {}
    for one, two in pairs:
        followers.setdefault(number[one], set()).add(number[two])
    waiting = Counter(two for after in followers.values() for two in after)
    left, ready = dict.fromkeys(range(len(sites))), [i for i in range(len(sites)) if not waiting[i]]
    found = []
    while left:
        # where each of those that are left waits for another, the order in which they were given decides
        at = heappop(ready) if ready else next(iter(left))
        if at not in left:
            continue
        del left[at]
        found.append(sites[at])
        for after in followers.get(at, ()):
            waiting[after] -= 1
            if not waiting[after]:
                heappush(ready, after)
    return found


def _contradiction(executed: Sequence[tuple[str, Order]]) -> str:
    """Say which runs executed two sites in opposite orders; nothing where none did."""
    # of hundreds that differ, as where layers are drawn at random, the first ones will do
    for (first, order), (second, other) in combinations(executed[:FEW], 2):
        known = ranks(order)
        latest: Site | None = None
        for group in other:
            here = sorted((site for site in group if site in known), key=known.__getitem__)
            if here and latest is not None and known[here[0]] < known[latest]:
                one, two = (f"{layer!r}" + (f" (call {call + 1})" if call else "") for layer, call in (here[0], latest))
                return (
                    f"{first} and {second} executed their layers in different orders: {one} comes before {two} in the "
                    "first, after it in the second; layers stand in the order of the first"
                )
            latest = here[-1] if here and (latest is None or known[here[-1]] > known[latest]) else latest
    return ""


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
