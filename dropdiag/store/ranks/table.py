"""The ranks of a run side by side: how far each came, how long its steps took, and in what it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.store.ranks.majority import usual
from dropdiag.store.ranks.members import Rank
from dropdiag.store.ranks.replicas import unlike
from dropdiag.store.reading import decoded, read_scalars
from dropdiag.store.selection import Selection

TIMES: Final = ("step_seconds", "recorder_seconds")
COLUMNS: Final = ("rank", "state", "steps", "sessions", "step_seconds", "recorder_share", "differs")


def table(ranks: Sequence[Rank], lacking: Mapping[int, str]) -> pd.DataFrame:
    """Return one row a rank; see `dropdiag.store.ranks.sequence.Ranks.table`.

    Parameters
    ----------
    ranks : sequence of Rank
    lacking : mapping of int to str
        What is missing of which rank.
    """
    known = {rank.number: rank for rank in ranks}
    notes = _differences(ranks)
    rows: list[dict[str, Any]] = []
    for number in sorted({*known, *lacking}):
        why = [lacking[number]] if number in lacking else []
        if number in known:
            differs = "; ".join([*why, *notes.get(number, ())])
            rows.append({"rank": number, **_facts(known[number]), "differs": differs})
        else:
            rows.append({"rank": number, "state": "missing", "steps": 0, "sessions": 0, "differs": why[0]})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"step_seconds": float, "recorder_share": float})


def _facts(rank: Rank) -> dict[str, Any]:
    read = read_scalars(rank.part, Selection.of(TIMES, "train", [None])).table
    frame = decoded(Selection.of(TIMES, "train", [None]).apply(read)).to_pandas()
    sums = frame.groupby("quantity")["value"].agg(["sum", "mean"]).reindex(TIMES)
    step, own = sums["sum"]
    return {
        "state": rank.state, "steps": rank.steps, "sessions": len(rank.meta["sessions"]),
        "step_seconds": sums["mean"].iloc[0], "recorder_share": own / step if step > 0 else np.nan,
    }  # fmt: skip


def _differences(ranks: Sequence[Rank]) -> dict[int, list[str]]:
    """Return in what each rank differs from most others of its stage, in words."""
    found: dict[int, list[str]] = {}
    for stage in dict.fromkeys(rank.stage for rank in ranks):
        peers = {rank.number: rank for rank in ranks if rank.stage == stage}
        for notes in (_layers(peers), _disabled(peers), unlike(peers)):
            for number, note in notes.items():
                found.setdefault(number, []).append(note)
    return found


def _layers(ranks: Mapping[int, Rank]) -> dict[int, str]:
    sites = {number: frozenset((row["layer"], row["kind"]) for row in rank.meta["layers"] if not row.get("skipped"))
             for number, rank in ranks.items()}  # fmt: skip
    most = usual(sites)
    found: dict[int, str] = {}
    for number, own in sites.items():
        lacks, more = (", ".join(sorted({layer for layer, _ in some})) for some in (most - own, own - most))
        told = [*([f"does not record {lacks}"] if lacks else []), *([f"records {more} besides"] if more else [])]
        found |= {number: ", ".join(told)} if told else {}
    return found


def _disabled(ranks: Mapping[int, Rank]) -> dict[int, str]:
    """Say who lost a probe that others have."""
    lost = {number: frozenset(map(_probe, rank.meta.get("disabled_probes") or ())) for number, rank in ranks.items()}
    by_all = frozenset.intersection(*lost.values())
    own = {number: ", ".join(sorted(some - by_all)) for number, some in lost.items()}
    return {number: f"without the probe {some}" for number, some in own.items() if some}


def _probe(told: Any) -> str:
    if not isinstance(told, Mapping):
        return str(told)
    return str(told.get("probe")) + (f" at {told['layer']}" if told.get("layer") else "")
