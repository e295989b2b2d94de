"""What several ranks say of themselves as what one run says: the content of ``run.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dropdiag.store.ranks import layers
from dropdiag.store.ranks.coverage import coverage, numbered
from dropdiag.store.ranks.members import Rank


def described(
    meta: Mapping[str, Any], ranks: Sequence[Rank], last: Sequence[Rank], expected: Sequence[int]
) -> dict[str, Any]:
    """Return what a run of several ranks says of itself.

    Parameters
    ----------
    meta : mapping
        Of ``run.json``.
    ranks : sequence of Rank
        In the order in which they are merged.
    last : sequence of Rank
        Those that took part in the last session.
    expected : sequence of int
        Those that should have.
    """
    metas = [rank.meta for rank in ranks]
    table = coverage(ranks, expected)
    return {
        **meta,
        "steps": max((rank.read_to for rank in last), default=int(meta.get("steps") or 0)),
        "probes": list(dict.fromkeys(_each(metas, "probes"))),
        "quantities": _first(metas, "quantities"),
        "activations": _activations(ranks),
        "finite_shares": all(one.get("finite_shares") for one in metas),
        "interventions": _distinct(_each(metas, "interventions")),
        "disabled_probes": _of_some(ranks, "disabled_probes", _on),
        "warnings": [*_of_some(ranks, "warnings", lambda sentence, who: f"{who}: {sentence}"), *_ends(meta, last)],
        "missing": _distinct(_each(metas, "missing")),
        "cost": max((one["cost"] for one in metas if one.get("cost")), key=_share, default=None),
        "layers": layers.layers(ranks),
        "order": layers.order(ranks),
        "chain": layers.chain(ranks),
        **({} if table is None else {"coverage": table}),
    }


def with_activations_apart(ranks: Sequence[Rank]) -> list[Rank]:
    """Return ranks with new names for activations of one name and other saturation areas: other functions."""
    known: dict[str, dict[str, str]] = {}  # name -> area -> what it is called
    found = []
    for rank in ranks:
        own = rank.meta.get("activations") or {}
        called = {name: _called(known.setdefault(name, {}), name, json.dumps(area), rank) for name, area in own.items()}
        others = {name: new for name, new in called.items() if new != name}
        found.append(replace(rank, functions=others) if others else rank)
    return found


def _called(known: dict[str, str], name: str, area: str, rank: Rank) -> str:
    """Return what an activation is called: the first of its name so, each other one by the first rank that has it."""
    return known.setdefault(area, f"{name} (rank {rank.number})" if known else name)


def _activations(ranks: Iterable[Rank]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rank in ranks:
        for name, area in (rank.meta.get("activations") or {}).items():
            found.setdefault(rank.functions.get(name, name), area)
    return found


def _each(metas: Iterable[Mapping[str, Any]], key: str) -> Iterable[Any]:
    return (one for meta in metas for one in meta.get(key) or ())


def _first(metas: Iterable[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Return entries by name, of the first that has one of it."""
    found: dict[str, Any] = {}
    for meta in metas:
        found = {**(meta.get(key) or {}), **found}
    return found


def _distinct(given: Iterable[Any]) -> list[Any]:
    return list({json.dumps(one, sort_keys=True): one for one in given}.values())


def _of_some(ranks: Sequence[Rank], key: str, on: Callable[[Any, str], Any]) -> list[Any]:
    """Return what ranks tell, each thing once; of what not all tell, who does."""
    tellers: dict[str, tuple[Any, list[int]]] = {}
    for rank in ranks:
        for one in rank.meta.get(key) or ():
            tellers.setdefault(json.dumps(one, sort_keys=True), (one, []))[1].append(rank.number)
    return [one if set(who) == {rank.number for rank in ranks} else on(one, numbered(set(who)))
            for one, who in tellers.values()]  # fmt: skip


def _on(probe: Any, who: str) -> Any:
    return {**probe, "on": who} if isinstance(probe, Mapping) else f"{probe} (on {who})"


def _ends(meta: Mapping[str, Any], last: Iterable[Rank]) -> list[str]:
    """Say which ranks ended otherwise than the run says of itself."""
    others = [rank for rank in last if rank.state not in ("completed", "running", meta.get("state"))]
    why = [f": {rank.meta['error']}" if rank.meta.get("error") else "" for rank in others]
    return [f"rank {rank.number} ended as {rank.state!r}{error}" for rank, error in zip(others, why, strict=True)]


def _share(cost: Mapping[str, Any]) -> float:
    """Return which share of the time of training a recorder took: a training is as slow as its slowest rank."""
    return float(cost.get("share") or 0.0)
