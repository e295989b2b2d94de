"""From p to a verdict: of one number, of a claim's parts, and over the family of all that is asked at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dropdiag.analysis.seeds import Floats

SUPPORTED: Final = "supported"
CONTRADICTED: Final = "contradicted"
IN_PART: Final = "in part"
UNDECIDED: Final = "undecided"
UNRECORDED: Final = "not recorded"
NOT_JUDGED: Final = "not judged"
OPPOSITE: Final = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}

ONE_SIDE: Final = (
    "A number is on the claimed side when its interval over seeds (1 - {alpha:g}) is, and its p, adjusted over the "
    "family of all claims and conditions that are asked at once (Holm's, weighted: each claim has one share, divided "
    "among its parts), is at most {alpha:g}. p is that of the relabelled seeds where so many seeds can give one that "
    "is small enough, else Student's t, and the verdict is then provisional. One seed decides nothing."
)
WHOLE: Final = (
    "A part is supported when the average over layers is on the claimed side and no layer is decidedly on the other, "
    "contradicted when the average is on the other side and no layer is decidedly on the claimed one, else undecided."
)
PARTS: Final = (
    "The claim is supported when all of its parts are, in part when some are and others not, contradicted when none is "
    "supported and one is contradicted, else undecided."
)


class Family(NamedTuple):
    """Several tests that are made at once.

    Attributes
    ----------
    adjusted : ndarray of float64
        p, adjusted: at most alpha where the test rejects.
    level : ndarray of float64
        Level at which each test is made in the end.
    """

    adjusted: Floats
    level: Floats


def weighted_holm(p: ArrayLike, weights: ArrayLike, alpha: float) -> Family:
    """Holm's step-down test with weights: the probability of any false rejection is at most alpha (Holm 1979).

    Parameters
    ----------
    p : array_like of float, shape (k,)
    weights : array_like of float, shape (k,)
        Positive. Equal ones make it Holm's own.
    alpha : float

    Returns
    -------
    Family
    """
    x, w = np.asarray(p, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(x / w, kind="stable")
    # what is still to be tested shares alpha by its weights; what was rejected leaves its share to the others
    left = np.cumsum(w[order][::-1])[::-1]
    adjusted, level = np.empty_like(x), np.empty_like(x)
    adjusted[order] = np.minimum(np.maximum.accumulate(x[order] * left / w[order]), 1.0)
    kept = np.flatnonzero(adjusted[order] > alpha)
    # from the first test that does not reject all others are made beside it
    reached = np.minimum(np.arange(x.size), kept[0] if kept.size else x.size)
    level[order] = alpha * w[order] / left[reached] if x.size else level
    return Family(adjusted, level)


def jointly(parts: Sequence[str]) -> str:
    """Verdict of a claim with several parts."""
    if SUPPORTED in parts:
        return SUPPORTED if set(parts) == {SUPPORTED} else IN_PART
    return CONTRADICTED if CONTRADICTED in parts else UNDECIDED


def over_layers(average: str, layers: Sequence[str]) -> str:
    """Verdict of an average over layers, unless a layer says the opposite."""
    return UNDECIDED if OPPOSITE.get(average) in layers else average
