"""What a claim is: a statement, the rule that decides it, the numbers it rests on, and the reason it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from dropdiag.analysis.claims.case import Case
from dropdiag.analysis.claims.parts import Options, Part


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
        `Case` -> its parts; the claim's verdict is theirs jointly.
    reason : callable
        `Case` and parts -> the numbers in words.
    of_gaaf : bool
        Whether it is put to GAAF beside dropout, in place of each condition beside the baseline.
    """

    letter: str
    statement: str
    rule: str
    judge: Callable[[Case], Sequence[Part]]
    reason: Callable[[Case, Sequence[Part]], Sequence[str]]
    of_gaaf: bool = False

    def rule_of(self, options: Options) -> str:
        """Return the rule with the numbers in force."""
        return self.rule.format(**asdict(options))
