"""How things look in a terminal: 80 columns will do, and so will a pipe, without colour, of any encoding."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dropdiag.printable import printable

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-:=+*#"
RULED: Final = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
PLAIN: Final = str.maketrans({"∂": "d", "–": "-", "…": "~", "·": "-", "×": "x", "→": ">", "φ": "f", "σ": "s", "′": "'"})


class Page:
    """What is printed, gathered and then written at once, as the terminal or the pipe can show it.

    Parameters
    ----------
    console : Console, optional
        Default: standard output.

    Attributes
    ----------
    width : int
        Columns there are.
    unicode : bool
        Whether block characters can be shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        target = console or Console(highlight=False)
        self.unicode = target.encoding.lower().startswith("utf")
        self.width = target.width
        self._target = target
        self._parts: list[Any] = []

    def line(self, text: str | Text = "", style: str = "", indent: int = 0) -> None:
        """Add a line; markup in it is text."""
        line = self._plain(text if isinstance(text, Text) else literal(text, style))
        self._parts.append(Padding(line, (0, 0, 0, indent)) if indent else line)

    def pairs(self, rows: Mapping[str, str]) -> None:
        """Add names with what they stand for, in two columns."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows.items():
            grid.add_row(self._plain(literal(name)), self._plain(literal(value)))
        self._parts.append(grid)

    def table(self, columns: Mapping[str, str], rows: Iterable[Sequence[str | Text]], title: str = "") -> None:
        """Add a table: heading -> ``"left"``, ``"right"``, or ``"fixed"`` where no text may go on in the next line."""
        # a text, for markup in a name is part of the name
        head = self._plain(literal(title, "bold")) if title else None
        found = Table(box=box.SIMPLE_HEAD if self.unicode else RULED, title=head, title_justify="left",
                      padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)  # fmt: skip
        for name, side in columns.items():
            found.add_column(self._plain(literal(name)), justify="right" if side == "right" else "left",
                             overflow="fold", no_wrap=side == "fixed")  # fmt: skip
        for row in rows:
            found.add_row(*(self._plain(cell if isinstance(cell, Text) else literal(cell)) for cell in row))
        self._parts.append(found)

    def rows(
        self, rows: Iterable[Sequence[str]], widths: Sequence[int], *, styles: Mapping[str, str], indent: int = 0
    ) -> None:
        """Add rows of cells in columns of given widths: the first one goes on in the next line where there is no room.

        The first and the last column stand to the left, the others to the right; ``styles`` are those of cells that
        begin with, or hold in parentheses, one of its keys.
        """
        gap = 2
        room = self.width - indent - sum(widths[1:]) - gap * (len(widths) - 1)
        found = Table.grid(padding=(0, gap, 0, 0))
        for place, width in enumerate(widths):
            right = 0 < place < len(widths) - 1
            # a terminal that is too narrow even so folds the last columns, and loses nothing
            own = max(min(width, room), min(width, 12)) if place == 0 else None
            found.add_column(
                justify="right" if right else "left", overflow="fold", width=own, min_width=width if place else None
            )
        for row in rows:
            found.add_row(*(self._plain(literal(cell, _style(cell, styles))) for cell in row))
        self._parts.append(Padding(found, (0, 0, 0, indent)))

    def show(self) -> None:
        """Write all of it; characters that the encoding lacks are written as ``?``."""
        target = self._target
        buffer = io.StringIO()
        # drawn into a buffer first: what the encoding lacks can then be replaced as a whole, colours and all
        drawn = Console(
            file=buffer, width=self.width, force_terminal=target.is_terminal, color_system=target.color_system,  # type: ignore[arg-type]
            no_color=target.no_color, highlight=False, legacy_windows=False,
        )  # fmt: skip
        for part in self._parts:
            drawn.print(part)
        # rich pads each line to the terminal's width, which would wrap in a narrower one and clutters a pipe
        text = "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))
        encoding = target.encoding
        typer.echo(text.encode(encoding, "replace").decode(encoding), nl=False, file=target.file)

    def _plain(self, text: Text) -> Text:
        if self.unicode:
            return text
        # each sign is replaced by one other, or the spans of the styles would no longer fit
        plain = Text(text.plain.translate(PLAIN), style=text.style)
        plain.spans = text.spans
        return plain


def literal(text: str, style: str = "") -> Text:
    """Return a text as it is: no markup in it is read, and what a terminal would obey is escaped (`printable`)."""
    # before it is made: rich drops some control characters, and would show two names as one
    return Text(printable(text), style=style)


def _style(cell: str, styles: Mapping[str, str]) -> str:
    said = cell.strip("(")
    return next((style for name, style in styles.items() if said.startswith(name)), "")


def grouped(groups: Iterable[tuple[str, Iterable[Sequence[str]]]]) -> Iterator[list[str | Text]]:
    """Yield the rows of each group below its name; one whose first text is empty stands beside the name."""
    for head, rows in groups:
        for i, (name, *cells) in enumerate(rows):
            if name and i == 0:
                yield [literal(head, "bold"), *[""] * len(cells)]
            yield [f"  {name}" if name else literal(head, "bold"), *cells]


def spark(values: Sequence[float], *, unicode: bool, low: float | None = None, high: float | None = None) -> str:
    """Return a line of block characters, one a value: the least is the lowest block; a missing value is a gap.

    Parameters
    ----------
    values : sequence of float
    unicode : bool
        False: characters of ASCII.
    low, high : float, optional
        What the lowest and the highest block stand for; default: the least and greatest value.
    """
    levels = BLOCKS if unicode else ASCII
    known = [value for value in values if value == value]  # noqa: PLR0124 - NaN is not itself
    if not known:
        return ""
    least, most = min(known) if low is None else low, max(known) if high is None else high
    step = (most - least) / len(levels)
    return "".join(levels[_level(value - least, step, len(levels))] if value == value else " " for value in values)  # noqa: PLR0124


def _level(above: float, step: float, levels: int) -> int:
    # the greatest value belongs to the highest block, not to one above it
    return max(0, min(int(above / step), levels - 1)) if step > 0.0 else 0


def histogram(heights: Iterable[float], *, unicode: bool) -> str:
    """Return bars from 0 to the highest one; an empty one is a gap."""
    return spark([height if height > 0.0 else float("nan") for height in heights], unicode=unicode, low=0.0)
