"""What is written in figures: names drawn literally and cut to fit, numbers in one format each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.textpath import text_to_path

from dropdiag.printable import printable
from dropdiag.store.order import Site
from dropdiag.titles import cut, lines, short

Layers: TypeAlias = list[str] | Mapping[str, str] | None
Conditions: TypeAlias = list[str] | None
Titles: TypeAlias = Mapping[str, str] | None
LONGEST_LABEL = 200
"""Characters of a label in which mathtext is looked for."""
WIDEST_LABEL = 2000.0
"""Points that such a label may take."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def site_titles(sites: Iterable[Site], names: Titles = None, width: int = 30) -> dict[Site, str]:
    """Titles of a figure's panels: the layer's name or what the reader calls it, the call where it is not the first.

    Of long names goes what all of them share (`dropdiag.titles.short`); what is still longer than ``width`` is broken
    into lines. A layer's own name is drawn literally; what the reader calls it may hold mathtext.
    """
    known, given = list(sites), names or {}
    own = short((layer for layer, _ in known if layer not in given), width)
    return {(layer, call): _titled(given.get(layer), own.get(layer, layer), call, width) for layer, call in known}


def _titled(given: str | None, own: str, call: int, width: int) -> str:
    told = f" (call {call + 1})" if call else ""
    return in_lines(own + told, width) if given is None else given + told


def plain(name: str) -> str:
    """Name as text that matplotlib draws literally, dollar signs too; an SVG could not hold its control characters."""
    return _undollared(printable(name))


def in_lines(text: str, width: int = 30) -> str:
    """Text as `plain` has it, broken into lines where it is longer than ``width``."""
    return _undollared(lines(printable(text), width))


def _undollared(text: str) -> str:
    return text.replace("$", r"\$")


def names_cut(names: Iterable[str], width: int) -> dict[str, str]:
    """Names as text that matplotlib draws literally, wide ones cut so that no two are alike (`dropdiag.titles.cut`)."""
    seen = {name: printable(name) for name in names}
    titles = cut(seen.values(), width)
    return {name: _undollared(" ".join(titles[shown].split())) for name, shown in seen.items()}


@lru_cache
def axis_label(label: str) -> str:
    """Label of a quantity, which a run may bring: mathtext where it is some and no larger than a label, else literal.

    What is no mathtext would end the figure with an error of matplotlib, and a gap may be as wide as it says.
    """
    text = printable(label)
    if "$" not in text:
        return text
    try:
        drawn = MathTextParser("path").parse(text[:LONGEST_LABEL], 72)
    except (ValueError, RecursionError):
        return _undollared(text)
    fits = len(text) <= LONGEST_LABEL and max(drawn.width, drawn.height, drawn.depth) < WIDEST_LABEL
    return text if fits else _undollared(text)


def width(text: str, size: float) -> float:
    """Width of a line of text in inches, in the fonts of the moment, without the renderer that a new figure lacks."""
    return _measured(text, size, tuple(mpl.rcParams["font.family"]))


@lru_cache(4096)
def _measured(text: str, size: float, families: tuple[str, ...]) -> float:
    seen: Any = re.sub(r"\\(leq|phi|sup|partial)", "x", text).replace("\\$", "S").replace("$", "").replace("\\,", "")
    font = FontProperties(family=list(families), size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that no font has is told when it is drawn, once
        points: float = text_to_path.get_text_width_height_descent(seen, font, False)[0]
    return points / 72.0


def wrapped(text: str, room: float, size: float) -> list[str]:
    """Break a text into lines of a width in inches: between words, and inside one that is wider by itself."""
    found = [""]
    for word in text.split(" "):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if found[-1] and width(longer, size) > room:
            found.append(word)
        else:
            found[-1] = longer
        while width(found[-1], size) > room and len(found[-1]) > 1:
            end = next((i for i in range(len(found[-1]) - 1, 1, -1) if width(found[-1][:i], size) <= room), 1)
            end -= found[-1][end - 1] == "\\"  # no line ends in the middle of an escaped dollar sign
            found[-1:] = [found[-1][: max(end, 1)], found[-1][max(end, 1) :]]
    return found


def layer_names(layers: Layers) -> tuple[list[str] | None, Mapping[str, str]]:
    """Split ``layers`` (a list of names, or name -> title) into the names and their titles."""
    # what is no list of names is refused where the names are looked up (`dropdiag.analysis.select.check`)
    return (list(layers), layers) if isinstance(layers, Mapping) else (layers, {})


def percent(share: float) -> str:
    """Write a share as a percentage with one digit: ``"12.3 %"``; what is not quite 0 or 1 is not written as such."""
    if 0.0 < share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1.0 else f"{100.0 * share:.1f} %"


def power(value: float) -> str:
    """Write three digits and a power of ten: ``"9.70 × 10⁻⁵"``."""
    # plain text: mathtext takes ten times as long to draw, and a figure of 400 layers has a thousand of these
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def interval(value: float, low: float, high: float) -> str:
    """Write a number with its interval, where it has one: ``"4.03 [3.10, 5.23]"``."""
    return f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")
