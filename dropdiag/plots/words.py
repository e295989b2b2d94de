"""What is written in figures: names drawn literally and cut to fit, numbers in one format each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

Layers: TypeAlias = list[str] | Mapping[str, str] | None
Conditions: TypeAlias = list[str] | None
Titles: TypeAlias = Mapping[str, str] | None
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def site_title(layer: str, call: int = 0, names: Titles = None, width: int = 30) -> str:
    """Title of a panel: the layer's name or what the reader calls it, the call where it is not the first.

    A long module path is broken at a dot, and cut at its front where two lines do not hold it. A layer's own
    name is drawn literally; what the reader calls it may hold mathtext.
    """
    name = (names or {}).get(layer, layer) + (f" (call {call + 1})" if call else "")
    title = _broken(name, width)
    return title if layer in (names or {}) else plain(title)


def _broken(name: str, width: int) -> str:
    """Return the name in two lines where one does not hold it."""
    if len(name) <= width:
        return name
    dot = name.find(".", len(name) - width - 1)
    cut = dot + 1 if dot > 0 else len(name) - width
    first, second = name[:cut], name[cut:]
    return (first if len(first) <= width else "…" + first[1 - width :]) + "\n" + second


def clipped(name: str, width: int) -> str:
    """Name, its middle left out where it is longer than ``width``."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def plain(name: str, width: int | None = None) -> str:
    """Name as text that matplotlib draws literally, dollar signs too; its middle left out beyond ``width``."""
    return (name if width is None else clipped(name, width)).replace("$", r"\$")


def layer_names(layers: Layers) -> tuple[list[str] | None, Mapping[str, str]]:
    """Split ``layers`` (a list of names, or name -> title) into the names and their titles."""
    # what is no list of names is refused where the names are looked up (`dropdiag.analysis.select.check`)
    return (list(layers), layers) if isinstance(layers, Mapping) else (layers, {})


def percent(share: float) -> str:
    """Write a share as a percentage with one digit: ``"12.3 %"``."""
    return f"{100.0 * share:.1f} %"


def power(value: float) -> str:
    """Write three digits and a power of ten: ``"9.70 × 10⁻⁵"``."""
    # plain text: mathtext takes ten times as long to draw, and a figure of 400 layers has a thousand of these
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def interval(value: float, low: float, high: float) -> str:
    """Write a number with its interval, where it has one: ``"4.03 [3.10, 5.23]"``."""
    return f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")
