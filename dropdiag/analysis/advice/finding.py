"""What rules say: findings with their numbers, what was not measured, and what to try next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from dropdiag.formatting import NOTHING, missing, plain

_NAN: Final = float("nan")


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    Attributes
    ----------
    rule : str
        Name of the rule, as in docs/advice.md.
    what : str
        A sentence.
    value, low, high : float
        The number that it rests on, with its interval over seeds; NaN where there is none.
    unit : str
    p : float
        Of a test, adjusted over all tests of the page (`dropdiag.analysis.advice.family`): it is held against alpha.
        NaN where nothing was tested and the number describes.
    found : bool
        Whether the test found what it looked for.
    source : str
        Where the rule comes from.
    condition : str
        The condition that it is of; empty where it is of several.
    """

    rule: str
    what: str
    value: float = _NAN
    low: float = _NAN
    high: float = _NAN
    unit: str = ""
    p: float = _NAN
    found: bool = False
    source: str = ""
    condition: str = ""

    @property
    def tested(self) -> bool:
        """Whether it is one of the page's tests, which are wrong with probability alpha at most, all together."""
        return not missing(self.p)

    @property
    def number(self) -> str:
        """The number with its interval, as text; a dash where there is none."""
        if missing(self.value):
            return NOTHING
        ends = "" if missing(self.low) else f" [{plain(self.low)}, {plain(self.high)}]"
        return f"{plain(self.value)}{ends}{f' {self.unit}' if self.unit else ''}"

    def record(self) -> dict[str, Any]:
        """Return all of it, and the number as text, for JSON."""
        return asdict(self) | {"number": self.number, "tested": self.tested}


@dataclass(frozen=True)
class NotMeasured:
    """What the runs do not hold: what it would tell, and the call that records it."""

    what: str
    tells: str
    call: str

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Next:
    """Something to try: why, the number that it rests on, and the source."""

    what: str
    why: str
    number: str = NOTHING
    source: str = ""

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Return names as a sentence has them: ``0``, ``0 and 0.1``, ``0, 0.1 and 0.3``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def shown(number: float) -> str:
    """Return a number with as many digits as a reader needs; a dash where it is missing."""
    return plain(number) if np.isfinite(number) else NOTHING
