"""The coverage tables of several ranks as that of one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dropdiag.store.ranks.layers import by_site
from dropdiag.store.ranks.members import Rank


def coverage(ranks: Sequence[Rank], expected: Sequence[int]) -> list[dict[str, Any]] | None:
    """Return every site of any rank: how often it was recorded on all of them, and on which.

    Parameters
    ----------
    ranks : sequence of Rank
    expected : sequence of int
        Those that should have recorded: on which of them a site was is told where it was not on all.

    Returns
    -------
    list of dict or None
        Rows as ``run.json`` has them; None where no rank has ended, for the table is written at the end.
    """
    ended = [rank for rank in ranks if "coverage" in rank.meta]
    if not ended:
        return None
    of_sites = by_site(ended, lambda rank: rank.meta["coverage"])
    return [_row(rows, expected) for _, rows in of_sites]


def _row(rows: Mapping[int, Mapping[str, Any]], expected: Sequence[int]) -> dict[str, Any]:
    """Return the row of one site, given that of each rank that has one."""
    fired = {rank for rank, row in rows.items() if row.get("fired")}
    most = next((rows[rank] for rank in sorted(fired)), next(iter(rows.values())))
    shown = {
        **most,
        "expected": any(row.get("expected") for row in rows.values()),
        "fired": sum(int(row.get("fired") or 0) for row in rows.values()),
        "sampled": _words([rows[rank].get("sampled") for rank in sorted(fired or rows)]),
    }
    if fired and not fired.issuperset(expected):
        shown["ranks"] = _where(rows, fired, len(expected))
    return shown


def _where(rows: Mapping[int, Mapping[str, Any]], fired: Collection[int], world_size: int) -> str:
    """Say on which ranks a site was recorded, and why not on the others that have it."""
    reasons: dict[str, list[int]] = {}
    for rank, row in rows.items():
        if rank not in fired and row.get("skipped"):
            reasons.setdefault(str(row["skipped"]), []).append(rank)
    others = [f"{numbered(some)}: {reason}" for reason, some in reasons.items()]
    return "; ".join([f"on {numbered(fired)} of {world_size}", *others])


def _words(given: Sequence[str | None]) -> str | None:
    return "; ".join(dict.fromkeys(word for word in given if word)) or None


def numbered(ranks: Collection[int]) -> str:
    """Return ranks in words: "rank 3", "ranks 0-2 and 5"."""
    found: list[list[int]] = []
    for rank in sorted(ranks):
        if found and found[-1][-1] == rank - 1:
            found[-1].append(rank)
        else:
            found.append([rank])
    spans = [str(one[0]) if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in found]
    listed = spans[0] if len(spans) == 1 else f"{', '.join(spans[:-1])} and {spans[-1]}"
    return f"rank{'s' if len(ranks) > 1 else ''} {listed}"
