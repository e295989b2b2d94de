"""What is written in figures: names drawn literally and cut to fit, numbers in one format each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from dropdiag.store.order import Site
from dropdiag.titles import lines, short

Layers: TypeAlias = list[str] | Mapping[str, str] | None
Conditions: TypeAlias = list[str] | None
Titles: TypeAlias = Mapping[str, str] | None
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
    return plain(lines(own + told, width)) if given is None else given + told


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
