"""What the quantities of a run are called in other tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dropdiag.errors import ArgumentError

if TYPE_CHECKING:
    from dropdiag.store.histogram_rows import RecordedHistogram
    from dropdiag.store.rows import ScalarRow

Row: TypeAlias = "ScalarRow | RecordedHistogram"
PREFIX: Final = "dropdiag"
"""What the names of all metrics begin with, where they may stand beside those of others."""


def tag(row: Row) -> str:
    """Return ``quantity/layer``, with ``#call`` where a module is called several times; the run's own have no layer."""
    if row.layer is None:
        return row.quantity
    return f"{row.quantity}/{row.layer}" + (f"#{row.call}" if row.call else "")


def not_finite(name: str) -> str:
    """Return the tag of how many values of a histogram are not finite."""
    return f"not_finite/{name}"


def share_of(meta: Mapping[str, Any]) -> str:
    """Return ``rank-0/`` for a run of several ranks, of which a sink gets one's share; nothing for any other."""
    ranks = meta.get("ranks")
    return f"rank-{ranks['rank']}/" if ranks and ranks["world_size"] > 1 else ""


def resumed_at(meta: Mapping[str, Any]) -> int | None:
    """Return the step that a run goes on from; None for a new one."""
    sessions = meta["sessions"]
    return int(sessions[-1]["from_step"]) if len(sessions) > 1 else None


def check_free(used: object) -> None:
    """Raise `ArgumentError` where a sink is open already: each run needs one of its own."""
    if used is not None:
        raise ArgumentError("this sink is open for another run; make one for each Recorder")
