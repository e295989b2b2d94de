"""Axes of logarithms of factors: effects that add up, with ticks that say by what they multiply."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

FACTORS: Final = (1.01, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 50.0,
                  *(10.0**power for power in range(2, 13)))  # fmt: skip
"""Factors that ticks may stand at."""
APART: Final = 0.17
"""Least distance of two ticks, as a part of the axis."""


def factor_axis(ax: Axes, which: str) -> None:
    """Label an axis of natural logarithms with factors: ``×2`` at log 2, ``÷2`` at its negative."""
    axis, limits = (ax.xaxis, ax.get_xlim()) if which == "x" else (ax.yaxis, ax.get_ylim())
    low, high = min(limits), max(limits)
    found = [1.0]
    for factor in FACTORS:
        if np.log(factor / found[-1]) >= APART * (high - low):
            found.append(factor)
    signed = [(sign * float(np.log(one)), _named(one, sign)) for one in found for sign in (1, -1)[: 1 + (one > 1.0)]]
    inside = sorted((at, name) for at, name in signed if low <= at <= high)
    axis.set_ticks([at for at, _ in inside], [name for _, name in inside])
    axis.set_minor_locator(NullLocator())


def _named(factor: float, sign: int) -> str:
    return "1" if factor == 1.0 else f"{'×' if sign > 0 else '÷'}{factor:.3g}"
