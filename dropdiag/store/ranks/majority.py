"""What most ranks have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def usual(values: Mapping[int, T]) -> T:
    """Return what most ranks have; of several things that as many have, what the lowest rank has.

    Parameters
    ----------
    values : mapping
        Rank -> what it has; of one at least.
    """
    held = [values[number] for number in sorted(values)]
    return max(held, key=held.count)
