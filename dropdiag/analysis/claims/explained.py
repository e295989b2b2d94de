"""A question that has a subject: what is to be explained must be there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dropdiag.analysis.claims.effects import ABOVE, ClaimEffect
from dropdiag.analysis.claims.questions import Answer, Directional, Leaning, OfLayer, p_of
from dropdiag.analysis.claims.rules import CONTRADICTED, SUPPORTED, UNDECIDED
from dropdiag.analysis.compare.effects import holm


@dataclass(frozen=True)
class Explained(Directional):
    """A number that is claimed to lie above a bound where another one, its subject, lies above 0.

    Either way it is decided only together with the subject: by the greater p of the two (an intersection-union test).

    Attributes
    ----------
    subject : ClaimEffect or None
        What is to be explained.
    subjects : tuple of ClaimEffect
        The same in each layer that has it.
    lacking : str
        Said where the subject is not there.
    """

    subject: ClaimEffect | None = None
    subjects: tuple[ClaimEffect, ...] = ()
    lacking: str = ""

    @property
    def rests_on(self) -> tuple[ClaimEffect, ...]:
        """The number and its subject."""
        return () if self.effect is None or self.subject is None else (self.effect, self.subject)

    def lean(self, *, relabelled: bool) -> Leaning:
        """Return the side on which the number lies; p is 1 where there is nothing to explain."""
        if self.effect is None or self.subject is None:
            return Leaning(UNDECIDED, float("nan"))
        supported = self.effect.side(self.bound) == self.side
        return Leaning(SUPPORTED if supported else CONTRADICTED, self._p(self.effect, self.subject, relabelled))

    def answer(self, share: float, level: float, p_family: float, alpha: float) -> Answer:
        """Decide, and say where there is nothing to explain."""
        found = super().answer(share, level, p_family, alpha)
        subject = self.subject
        if self.effect is None or found.verdict != UNDECIDED:
            return found
        if subject is not None and subject.side(0.0) == ABOVE and subject.testable:
            p = p_of(subject, 0.0, relabelled=self.relabelled(share))
            return found if p <= level else replace(found, why=self.lacking)
        return replace(found, why=self.lacking)

    def of_layers(self, level: float) -> list[OfLayer]:
        """Return each layer's side, by Holm over layers; of one without a subject nothing."""
        pairs = list(self._pairs())
        tested = [one for one, subject in pairs if one.testable and subject is not None]
        relabelled = all(one.can_reach(level / max(len(tested), 1)) for one in tested)
        p = [self._p(one, subject, relabelled) if one.testable else float("nan") for one, subject in pairs]
        return [OfLayer(UNDECIDED if not x <= level else SUPPORTED if one.side(self.bound) == self.side
                        else CONTRADICTED, alone, float(x))
                for (one, _), alone, x in zip(pairs, p, holm(p), strict=True)]  # fmt: skip

    def shown_decides(self, verdict: str, alpha: float) -> bool:
        """Whether the intervals of the number and of its subject bear a verdict out."""
        if self.effect is None or self.subject is None:
            return False
        alone = Directional(self.name, self.phrase, self.effect, side=self.side, bound=self.bound)
        subject = Directional(self.name, self.phrase, self.subject, side=ABOVE)
        return alone.shown_decides(verdict, alpha) and subject.shown_decides(SUPPORTED, alpha)

    def _pairs(self) -> Iterator[tuple[ClaimEffect, ClaimEffect | None]]:
        beside = {(one.layer, one.call): one for one in self.subjects}
        return ((one, beside.get((one.layer, one.call))) for one in self.layers)

    def _p(self, one: ClaimEffect, subject: ClaimEffect | None, relabelled: bool) -> float:
        if subject is None or subject.side(0.0) != ABOVE:
            return 1.0
        return float(np.max([p_of(one, self.bound, relabelled=relabelled),
                             p_of(subject, 0.0, relabelled=relabelled)]))  # fmt: skip
