"""Items of a held-out set that ranks are given twice, so that all of them have as many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

from dropdiag.model.sharded import loaded

DEPTH: Final = 20
"""Frames above a forward pass in which a loader is looked for."""


class RepeatedItems(NamedTuple):
    """How many items of a set are repeated.

    Attributes
    ----------
    repeated, items : int
    """

    repeated: int
    items: int


def repeated_items() -> RepeatedItems | None:
    """Return what the loader repeats that the caller's forward pass is fed from; None where there is none to be seen.

    A loader is seen where the loop over it is: as a variable of a function that is running, or an attribute of its
    ``self``.
    """
    sampler = loaded("torch.utils.data.distributed", "DistributedSampler")
    if sampler is None:
        return None
    frame: FrameType | None = sys._getframe(1)
    for _ in range(DEPTH):
        if frame is None:
            return None
        for loader in _loaders(frame):
            found = getattr(loader, "sampler", None)
            if isinstance(found, sampler):
                return _of_sampler(found)
        frame = frame.f_back
    return None


def _loaders(frame: FrameType) -> Iterator[Any]:
    kind = loaded("torch.utils.data", "DataLoader")
    inside = getattr(frame.f_locals.get("self"), "__dict__", {})
    yield from (value for value in (*frame.f_locals.values(), *inside.values()) if isinstance(value, kind))


def _of_sampler(sampler: Any) -> RepeatedItems:
    items = len(sampler.dataset)
    return RepeatedItems(max(int(sampler.total_size) - items, 0), items)
