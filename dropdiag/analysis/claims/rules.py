"""From an interval and a p to a verdict, and from layers to the whole: the rules, as functions and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SUPPORTED: Final = "supported"
CONTRADICTED: Final = "contradicted"
UNDECIDED: Final = "undecided"

STATEMENTS: Final = {
    "a": "Weights become more Gaussian, and more alike across layers.",
    "b": "Node correlation is not lower.",
    "c": "More gradient flows.",
    "d": "More net values lie in the saturation area, and more so in higher layers.",
    "e": "GAAF's effect on gradient flow and saturation resembles dropout's.",
    "f": "GAAF needs fewer epochs than dropout.",
}

ONE_SIDE: Final = (
    "A number is on the claimed side when its whole interval over seeds is, and its p (over layers: Holm's) is at most "
    "alpha; where so few seeds could not give such a p, the interval alone decides (over layers: Bonferroni's), and "
    "the attainable p is stated. One seed, or seeds that do not differ, decide nothing."
)


@dataclass(frozen=True)
class Options:
    """What the rules leave open; see `dropdiag.analysis.claims.claims.claims`."""

    alpha: float = 0.05
    correlation_margin: float = 0.02
    published_factor: float = 5.0
    flow_margin: float = 1.5
    share_margin: float = 0.1


def rules(options: Options) -> dict[str, str]:
    """Rules in words, with the numbers that are in force."""
    whole = (
        "The claim is supported when the average over layers is on the claimed side and no layer is on the other, "
        "contradicted when the average is on the other side and no layer is on the claimed one, else undecided."
    )
    both = "Of its two parts both must be supported; one that is contradicted contradicts it."
    return {
        "a": f"More Gaussian: the Kolmogorov-Smirnov distance of the weights to the normal of their mean and standard "
        f"deviation is smaller. More alike: so is the mean W1 between a layer's standardised weights and those of each "
        f"other layer. {both} {ONE_SIDE} {whole}",
        "b": f"Not lower: the mean |r| is not more than {options.correlation_margin:g} below the baseline's "
        f"(non-inferiority): the interval of the difference lies above -{options.correlation_margin:g}. Contradicted "
        f"where it lies below 0 and is not above that margin. {ONE_SIDE} {whole}",
        "c": f"The log ratio of gradient flow is above 0. The factor is then set beside the published "
        f"{options.published_factor:g}, which does not enter the verdict. {ONE_SIDE} {whole}",
        "d": f"More: the difference of the saturation share is above 0. More so in higher layers: the slope of that "
        f"difference over the layers' order is above 0. {both} {ONE_SIDE} {whole}",
        "e": f"Resembles: GAAF's gradient flow is within a factor of {options.flow_margin:g} of dropout's, and its "
        f"saturation share within {options.share_margin:g}: supported where the whole interval is within (equivalence "
        f"by confidence interval; over layers Bonferroni's), contradicted where it is wholly outside. Undecided where "
        f"dropout itself has no effect that could be resembled. {both} An average within counts only if no "
        f"layer is outside.",
        "f": f"The difference of the epochs (evaluations) up to the best held-out value, GAAF's less dropout's, is "
        f"below 0. {ONE_SIDE}",
    }


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
    width = numbers.high - numbers.low
    if not width > 1e-10 * max(abs(numbers.high), abs(numbers.low)):  # NaN, or seeds that do not differ
        return UNDECIDED
    testable = numbers.attainable <= alpha
    if numbers.low > numbers.threshold:
        return SUPPORTED if not testable or numbers.p <= alpha else UNDECIDED
    if numbers.high < numbers.against:
        return CONTRADICTED if not testable or numbers.p_against <= alpha else UNDECIDED
    return UNDECIDED


def equivalent(low: float, high: float, margin: float) -> str:
    """Verdict of an equivalence: the interval within, or wholly outside, ±margin."""
    if not high - low > 1e-10 * max(abs(high), abs(low)):
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
