"""Tables as the page shows them: each cell has its text, and its full value for the CSV file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

NOTHING: Final = "–"


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, what a CSV file holds, and whether it is aligned as a number."""

    shown: str
    value: str
    numeric: bool = False


@dataclass
class Table:
    """A table: its caption, column headings, rows of cells, and a note below it."""

    caption: str
    heads: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column is aligned as numbers: all of its cells are."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.heads)
        return [bool(column) and all(cell.numeric for cell in column) for column in columns]


def text(given: Any) -> Cell:
    """Cell of a text."""
    shown = "" if given is None else str(given)
    return Cell(shown or NOTHING, shown)


def integer(given: Any) -> Cell:
    """Cell of a whole number, with thin spaces between the thousands."""
    if _missing(given):
        return Cell(NOTHING, "", numeric=True)
    return Cell(
        f"{round(float(given)):,}".replace(",", "\u202f").replace("-", "−"), str(round(float(given))), numeric=True
    )


def number(given: Any, digits: str = ".3g", sd: Any = None, sd_digits: str = ".2g") -> Cell:
    """Cell of a number, ``mean (sd)`` where an sd is given."""
    if _missing(given):
        return Cell(NOTHING, "", numeric=True)
    shown = formatted(float(given), digits)
    return Cell(
        shown if _missing(sd) else f"{shown} ({formatted(float(sd), sd_digits)})", repr(float(given)), numeric=True
    )


def interval(mean: Any, low: Any, high: Any, digits: str = ".2f") -> Cell:
    """Cell of a number with its interval, ``mean [low, high]``."""
    if _missing(mean):
        return Cell(NOTHING, "", numeric=True)
    shown = formatted(float(mean), digits)
    if not (_missing(low) or _missing(high)):
        shown += f" [{formatted(float(low), digits)}, {formatted(float(high), digits)}]"
    return Cell(shown, repr(float(mean)), numeric=True)


def formatted(value: float, digits: str) -> str:
    """Format a number with a true minus sign, its exponent without padding."""
    made = format(value, digits)
    if "e" in made:
        mantissa, exponent = made.split("e")
        made = f"{mantissa}e{int(exponent)}"
    return made.replace("-", "−")


def shown_effect(value: float, *, ratio: bool, sign: bool = True) -> str:
    """Print an effect: a factor for a log ratio, else a difference, with its sign."""
    if ratio:
        return "× " + formatted(math.exp(value), ".3g")
    return formatted(value, "+.3g" if sign and value else ".3g")


def minus(sentence: str) -> str:
    """Write a true minus sign before the numbers of a sentence, as the tables have it."""
    return re.sub(r"(?<![\w.\-])-(?=\d)|(?<=\de)-0*(?=\d)", "−", sentence)


def _missing(given: Any) -> bool:
    try:
        return given is None or not math.isfinite(float(given))
    except (TypeError, ValueError):
        return True
