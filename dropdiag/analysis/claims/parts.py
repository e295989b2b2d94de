"""What a claim is judged by: the numbers that the rules leave open, and the parts of a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from dropdiag.analysis.claims.effects import ClaimEffect
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
    remark : str
        Which layers keep the verdict on the average from being that of the whole.
    """

    verdict: str
    effect: ClaimEffect | None
    judged: tuple[tuple[ClaimEffect, str], ...] = ()
    margin: float | None = None
    remark: str = ""
