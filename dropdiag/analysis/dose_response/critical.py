"""How far the greatest of several paired t reaches by chance: doses beside one that they do not differ from."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr, stdtrit


def p_of_greatest(t: float, blocks: int, others: int) -> float:
    """Return the probability that the greatest of ``others`` paired t is as great as one by chance, or more than that.

    Parameters
    ----------
    t : float
    blocks : int
        Seeds, at least 2.
    others : int
        Doses beside the one that is judged, at least 1.

    Notes
    -----
    That of independent t (Sidak 1967). All t share the dose that is judged, so that they go together, and the less
    that dose varies the less they do: of one that hardly varies they are independent, and no others reach as far.
    """
    return float(-_power_less_1(stdtr(blocks - 1, -t), others))


def critical(alpha: float, blocks: int, others: int) -> float:
    """Return what the greatest of ``others`` paired t exceeds with probability alpha by chance, at most."""
    return float(stdtrit(blocks - 1, (1.0 - alpha) ** (1.0 / others)))


def _power_less_1(p: float, times: int) -> float:
    """Return ``(1 - p)^times - 1``, exact for a small p too."""
    return float(np.expm1(times * np.log1p(-p))) if p < 1.0 else -1.0
