"""From an interval and a p to a verdict, and from layers and parts to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SUPPORTED: Final = "supported"
CONTRADICTED: Final = "contradicted"
UNDECIDED: Final = "undecided"

ONE_SIDE: Final = (
    "A number is on the claimed side when its whole interval over seeds is, and its p (over layers: Holm's) is at most "
    "alpha; where so few seeds could not give such a p, the interval alone decides (over layers: Bonferroni's), and "
    "the attainable p is stated. One seed, or seeds that do not differ, decide nothing."
)
WHOLE: Final = (
    "The claim is supported when the average over layers is on the claimed side and no layer is on the other, "
    "contradicted when the average is on the other side and no layer is on the claimed one, else undecided."
)
BOTH: Final = "Of its two parts both must be supported; one that is contradicted contradicts it."


@dataclass(frozen=True)
class Numbers:
    """What a verdict is made of, turned so that the claimed side is above.

    Attributes
    ----------
    low, high : float
        Interval; NaN where there is none.
    threshold : float
        Supported above it.
    against : float
        Contradicted below it (and not above the threshold): the same, but for non-inferiority.
    p, p_against : float
        p (over layers: Holm's) of either.
    attainable : float
        Smallest p that could have come out (times the number of layers).
    """

    low: float
    high: float
    threshold: float
    against: float
    p: float
    p_against: float
    attainable: float


def one_sided(numbers: Numbers, alpha: float) -> str:
    """Verdict of one number; see `ONE_SIDE`."""
    if not _has_width(numbers.low, numbers.high):
        return UNDECIDED
    # a p that so few seeds could never give must not be asked of them
    testable = numbers.attainable <= alpha
    if numbers.low > numbers.threshold:
        return SUPPORTED if not testable or numbers.p <= alpha else UNDECIDED
    if numbers.high < numbers.against:
        return CONTRADICTED if not testable or numbers.p_against <= alpha else UNDECIDED
    return UNDECIDED


def equivalent(low: float, high: float, margin: float) -> str:
    """Verdict of an equivalence: the interval within, or wholly outside, ±margin."""
    if not _has_width(low, high):
        return UNDECIDED
    if -margin <= low and high <= margin:
        return SUPPORTED
    return CONTRADICTED if low > margin or high < -margin else UNDECIDED


def over_layers(average: str, layers: Sequence[str]) -> str:
    """Verdict of an average over layers, unless a layer says the opposite."""
    opposite = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}.get(average)
    return UNDECIDED if opposite in layers else average


def jointly(parts: Sequence[str]) -> str:
    """Verdict of a claim with several parts."""
    if CONTRADICTED in parts:
        return CONTRADICTED
    return SUPPORTED if parts and all(part == SUPPORTED for part in parts) else UNDECIDED


def _has_width(low: float, high: float) -> bool:
    """Whether an interval says anything: false for NaN, and for seeds that do not differ but by rounding."""
    # copies of one run differ by rounding alone; taken for a narrow interval they would "prove" anything
    return high - low > 1e-10 * max(abs(high), abs(low))
