"""The layers of several ranks as those of one run: their names, their rows, their order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dropdiag.store.ranks.members import Rank

_NONE: Final = object()
_POINTERS: Final = ("layer", "applied_to", "feeds")
"""Keys of a layer's row that name layers."""


def told_apart(ranks: Sequence[Rank]) -> list[Rank]:
    """Return ranks with new names for the layers that stages of a pipeline share: they are different layers."""
    stages: dict[str, set[int]] = {}
    for rank in ranks:
        for name in _names(rank.meta) if rank.stage is not None else ():
            stages.setdefault(name, set()).add(rank.stage or 0)
    shared = sorted(name for name, some in stages.items() if len(some) > 1)
    if not shared:
        return list(ranks)
    return [_told_apart(rank, shared) for rank in ranks]


def _told_apart(rank: Rank, shared: Sequence[str]) -> Rank:
    stage = rank.stage
    return rank if stage is None else replace(rank, renamed={name: f"stage-{stage}.{name}" for name in shared})


def _names(meta: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(str(row["layer"]) for row in (*meta["layers"], *meta.get("coverage", ())))


def renamed(rank: Rank, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of layers or of coverage with the names of the merged run."""
    changed = {key: rank.renamed.get(row[key], row[key]) for key in _POINTERS if rank.renamed and row.get(key)}
    if rank.functions and row.get("activation"):
        changed["activation"] = rank.functions.get(row["activation"], row["activation"])
    return {**row, **changed}


def layers(ranks: Sequence[Rank]) -> list[dict[str, Any]]:
    """Return the sites of all ranks, each once: as a rank has it that records it, where any does."""
    of_sites = by_site(ranks, lambda rank: rank.meta["layers"])
    return [min(rows.values(), key=lambda row: bool(row.get("skipped"))) for _, rows in of_sites]


def _site(row: Mapping[str, Any]) -> Hashable:
    return row["layer"], row["call"], row["kind"]


def order(ranks: Sequence[Rank]) -> list[list[list[Any]]]:
    """Return the order of execution over all ranks, stage by stage, as ``run.json`` has it.

    Where ranks ran different layers, what only the later ones ran stands behind what it followed there.
    """
    orders = [tuple(tuple((rank.renamed.get(layer, layer), call) for layer, call in group)
                    for group in rank.meta.get("order") or ()) for rank in ranks]  # fmt: skip
    found = joined([[site for group in one for site in group] for one in orders])
    group_of: dict[Hashable, Hashable] = {}  # the first rank that ran a site says which others share its place
    for one in orders:
        for group in one:
            new = [site for site in group if site not in group_of]
            group_of.update(dict.fromkeys(new, new[0] if new else None))
    groups: dict[Hashable, list[list[Any]]] = {}
    for layer, call in found:
        groups.setdefault(group_of[layer, call], []).append([layer, call])
    return list(groups.values())


def chain(ranks: Sequence[Rank]) -> list[dict[str, Any]]:
    """Return the tensors from each net value to the output, where all ranks have the same; else one row that says so.

    The stages of a pipeline have chains of their own, each with an output that is the next one's input.
    """
    chains = [[dict(row) for row in rank.meta.get("chain") or ()] for rank in ranks]
    known = [one for one in chains if one]
    tensors = {tuple((row["kind"], row["layer"], row["call"], row["next"]) for row in one) for one in known}
    if len(tensors) <= 1 and not any(rank.renamed for rank in ranks):
        return [{**row, "why": next((one["why"] for one in rows if one["why"]), None)}
                for rows in zip(*known, strict=True) for row in rows[:1]]  # fmt: skip
    why = "ranks have other layers, or lead from one to another in other ways"
    empty = {"next": None, "between": "", "same": False, "why": why}
    return [{"kind": "output", "layer": "(output)", "call": 0, **empty}] if known else []


def joined(lists: Sequence[Sequence[Hashable]]) -> list[Any]:
    """Join lists: as the first has its items, each that only a later one has behind what it follows there."""
    found: list[Hashable] = []
    for one in map(dict.fromkeys, lists):
        known = set(found)
        if known.issuperset(one):
            continue
        first = next((item for item in one if item in known), _NONE)
        found = _inserted(found, _behind(one, known), first)
    return found


def _behind(one: Iterable[Hashable], known: Collection[Hashable]) -> dict[Hashable, list[Hashable]]:
    """Return the unknown items by the last known one before them."""
    behind: dict[Hashable, list[Hashable]] = {}
    last: Hashable = _NONE
    for item in one:
        if item in known:
            last = item
        else:
            behind.setdefault(last, []).append(item)
    return behind


def _inserted(found: Iterable[Hashable], behind: Mapping[Hashable, list[Hashable]], first: Hashable) -> list[Hashable]:
    """Return a list with others behind its items; what nothing precedes comes before ``first``, or at the end."""
    result: list[Hashable] = []
    leading = behind.get(_NONE, [])
    for item in found:
        result += [*(leading if item == first else ()), item, *behind.get(item, ())]
    return result + (leading if first is _NONE else [])


def by_site(
    ranks: Sequence[Rank], rows_of: Callable[[Rank], Iterable[Mapping[str, Any]]]
) -> list[tuple[Hashable, dict[int, dict[str, Any]]]]:
    """Return each site that rows of any rank are of, with its row of each rank."""
    lists = [[renamed(rank, row) for row in rows_of(rank)] for rank in ranks]
    found: dict[Hashable, dict[int, dict[str, Any]]] = {}
    for rank, rows in zip(ranks, lists, strict=True):
        for row in rows:
            found.setdefault(_site(row), {})[rank.number] = row
    return [(site, found[site]) for site in joined([[_site(row) for row in rows] for rows in lists])]
