"""Texts of a CSV file that no spreadsheet takes for a formula."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

STARTS: Final = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""What a formula begins with to one spreadsheet or another (OWASP, CSV injection), in both widths."""
MARK: Final = "'"
"""Stands before such a text, and before one that begins with it already, so that taking one away gives each back."""


def without_formulas(table: pa.Table) -> pa.Table:
    """Return a table whose texts a spreadsheet shows as they are; numbers stay numbers.

    A text that begins as a formula does, or with an apostrophe, gets an apostrophe before it (`as_text`).

    Parameters
    ----------
    table : Table
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(place, field, _column(table[place]))
    return table


def as_text(name: str) -> str:
    """Return one text so."""
    return MARK + name if name[:1] and name[0] in STARTS + MARK else name


def _column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    known = pc.unique(column)  # a run has few names and many rows
    safe = pa.array([None if name is None else as_text(name) for name in known.to_pylist()], column.type)
    return column if safe.equals(known) else safe.take(pc.index_in(column, value_set=known))
