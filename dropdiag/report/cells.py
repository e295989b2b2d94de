"""Tables as the page shows them: each cell has its text, and its full value for the CSV file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from dropdiag.formatting import NOTHING, bounds, factor, magnitude, site, typeset, whole
from dropdiag.formatting import moment as with_zone


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, what a CSV file holds, and whether it is aligned as a number."""

    shown: str
    value: str
    numeric: bool = False


WORD: Final = 12
"""Characters of a word that always has room in a column of a printed table."""
ABSENT = Cell(NOTHING, "", numeric=True)


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

    @staticmethod
    def long(shown: str) -> bool:
        """Whether a text has a word so long that paper has no room for it: it may then be broken anywhere."""
        return len(shown) > WORD and max(map(len, shown.split()), default=0) > WORD


Column: TypeAlias = tuple[str, Callable[[Mapping[Any, Any]], Cell]]
"""Heading, and the cell of a record."""


def table(caption: str, records: Iterable[Mapping[Any, Any]], columns: Sequence[Column], note: str = "") -> Table:
    """Make a table of records, one a row."""
    rows = [[make(record) for _, make in columns] for record in records]
    return Table(caption, [head for head, _ in columns], rows, note)


def texts(head: str, name: str) -> Column:
    """Column of texts, from a field of the records."""
    return head, lambda record: text(record.get(name))


def times(head: str, name: str) -> Column:
    """Column of times, from ISO 8601 texts; each with its zone, for a page is read in another one."""
    return head, lambda record: moment(record.get(name))


def integers(head: str, name: str) -> Column:
    """Column of whole numbers."""
    return head, lambda record: integer(record.get(name))


def numbers(head: str, name: str, digits: str = ".3f") -> Column:
    """Column of numbers, ``mean (sd)`` where the records have a field ``<name>_sd``."""
    return head, lambda record: number(record.get(name), digits, record.get(f"{name}_sd"))


def with_interval(head: str, name: str) -> Column:
    """Column of numbers with their intervals, from the fields ``<name>``, ``<name>_low`` and ``<name>_high``."""

    def made(record: Mapping[Any, Any]) -> Cell:
        cell, ends = (
            number(record.get(name)),
            interval(record.get(f"{name}_low"), record.get(f"{name}_high"), ratio=False),
        )
        return cell if ends is ABSENT else replace(cell, shown=f"{cell.shown} {ends.shown}")

    return head, made


LAYER: Final[Column] = "Layer", lambda record: text(site(record["layer"], record["call"]))
SITE: Final[tuple[Column, ...]] = (texts("Condition", "condition"), LAYER)


def text(given: Any) -> Cell:
    """Cell of a text."""
    shown = "" if given is None else str(given)
    return Cell(shown or NOTHING, shown)


def moment(given: Any) -> Cell:
    """Cell of a time with its zone; its full value is the text as it was recorded."""
    told = "" if given is None else str(given)
    return Cell(with_zone(told), told) if told else text(told)


def integer(given: Any) -> Cell:
    """Cell of a whole number."""
    if not _finite(given):
        return ABSENT
    exact = given if isinstance(given, int) else round(float(given))  # a seed may have more digits than a float
    return Cell(whole(exact), str(exact), numeric=True)


def number(given: Any, digits: str = ".3g", sd: Any = None) -> Cell:
    """Cell of a number, ``mean (sd)`` where an sd is given."""
    if not _finite(given):
        return ABSENT
    spread = f" ({typeset(sd, '.0f' if abs(sd) >= 100.0 else '.2g')})" if _finite(sd) else ""
    return Cell(typeset(given, digits) + spread, repr(float(given)), numeric=True)


def effect(row: Mapping[Any, Any], *, ratio: bool) -> Cell:
    """Cell of a row's effect with its interval, ``×1.82 [1.5, 2.2]``; the full value of a log ratio is its factor."""
    given, low, high = (row.get(name) for name in ("effect", "low", "high"))
    if given is None or not _finite(given):
        return ABSENT
    shown = magnitude(float(given), ratio=ratio, form=typeset, sign=True)
    if _finite(low) and _finite(high):
        shown += f" {interval(low, high, ratio=ratio).shown}"
    return Cell(shown, repr(factor(given) if ratio else float(given)), numeric=True)


def interval(low: Any, high: Any, *, ratio: bool) -> Cell:
    """Cell of an interval, ``[low, high]``; of a log ratio in factors."""
    if not (_finite(low) and _finite(high)):
        return ABSENT
    made = "[{}, {}]".format(*bounds(float(low), float(high), ratio=ratio, form=typeset))
    return Cell(made, made, numeric=True)


def _finite(given: Any) -> bool:
    try:
        # frames hold None, NaN and NA where there is no number, and NA cannot be turned into one
        return given is not None and math.isfinite(float(given))
    except (TypeError, ValueError):
        return False
