"""What a claim is, and the case that it is put to: two conditions, and the ways to judge what they differ by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TypeAlias

from dropdiag.analysis.claims.effects import ABOVE, ZERO, Bounds, ClaimEffect, PairEffects
from dropdiag.analysis.claims.rules import UNDECIDED, Numbers, equivalent, one_sided, over_layers
from dropdiag.errors import ArgumentError


@dataclass(frozen=True)
class Options:
    """What the rules leave open; see `dropdiag.analysis.claims.claims.claims`.

    Raises
    ------
    ArgumentError
        For a number that cannot be.
    """

    alpha: float = 0.05
    correlation_margin: float = 0.02
    published_factor: float = 5.0
    flow_margin: float = 1.5
    share_margin: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ArgumentError(f"alpha must lie between 0 and 1, got {self.alpha!r}")
        # written as "not right" so that NaN, which compares as false, is refused too
        for name in ("correlation_margin", "share_margin"):
            if not getattr(self, name) >= 0.0:
                raise ArgumentError(f"{name} must not be negative, got {getattr(self, name)!r}")
        for name in ("published_factor", "flow_margin"):
            if not getattr(self, name) > 1.0:
                raise ArgumentError(f"{name} is a factor and must be above 1, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Part:
    """One number of a claim, with its verdict.

    Attributes
    ----------
    verdict : str
        Of the part as a whole.
    effect : ClaimEffect or None
        The average over layers, the slope, or the scalar of the network; None where there is none.
    judged : tuple of (ClaimEffect, str)
        Each number behind the verdict with its own, layers first.
    margin : float or None
        Of an equivalence, which is judged by its interval, without a p.
    contrary : tuple of str
        Layers that keep the verdict on the average from being that of the whole.
    """

    verdict: str
    effect: ClaimEffect | None
    judged: tuple[tuple[ClaimEffect, str], ...] = ()
    margin: float | None = None
    contrary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """Two conditions that a claim is put to.

    Attributes
    ----------
    effects : PairEffects
        What the two differ by.
    options : Options
    scalar : str or None
        Scalar of held-out data that epochs are counted by.
    """

    effects: PairEffects
    options: Options
    scalar: str | None = None

    def layers(self, measure: str, side: int, bounds: Bounds = ZERO) -> Part:
        """Judge whether a measure is on the claimed side, `ABOVE` or `BELOW`: each layer, and their average."""
        return self._whole(measure, bounds, self._on(side))

    def equivalence(self, measure: str, margin: float) -> Part:
        """Judge whether a measure differs by no more than a margin: each layer, and their average."""
        return replace(self._whole(measure, ZERO, lambda one: equivalent(*one.joint, margin)), margin=margin)

    def single(self, effect: ClaimEffect | None, side: int) -> Part:
        """Judge one effect: a slope over layers, or a scalar of the network."""
        if effect is None:
            return Part(UNDECIDED, None)
        verdict = self._on(side)(effect)
        return Part(verdict, effect, ((effect, verdict),))

    def baseline_has_effect(self, measure: str) -> bool:
        """Whether this case's baseline (dropout, for GAAF) has an effect itself, either way, averaged over layers."""
        effect = self._of_baseline.average(measure)
        return effect is not None and self._on(ABOVE)(effect) != UNDECIDED

    @cached_property
    def _of_baseline(self) -> PairEffects:
        every = self.effects.measurements
        return PairEffects(every, self.effects.baseline, every.baseline)

    def _whole(self, measure: str, bounds: Bounds, judge: Callable[[ClaimEffect], str]) -> Part:
        layers = [(one, judge(one)) for one in self.effects.layers(measure, bounds)]
        average = self.effects.average(measure, bounds)
        if average is None:
            return Part(UNDECIDED, None, tuple(layers))
        verdict = judge(average)
        whole = over_layers(verdict, [said for _, said in layers])
        opposed = [str(one.layer) for one, said in layers if said not in (verdict, UNDECIDED)]
        contrary = tuple(opposed) if whole != verdict else ()
        return Part(whole, average, (*layers, (average, verdict)), contrary=contrary)

    def _on(self, side: int) -> Callable[[ClaimEffect], str]:
        def judge(one: ClaimEffect) -> str:
            # where so few seeds cannot reach alpha the interval decides alone, widened for the number of layers
            tested = one.attainable <= self.options.alpha
            ends = (one.effect.low, one.effect.high) if tested else one.joint
            # "below" is judged as "above", mirrored
            low, high = sorted(side * end for end in ends)
            threshold, against = (side * bound for bound in one.bounds)
            numbers = Numbers(low, high, threshold, against, one.p_holm, one.p_against, one.attainable)
            return one_sided(numbers, self.options.alpha)

        return judge


Judgement: TypeAlias = tuple[Sequence[Part], Sequence[str]]
"""Parts of a claim, and the numbers in words; the claim's verdict is that of its parts jointly."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper as a test that can fail.

    Attributes
    ----------
    letter : str
        Its name in tables.
    statement : str
        What is claimed, one sentence.
    rule : str
        When it is supported and when contradicted, in words; ``{alpha:g}`` and the like stand for numbers of `Options`.
    judge : callable
        `Case` -> its parts, and the reason: phrases that state the numbers.
    of_gaaf : bool
        Whether it is put to GAAF beside dropout, in place of each condition beside the baseline.
    """

    letter: str
    statement: str
    rule: str
    judge: Callable[[Case], Judgement]
    of_gaaf: bool = False

    def rule_of(self, options: Options) -> str:
        """Return the rule with the numbers in force."""
        return self.rule.format(**asdict(options))
