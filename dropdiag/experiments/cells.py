"""Numbers as the page prints them: in the columns of tables, and line by line at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from dropdiag.formatting import NOTHING
from dropdiag.formatting import typeset as number

Row: TypeAlias = dict[Any, Any]
Lines: TypeAlias = tuple[str, ...]


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
        # `get`: a frame without the spread (one seed, the paper's numbers) has the number alone.
        shown = number(row.get(name), digits)
        spread = number(row.get(f"{name}_sd"), sd_digits or digits)
        return shown if NOTHING in (shown, spread) else f"{shown} ({spread})"

    return Column(heading, text, published)


def ratio(name: str, heading: str) -> Column:
    """Column of ratios to a baseline with their 95 % intervals, ``mean [low, high]``."""
    return Column(
        heading, lambda row: "1" if row["condition"] == row["baseline"] else _interval(row, name, _two_digits)
    )


def difference(name: str, heading: str) -> Column:
    """Column of differences in percentage points with their 95 % intervals, as `ratio`."""
    return Column(heading, lambda row: _interval(row, name, signed))


def _interval(row: Row, name: str, shown: Callable[[Any], str]) -> str:
    """``mean [low, high]``, or the mean alone where it has no interval."""
    mean, low, high = (shown(row.get(f"{name}{end}")) for end in ("", "_low", "_high"))
    return mean if NOTHING in (mean, low, high) else f"{mean} [{low}, {high}]"


def _two_digits(given: Any) -> str:
    return number(given, ".2f")


def signed(given: Any) -> str:
    """Format percentage points with their sign; what is missing becomes a dash."""
    # A rounded zero has no sign, which would claim a direction.
    text = number(given, "+.2f")
    return "0.00" if text in ("+0.00", "−0.00") else text


def printed(frame: pd.DataFrame, columns: Sequence[Column]) -> list[list[str]]:
    """Texts of all cells, row by row."""
    return [[column.text(row) for column in columns] for row in frame.to_dict("records")]


def across(frame: pd.DataFrame, column: str, digits: str) -> Lines:
    """One line a condition: its numbers from the first layer to the last; conditions without are left out."""
    return tuple(
        _line(str(condition), rows[column], digits)
        for condition, rows in frame.groupby("condition", sort=False)
        if rows[column].notna().any()
    )


def published_across(values: Mapping[str, Mapping[int, float]], digits: str) -> Lines:
    """One line a condition, as `across`, of the paper's numbers by layer."""
    return tuple(_line(condition, by_layer.values(), digits) for condition, by_layer in values.items())


def _line(condition: str, numbers: Iterable[float], digits: str) -> str:
    return f"{condition} " + "\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}".join(number(x, digits) for x in numbers)


def glance(*shown: tuple[str, str, str]) -> Callable[[pd.DataFrame], Lines]:
    """Return a function from a frame to what it says at a glance.

    Parameters
    ----------
    *shown : tuple of str
        Column, heading and digits of what is shown across layers.
    """
    return lambda frame: tuple(
        line for column, heading, digits in shown for line in (f"{heading}:", *across(frame, column, digits))
    )


def glance_at_ratios(frame: pd.DataFrame) -> Lines:
    """Show the column "ratio" of each condition but the baseline."""
    others = frame[frame["condition"] != frame["baseline"]]
    return (f"ratio to {frame['baseline'].iloc[0]}:", *across(others, "ratio", ".2f"))


def glance_at_accuracies(frame: pd.DataFrame) -> Lines:
    """Show the final accuracy of each condition, with what GAAF adds where the frame has a "gain"."""
    rows = frame.to_dict("records")
    lines = (f"{row['condition']} {number(row['final_accuracy'], '.2f')} %{by_gaaf(row.get('gain'))}" for row in rows)
    return ("final accuracy:", *lines)


def by_gaaf(gain: float | None) -> str:
    """Return " (+1.66 by GAAF)", or nothing where there is no number."""
    text = signed(gain)
    return "" if text == NOTHING else f" ({text} by GAAF)"


def count(n: int, thing: str) -> str:
    """Return "1 epoch", "1,000 epochs"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"
