"""How many seeds it takes, and what so many could have told: for planning, by Student's t with Bonferroni's share."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import nctdtr, stdtrit

POWER: Final = 0.8
MOST: Final = 1000
"""So many seeds are looked at before the answer is "more"."""


def power(effect: float, seeds: int, rivals: int, level: float) -> float:
    """Return the probability that an effect is found.

    Parameters
    ----------
    effect : float
        In standard deviations of the difference of two runs of one seed.
    seeds : int
        At least 2.
    rivals : int
        Conditions beside the one that is judged.
    level : float
        Of all of these together.
    """
    degrees = seeds - 1.0
    limit = stdtrit(degrees, 1.0 - level / max(rivals, 1))
    return float(1.0 - nctdtr(degrees, effect * np.sqrt(seeds), limit))


def seeds_needed(effect: float, rivals: int, level: float) -> int | None:
    """Return the least number of seeds that finds an effect in `POWER` of sweeps; None where it is above `MOST`."""
    if not effect > 0.0 or power(effect, MOST, rivals, level) < POWER:
        return None
    low, high = 1, MOST  # at 1 it is never found
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, rivals, level) >= POWER else (middle, high)
    return high


def detectable(seeds: int, rivals: int, level: float) -> float:
    """Return the least effect, in standard deviations of a difference, that is found in `POWER` of sweeps."""
    low, high = 0.0, 1.0
    while power(high, seeds, rivals, level) < POWER:
        low, high = high, 2.0 * high
        if high > 1e6:
            return float("nan")
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if power(middle, seeds, rivals, level) >= POWER else (middle, high)
    return high
