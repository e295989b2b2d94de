"""Numbers as the page prints them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from dropdiag.formatting import NOTHING
from dropdiag.formatting import typeset as number

__all__ = ["NOTHING", "Column", "Row", "label", "number", "printed", "ratio", "value"]

Row: TypeAlias = dict[Any, Any]


@dataclass(frozen=True)
class Column:
    """A printed column: its heading, and how a row of the frame becomes its text.

    Attributes
    ----------
    heading : str
    text : callable
        Row (dict) -> str.
    published : bool
        Whether it holds the paper's numbers, which are set apart from the measured ones.
    numeric : bool
        Whether it is aligned as a number.
    """

    heading: str
    text: Callable[[Row], str]
    published: bool = False
    numeric: bool = True


def label(name: str, heading: str) -> Column:
    """Column of texts."""
    return Column(heading, lambda row: str(row[name]), numeric=False)


def value(name: str, heading: str, digits: str = ".3f", *, sd_digits: str = "", published: bool = False) -> Column:
    """Column of numbers, with ``mean (sd)`` where the frame has ``<name>_sd``."""

    def text(row: Row) -> str:
        shown = number(row.get(name), digits)
        spread = number(row.get(f"{name}_sd"), sd_digits or digits)
        return shown if NOTHING in (shown, spread) else f"{shown} ({spread})"

    return Column(heading, text, published)


def ratio(name: str, heading: str, digits: str = ".2f") -> Column:
    """Column of ratios to a baseline with their 95 % intervals, ``mean [low, high]``."""

    def text(row: Row) -> str:
        if row["condition"] == row["baseline"]:
            return "1"
        shown, low, high = (number(row.get(f"{name}{end}"), digits) for end in ("", "_low", "_high"))
        return shown if NOTHING in (shown, low, high) else f"{shown} [{low}, {high}]"

    return Column(heading, text)


def printed(frame: pd.DataFrame, columns: Sequence[Column]) -> list[list[str]]:
    """Texts of all cells, row by row."""
    return [[column.text(row) for column in columns] for row in frame.to_dict("records")]
