"""What a claim is, and the case that it is put to: two conditions, and what they differ by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Final

from dropdiag.analysis.claims.effects import ClaimEffect, PairEffects
from dropdiag.analysis.claims.questions import Directional, Equivalence, Question
from dropdiag.analysis.compare.measurements import Measurements
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
    far_probability: float = 0.05
    ensemble_margin: float = 0.005
    slope_share: float = 0.5
    early: float = 0.1
    rise_size: float = 0.1
    noise: float = 0.2

    def __post_init__(self) -> None:
        for names, right, says in _CHECKS:
            for name in names:
                given = getattr(self, name)
                if not right(given):
                    raise ArgumentError(f"{name} {says}, got {given!r}")


# in the way "is it right", so that NaN, which compares as false, is refused too
_CHECKS: Final[Sequence[tuple[Sequence[str], Callable[[float], bool], str]]] = (
    (("alpha", "far_probability"), lambda x: 0.0 < x < 1.0, "must lie between 0 and 1"),
    (("correlation_margin", "share_margin"), lambda x: x >= 0.0, "must not be negative"),
    (("published_factor", "flow_margin"), lambda x: x > 1.0, "is a factor and must be above 1"),
    (("slope_share", "early"), lambda x: 0.0 < x <= 1.0, "is a share and must lie above 0, up to 1"),
    (("ensemble_margin", "rise_size", "noise"), lambda x: x > 0.0, "must be above 0"),
)


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
    pairs : mapping of (str, str) to PairEffects
        A condition and its baseline -> effects that were gathered already.
    """

    effects: PairEffects
    options: Options
    scalar: str | None = None
    pairs: Mapping[tuple[str, str], PairEffects] = field(default_factory=dict)

    def over_layers(
        self, name: str, phrase: str, measure: str, side: int, *, what: str = "", alone: str = ""
    ) -> Directional:  # fmt: skip
        """Ask on which side of 0 a measure lies, `ABOVE` or `BELOW`: on average over layers, and in each.

        Where there is no effect, ``what`` is said to be missing, or ``alone``.
        """
        effect, layers = self.effects.average(measure), self.effects.layers(measure)
        missing = "" if effect else alone or f"{what} {self.effects.missing(measure)}"
        return Directional(name, phrase, effect, missing, layers, side=side)

    def single(
        self, name: str, phrase: str, found: ClaimEffect | str, side: int, *, bound: float = 0.0
    ) -> Directional:  # fmt: skip
        """Ask on which side of a bound one number lies; a text says why there is none."""
        effect, why_not = (None, found) if isinstance(found, str) else (found, "")
        return Directional(name, phrase, effect, why_not, side=side, bound=bound)

    def equivalence(self, name: str, phrase: str, measure: str, margin: float) -> Equivalence:
        """Ask whether a measure differs by no more than a margin in any layer, from a baseline with an effect."""
        effect, layers = self.effects.average(measure), self.effects.layers(measure)
        itself = self.effects.baseline == self.effects.measurements.baseline
        gate = None if itself else self._of_baseline.average(measure)
        missing = "" if effect else f"{measure.replace('_', ' ')} {self.effects.missing(measure)}"
        return Equivalence(name, phrase, effect, missing, layers, margin=margin, gate=gate)

    def beside_the_baseline_of_all(self, condition: str) -> PairEffects:
        """Return the effects of a condition beside the baseline of the whole comparison."""
        every = self.effects.measurements
        pair = condition, every.baseline
        return self.pairs.get(pair) or PairEffects(every, *pair)

    @cached_property
    def _of_baseline(self) -> PairEffects:
        return self.beside_the_baseline_of_all(self.effects.baseline)


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
    ask : callable
        `Case` -> its parts.
    of_gaaf : bool
        Whether it is put to GAAF beside dropout, in place of each condition beside the baseline.
    alone : callable, optional
        Parts of a claim on GAAF that can be put to a condition beside the baseline, where nobody plays GAAF or dropout.
    record : str
        What a user has to record for it, of a claim that a usual run cannot answer: nobody asks it where nothing of it
        was recorded, unless it is asked for by its letter.
    of_axis : callable, optional
        Of a claim on all conditions at once, which is put once: measurements -> what stands for the condition and for
        the baseline; None where there is no axis on which conditions lie.
    """

    letter: str
    statement: str
    rule: str
    ask: Callable[[Case], Sequence[Question]]
    of_gaaf: bool = False
    alone: Callable[[Case], Sequence[Question]] | None = None
    record: str = ""
    of_axis: Callable[[Measurements], tuple[str, str] | None] | None = None

    def rule_of(self, options: Options) -> str:
        """Return the rule with the numbers in force."""
        return self.rule.format(**asdict(options))
