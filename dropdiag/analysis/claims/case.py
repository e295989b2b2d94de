"""One claim's case: two conditions, and the ways to judge what they differ by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.effects import ABOVE, ZERO, Bounds, ClaimEffect, PairEffects
from dropdiag.analysis.claims.parts import Options, Part
from dropdiag.analysis.claims.rules import UNDECIDED, Numbers, equivalent, one_sided, over_layers
from dropdiag.analysis.compare.measurements import Measurements


@dataclass(frozen=True)
class Case:
    """Two conditions that a claim is put to.

    Attributes
    ----------
    measurements : Measurements
    condition, baseline : str
        Any two of its conditions.
    options : Options
    scalar : str or None
        Scalar of held-out data that epochs are counted by.
    """

    measurements: Measurements
    condition: str
    baseline: str
    options: Options
    scalar: str | None = None

    @cached_property
    def effects(self) -> PairEffects:
        """Effects between the two conditions."""
        return PairEffects(self.measurements, self.condition, self.baseline)

    @cached_property
    def baselines_own(self) -> Case:
        """The case of this one's baseline beside the baseline of all: what dropout does by itself."""
        return Case(self.measurements, self.baseline, self.measurements.baseline, self.options)

    def missing(self, measure: str) -> str:
        """Say why a measure gives no effect."""
        return self.effects.missing(measure)

    def layers(self, measure: str, side: int, bounds: Bounds = ZERO) -> Part:
        """Judge whether a measure is on the claimed side, `ABOVE` or `BELOW`: each layer, and their average."""
        effects = self.effects
        return _whole(effects.layers(measure, bounds), effects.average(measure, bounds), self._on(side))

    def equivalence(self, measure: str, margin: float) -> Part:
        """Judge whether a measure differs by no more than a margin: each layer, and their average."""

        def judge(one: ClaimEffect) -> str:
            return equivalent(*one.joint, margin)

        return _whole(self.effects.layers(measure), self.effects.average(measure), judge, margin)

    def slope(self, measure: str, side: int) -> Part:
        """Judge how a measure's effect goes with the layers' order."""
        return self._alone(self.effects.slope(measure), side)

    def network(self, measure: str, side: int) -> Part:
        """Judge a scalar of the network."""
        return self._alone(self.effects.network(measure), side)

    def is_decided(self, measure: str) -> bool:
        """Whether the average over layers has an effect at all, either way."""
        effect = self.effects.average(measure)
        return effect is not None and self._on(ABOVE)(effect) != UNDECIDED

    def _alone(self, effect: ClaimEffect | None, side: int) -> Part:
        if effect is None:
            return Part(UNDECIDED, None)
        verdict = self._on(side)(effect)
        return Part(verdict, effect, ((effect, verdict),))

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


def _whole(
    layers: Sequence[ClaimEffect],
    average: ClaimEffect | None,
    judge: Callable[[ClaimEffect], str],
    margin: float | None = None,
) -> Part:
    judged = [(one, judge(one)) for one in layers]
    verdict = UNDECIDED if average is None else judge(average)
    whole, remark = over_layers(verdict, [said for _, said in judged]), ""
    if whole != verdict:
        contrary = [str(one.layer) for one, said in judged if said not in (verdict, UNDECIDED)]
        remark = reasons.contrary(layers[0].measure, verdict, contrary)
    judged += [] if average is None else [(average, verdict)]
    return Part(whole, average, tuple(judged), margin, remark)
