"""The coverage table: every site of a model, what was seen of it, and why not more."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dropdiag.printable import printable


@dataclass(frozen=True)
class CoverageRow:
    """One site.

    Attributes
    ----------
    layer : str
    call : int
        Index of the call within one forward pass.
    kind : {"weight", "activation", "output", "dropout"}
    type : str
        The module's class.
    functional : bool
        Whether it is a call of a function inside that module.
    expected : bool
        Whether it is to be recorded.
    fired : int
        How often it was: recorded passes, or readings of a weight.
    sampled : str or None
        Which share of the values entered histograms, where not all did.
    skipped : str or None
        Why it is not recorded, or why nothing came.
    nodes : str or None
        Which dimension counts nodes, and why: ``dim 1, after conv1``. None where it was not seen, or does not matter.
    dropout : str or None
        Of a dropout: its rate and grain, and why its masks are not seen where they are not.
    chain : str or None
        What lies between what leaves the site and the next tensor whose gradient is read, or why that is not known.
        None where no flow is decomposed.
    ranks : str or None
        Of a run of several ranks: on which it was recorded, and why not on the others; None where it was on all.
    """

    layer: str
    call: int
    kind: str
    type: str
    functional: bool
    expected: bool
    fired: int
    sampled: str | None
    skipped: str | None
    nodes: str | None = None
    dropout: str | None = None
    chain: str | None = None
    ranks: str | None = None


COLUMNS = tuple(field.name for field in fields(CoverageRow))


class Coverage(Sequence[CoverageRow]):
    """All sites of a model, in network order; prints as a table."""

    def __init__(self, rows: Sequence[CoverageRow]) -> None:
        self.rows = tuple(rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row."""
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def silent(self) -> list[CoverageRow]:
        """Sites that were expected and never fired."""
        return [row for row in self.rows if row.expected and not row.fired]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as plain dicts; nothing is said of ranks or the chain where there is nothing to say."""
        seldom = {name for name in ("chain", "ranks") if not any(getattr(row, name) for row in self.rows)}
        names = [name for name in COLUMNS if name not in seldom]
        return [{name: getattr(row, name) for name in names} for row in self.rows]

    @classmethod
    def from_dicts(cls, rows: Sequence[Mapping[str, Any]]) -> Coverage:
        """Return the table that `as_dicts` gave."""
        # by name: a newer version may say more of a site, and an older one said less
        return cls([CoverageRow(**{name: row[name] for name in COLUMNS if name in row}) for row in rows])

    @property
    def _columns(self) -> tuple[str, ...]:
        """Columns that have something to show: older runs say nothing of nodes and dropouts, most nothing of ranks."""
        seldom = ("nodes", "dropout", "chain", "ranks")
        empty = {name for name in seldom if not any(getattr(row, name) for row in self.rows)}
        return tuple(column for column in COLUMNS if column not in empty)

    def __str__(self) -> str:
        columns = self._columns
        cells = [columns, *(tuple(_word(getattr(row, c)) for c in columns) for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        lines = ["  ".join(word.ljust(w) for word, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        columns = self._columns
        head = "".join(f"<th>{c}</th>" for c in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_word(getattr(row, c)))}</td>" for c in columns) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(value)
