"""Which training a process is a rank of: runs of its ranks are no replicates of each other."""

from __future__ import annotations

import uuid
from typing import Any

import torch.distributed as dist


def rank_of_training() -> dict[str, Any] | None:
    """Identify the training that this process takes part in.

    Returns
    -------
    dict or None
        For ``run.json``: rank, world_size and training, a random identifier that the n-th Recorder of every rank has in
        common (None where the process group's store cannot be reached). None for a process alone.

    Notes
    -----
    The ranks agree through the store of the process group, which each asks by itself: no collective, so nobody waits
    for a rank that has no Recorder. Ranks that open different numbers of Recorders are counted by their order.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    rank = dist.get_rank()
    told: dict[str, Any] = {"rank": rank, "world_size": dist.get_world_size(), "training": None}
    try:
        # private, and the one way to the store of a group that somebody else made
        told["training"] = agreed(dist.distributed_c10d._get_default_store(), rank)
    except (RuntimeError, ValueError, AttributeError):  # a store that is gone or knows no compare_set: not known
        return told
    return told


def agreed(store: Any, rank: int) -> str:
    """Return the identifier that the first rank to ask has set for the Recorders of this number."""
    number = store.add(f"dropdiag/recorders/{rank}", 1)
    found: bytes = store.compare_set(f"dropdiag/training/{number}", "", uuid.uuid4().hex)
    return found.decode()
