"""What a part of a claim asks of runs, which p answers it, and what is said of the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from dropdiag.analysis.claims.effects import ClaimEffect
from dropdiag.analysis.claims.rules import CONTRADICTED, NOT_JUDGED, SUPPORTED, UNDECIDED, UNRECORDED, over_layers
from dropdiag.analysis.compare.effects import holm

_NAN: Final = float("nan")


class Leaning(NamedTuple):
    """What the numbers speak for, and the p of deciding so."""

    verdict: str
    p: float


class OfLayer(NamedTuple):
    """The verdict on one layer, with its p alone (NaN where two bounds are tested) and adjusted over layers."""

    verdict: str
    p: float
    p_holm: float


@dataclass(frozen=True)
class Answer:
    """The verdict on a question, and on each layer.

    Attributes
    ----------
    verdict : str
    provisional : bool
        Whether so few seeds leave the decision to Student's t.
    p, p_family : float
        Of the decision that the numbers lean to, alone and adjusted over the family.
    layers : tuple of OfLayer
    contrary : tuple of ClaimEffect
        Layers that keep the verdict on the average from being that of the whole.
    why : str
        What else keeps it from being decided.
    """

    verdict: str
    provisional: bool = False
    p: float = _NAN
    p_family: float = _NAN
    layers: tuple[OfLayer, ...] = ()
    contrary: tuple[ClaimEffect, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Question(ABC):
    """One part of a claim: a number, and where it has to lie.

    Attributes
    ----------
    name : str
        Of the part, in a few words.
    phrase : str
        What the number is, so that the number can follow.
    effect : ClaimEffect or None
        The average over layers, the slope, or the number of the network.
    why_not : str
        Why there is no effect.
    layers : tuple of ClaimEffect
    also : tuple of ClaimEffect
        Numbers that must lie on the same side for a decision: the same in another condition, or measured otherwise.
    unit, remark : str
        Said behind the number, and behind its interval.
    extra : bool
        Whether it goes beyond the claim's own words: it then counts where it was recorded, and is not missed elsewhere.
    reading : bool
        Whether it is another reading of the question before it, by the same interval: it is tested at that one's level
        and does not count towards the claim.
    shown : bool
        Whether its number only stands beside the others: it has no verdict, and takes no share of alpha.
    beside : str
        Other numbers of the same runs that a reader needs to understand this one, in a sentence.
    """

    name: str
    phrase: str
    effect: ClaimEffect | None
    why_not: str = ""
    layers: tuple[ClaimEffect, ...] = ()
    also: tuple[ClaimEffect, ...] = ()
    unit: str = ""
    remark: str = ""
    extra: bool = False
    reading: bool = False
    shown: bool = False
    beside: str = ""

    @property
    @abstractmethod
    def threshold(self) -> float:
        """What the effect is held against, on its scale."""

    @abstractmethod
    def lean(self, *, relabelled: bool) -> Leaning:
        """Return what the numbers speak for, with its p: of the relabelled seeds, else Student's."""

    @abstractmethod
    def of_layers(self, level: float) -> list[OfLayer]:
        """Return each layer's verdict at a level."""

    @property
    def rests_on(self) -> tuple[ClaimEffect, ...]:
        """All effects that the decision takes."""
        return () if self.effect is None else (self.effect, *self.also)

    def relabelled(self, level: float) -> bool:
        """Whether p is that of the relabelled seeds: where so many can give one as small as the level."""
        return all(one.can_reach(level / self.alternatives) for one in self.rests_on)

    @property
    def alternatives(self) -> int:
        """Numbers of which one is enough for a decision, so that the p of each is multiplied by how many there are."""
        return 1

    def counts_as(self, answer: Answer) -> str | None:
        """Return what an answer contributes to the claim's verdict; None where it has no part in it."""
        if self.reading or self.shown or (self.extra and answer.verdict == UNRECORDED):
            return None
        # what the claim says and nobody recorded keeps it from being supported as a whole
        return UNDECIDED if answer.verdict == UNRECORDED else answer.verdict

    @property
    def testable(self) -> bool:
        """Whether there is a test: two runs or more on both sides of all that it rests on."""
        return not self.shown and bool(self.rests_on) and all(one.testable for one in self.rests_on)

    def answer(self, share: float, level: float, p_family: float, alpha: float) -> Answer:
        """Decide.

        Parameters
        ----------
        share : float
            Level that tells which p is taken: the same for all that might have come out.
        level : float
            At which the question is tested in the end.
        p_family : float
            Adjusted over the family; NaN where there is no test.
        alpha : float
        """
        layers = self.of_layers(level)
        if self.effect is None:
            # what cannot be taken over layers is no part of the family, and so nothing is decided of them either
            return Answer(UNRECORDED, layers=tuple(one._replace(verdict=UNDECIDED) for one in layers))
        if self.shown:
            return Answer(NOT_JUDGED, layers=tuple(one._replace(verdict=NOT_JUDGED) for one in layers))
        if np.isnan(p_family):
            return Answer(UNDECIDED, layers=tuple(layers))
        relabelled = self.relabelled(share)
        leaning = self.lean(relabelled=relabelled)
        # what is shown is the interval: a verdict that it does not bear out would not be believed
        decided = p_family <= alpha and self.shown_decides(leaning.verdict, alpha)
        average = leaning.verdict if decided else UNDECIDED
        verdict = self.whole(average, [one.verdict for one in layers])
        contrary = tuple(one for one, found in zip(self.layers, layers, strict=True)
                         if verdict != average and found.verdict not in (average, UNDECIDED))  # fmt: skip
        return Answer(verdict, not relabelled, leaning.p, p_family, tuple(layers), contrary)

    def whole(self, average: str, layers: Sequence[str]) -> str:
        """Verdict of the part, of that on the average and those on the layers."""
        return over_layers(average, layers)

    @abstractmethod
    def shown_decides(self, verdict: str, alpha: float) -> bool:
        """Whether the intervals at 1 - alpha bear a verdict out; seeds that do not differ have none."""


@dataclass(frozen=True)
class Directional(Question):
    """A number that is claimed to lie above (below) a bound.

    Attributes
    ----------
    side : {1, -1}
        `ABOVE` or `BELOW`.
    bound : float
    each : bool
        Whether ``also`` are numbers of their own that must all be on the claimed side, of which one on the other is
        enough to contradict; else they only confirm the number.
    """

    side: int = 1
    bound: float = 0.0
    each: bool = False

    @property
    def threshold(self) -> float:
        """The bound."""
        return self.bound

    @property
    def alternatives(self) -> int:
        """Any of several numbers of their own can contradict."""
        return len(self.rests_on) if self.each else 1

    def lean(self, *, relabelled: bool) -> Leaning:
        """Return the side on which the number lies, with its two-sided p."""
        sides = [one.side(self.bound) * self.side for one in self.rests_on]
        p = [p_of(one, self.bound, relabelled=relabelled) for one in self.rests_on]
        if self.each:
            if min(sides) > 0:
                return Leaning(SUPPORTED, float(np.max(p)))
            against = [one for one, side in zip(p, sides, strict=True) if side <= 0]
            return Leaning(CONTRADICTED, min(1.0, len(sides) * float(np.min(against))))
        agreed = len(set(sides)) == 1
        return Leaning(SUPPORTED if sides[0] > 0 else CONTRADICTED, float(np.max(p)) if agreed else 1.0)

    def of_layers(self, level: float) -> list[OfLayer]:
        """Return each layer's side, by Holm over layers."""
        tested = [one for one in self.layers if one.testable]
        relabelled = all(one.can_reach(level / max(len(tested), 1)) for one in tested)
        p = [p_of(one, self.bound, relabelled=relabelled) for one in self.layers]
        sides = {1: SUPPORTED, -1: CONTRADICTED, 0: UNDECIDED}
        return [OfLayer(sides[one.side(self.bound) * self.side] if x <= level else UNDECIDED, alone, float(x))
                for one, alone, x in zip(self.layers, p, holm(p), strict=True)]  # fmt: skip

    def shown_decides(self, verdict: str, alpha: float) -> bool:
        """Whether the intervals of all numbers that speak for a verdict exclude the bound."""
        on = self.side if verdict == SUPPORTED else -self.side
        speak = [one for one in self.rests_on if not self.each or one.side(self.bound) == on]
        return all(one.effect.without_spread or _beyond(one, self.bound, alpha) == on for one in speak)


@dataclass(frozen=True)
class Equivalence(Question):
    """A number that is claimed to lie within a margin of 0, in every layer.

    Attributes
    ----------
    margin : float
    gate : ClaimEffect or None
        An effect that must itself be decided: what there is to resemble.
    """

    margin: float = 0.0
    gate: ClaimEffect | None = None

    @property
    def threshold(self) -> float:
        """The margin, to either side."""
        return self.margin

    @property
    def rests_on(self) -> tuple[ClaimEffect, ...]:
        """All layers, and the effect that there is to resemble."""
        if self.effect is None or self.gate is None:
            return ()
        return (self.effect, *self.layers, self.gate)

    @property
    def alternatives(self) -> int:
        """Any of the layers can contradict."""
        return max(len(self.layers), 1)

    def lean(self, *, relabelled: bool) -> Leaning:
        """Say whether all layers are within, or one is outside, with the p of that."""
        if self.gate is None or self.effect is None:
            return Leaning(UNDECIDED, _NAN)
        parts = self.layers or (self.effect,)
        within = max(self._within(one, relabelled=relabelled) for one in parts)
        # one layer outside is enough, so each is tested at its share (Bonferroni); the average is no layer
        outside = min(self._outside(one, relabelled=relabelled) for one in parts) * len(parts)
        verdict, p = (CONTRADICTED, outside) if outside < within else (SUPPORTED, within)
        return Leaning(verdict, min(1.0, max(p, p_of(self.gate, 0.0, relabelled=relabelled))))

    def answer(self, share: float, level: float, p_family: float, alpha: float) -> Answer:
        """Decide, and say where there is nothing to resemble."""
        found = super().answer(share, level, p_family, alpha)
        gate = self.gate
        if found.verdict != UNDECIDED or (
            gate is not None and gate.testable and p_of(gate, 0.0, relabelled=self.relabelled(share)) <= level
        ):
            return found
        known = "is not known" if gate is None else "is undecided"
        return replace(found, why=f"dropout's own effect {known}, so there is nothing to resemble")

    def of_layers(self, level: float) -> list[OfLayer]:
        """Say of each layer whether it is within or outside."""
        tested = [one for one in self.layers if one.testable]
        relabelled = all(one.can_reach(level / max(len(tested), 1)) for one in tested)
        found = []
        for one in self.layers:
            if not one.testable:
                found.append(OfLayer(UNDECIDED, _NAN, _NAN))
                continue
            within, outside = (ask(one, relabelled=relabelled) for ask in (self._within, self._outside))
            outside *= len(tested)
            verdict, p = (CONTRADICTED, outside) if outside < within else (SUPPORTED, within)
            found.append(OfLayer(verdict if p <= level else UNDECIDED, _NAN, min(1.0, p)))
        return found

    def whole(self, average: str, _layers: Sequence[str]) -> str:
        """Return the verdict as it is: all layers are in it."""
        return average

    def shown_decides(self, verdict: str, alpha: float) -> bool:
        """Whether the intervals of all layers lie within the margin, or that of one outside."""
        ends = [one.interval(1.0 - alpha) for one in self.layers or self.rests_on[:1]]
        if verdict == SUPPORTED:
            return all(-self.margin <= low and high <= self.margin for low, high in ends)
        return any(low > self.margin or high < -self.margin for low, high in ends)

    def _within(self, one: ClaimEffect, *, relabelled: bool) -> float:
        """Return the p of both bounds, of which either side can fail (two one-sided tests, each at half alpha)."""
        if abs(one.effect.effect) >= self.margin:
            return 1.0
        return max(p_of(one, bound, relabelled=relabelled) for bound in (-self.margin, self.margin))

    def _outside(self, one: ClaimEffect, *, relabelled: bool) -> float:
        side = np.sign(one.effect.effect)
        if abs(one.effect.effect) <= self.margin:
            return 1.0
        return p_of(one, float(side) * self.margin, relabelled=relabelled)


def p_of(one: ClaimEffect, threshold: float, *, relabelled: bool) -> float:
    """Return the p that the truth is a threshold: 1 for seeds that do not differ, by t; NaN for one seed."""
    p = one.p(threshold, relabelled=relabelled)
    return 1.0 if np.isnan(p) and one.testable else p


def _beyond(one: ClaimEffect, bound: float, alpha: float) -> int:
    """Return on which side of a bound the whole interval lies; 0 where it holds the bound."""
    low, high = one.interval(1.0 - alpha)
    return int(low > bound) - int(high < bound)
