"""How each condition looks in the page: a colour with a line, and a colour with a mark, that no other condition has."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from dropdiag.plots.style import COLOURS, LINES, looks

MARKS: Final = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle", "v": "triangle-down", "P": "plus", "X": "times",
    "*": "star", "p": "pentagon", "<": "triangle-left", ">": "triangle-right", "h": "hexagon",
}  # fmt: skip
"""Markers of matplotlib -> the page's marks, all of them filled."""
STROKES: Final = {
    "-": "", "solid": "", "--": "7.4 3.2", "dashed": "7.4 3.2", ":": "2 3.3", "dotted": "2 3.3",
    "-.": "12.8 3.2 2 3.2", "dashdot": "12.8 3.2 2 3.2",
}  # fmt: skip
MORE: Final = ("16 3", "10 3 2 3 2 3", "2 6", "16 3 6 3", "6 6")
"""Dashes for when those of the figures are used up."""
DARK: Final = {
    "#0072B2": "#56A9E8", "#D55E00": "#F08A3C", "#009E73": "#2DBE91", "#CC79A7": "#E39AC4", "#56B4E9": "#8CCFF5",
    "#E69F00": "#F2BD4B", "#000000": "#E8E8E8",
}  # fmt: skip
"""The figures' colours, lighter, for a dark page."""
LIGHT_ENOUGH: Final = 0.62

Choice = TypeVar("Choice")


def appearances(conditions: Iterable[str]) -> list[dict[str, Any]]:
    """Return the colour (its place in the palette), dash and mark of each condition.

    They are those of the figures, as long as no earlier condition has the same pair: then the next free line or mark
    takes its place, so that a line chart and a chart of marks can both be read.

    Parameters
    ----------
    conditions : iterable of str
        All of the runs, in their order.
    """
    shades, dashes, marks = palette(), list(dict.fromkeys([*map(dash, LINES), *MORE])), list(MARKS.values())
    taken: set[tuple[str, str]] = set()
    found = []
    for look in looks(list(conditions)).values():
        line = _free(look.colour, dash(look.line), dashes, taken)
        mark = _free(look.colour, MARKS.get(look.marker, marks[0]), marks, taken)
        found.append({"colour": shades.index(look.colour), "dash": line, "symbol": mark})
    return found


def palette() -> list[str]:
    """Return the colours of a light page."""
    return list(dict.fromkeys(COLOURS))


def dark_palette() -> list[str]:
    """Return the same for a dark page."""
    return [DARK.get(colour.upper(), _lighter(colour)) for colour in palette()]


def dash(line: Any) -> str:
    """Return a line of matplotlib's as an SVG dash array for a 2 px line; empty for a solid one."""
    return STROKES[line] if isinstance(line, str) else " ".join(format(2.0 * length, "g") for length in line[1] or ())


def _free(colour: str, wanted: str, every: Sequence[str], taken: set[tuple[str, str]]) -> str:
    """Return what is wanted, or the next one after it that does not yet go with the colour, and take it."""
    start = every.index(wanted) if wanted in every else 0
    order = [wanted, *every[start:], *every[:start]]
    # beyond colours x lines nothing is free any more: the names in the legend and the tip still tell
    chosen = next((one for one in order if (colour, one) not in taken), wanted)
    taken.add((colour, chosen))
    return chosen


def _lighter(colour: str) -> str:
    """Return a colour of the same hue that stands out on a dark page."""
    hue, light, strength = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)))
    parts = colorsys.hls_to_rgb(hue, max(light, LIGHT_ENOUGH), strength)
    return "#" + "".join(f"{round(255.0 * part):02X}" for part in parts)
