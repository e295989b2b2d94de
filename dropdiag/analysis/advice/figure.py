"""The small figure of a page: the score of every run against the rate, as places in a drawing of fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.rates import Rates
from dropdiag.formatting import typeset
from dropdiag.titles import short

WIDTH, HEIGHT = 480.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 466.0, 12.0, 226.0
CLOSEST: Final = 26.0
"""Two rates that would stand closer than this are put at equal distances instead, or their labels would overlap."""
TICKS: Final = 4


@dataclass(frozen=True)
class Mark:
    """One condition: its place, label, runs, mean, and whether it cannot be told from the best (None: no verdict)."""

    x: float
    label: str
    name: str
    runs: tuple[float, ...]
    mean: float
    inside: bool | None


@dataclass(frozen=True)
class Figure:
    """What is drawn: marks, a line a seed, ticks (place, label), and what the axes are."""

    marks: tuple[Mark, ...]
    seeds: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    x: str
    y: str
    to_scale: bool
    said: str


def figure(case: Case, rates: Rates | None, *, verdict: bool) -> Figure | None:
    """Place every run; None where there is nothing to draw."""
    values = {name: case.ends.loc[case.ends["condition"] == name, "chosen"].dropna() for name in case.conditions}
    every = np.array([one for part in values.values() for one in part], dtype=np.float64)
    if not every.size or case.outcome is None:
        return None
    places, to_scale = _places(case)
    low, high = _range(every)
    labels = short([case.name(name).strip("'") for name in case.conditions], 10)
    marks = tuple(
        Mark(places[name], labels[case.name(name).strip("'")], case.at(name),
             tuple(_y(value, low, high) for value in part), _y(float(part.mean()), low, high),
             rates.is_inside(name) if verdict and rates is not None else None)
        for name, part in values.items() if len(part)
    )  # fmt: skip
    ticks = tuple((_y(at, low, high), label) for at, label in _ticks(low, high))
    told = "; ".join(
        f"{case.at(name)}: mean {typeset(float(part.mean()), '.4g')}" for name, part in values.items() if len(part)
    )
    return Figure(marks, _lines(case, places, low, high), ticks, case.axis, case.outcome.name, to_scale, told)


def _places(case: Case) -> tuple[dict[str, float], bool]:
    """Return where each condition stands; those without a rate behind all others."""
    names, room = list(case.conditions), RIGHT - LEFT - 40.0
    if all(name in case.doses for name in names) and len(names) > 1:
        doses = np.array([case.doses[name] for name in names])
        at = LEFT + 20.0 + room * (doses - doses.min()) / (doses.max() - doses.min())
        if np.diff(at).min() >= CLOSEST:
            return dict(zip(names, at.tolist(), strict=True)), True
    even = (
        LEFT + 20.0 + room * np.linspace(0.0, 1.0, len(names)) if len(names) > 1 else np.array([(LEFT + RIGHT) / 2.0])
    )
    return dict(zip(names, even.tolist(), strict=True)), False


def _range(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.01
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return round numbers within a range, 1, 2 or 5 times a power of ten apart, with their labels."""
    raw = (high - low) / TICKS
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * min((one for one in (1.0, 2.0, 5.0, 10.0) if one * power >= raw), default=10.0)
    digits = max(0, -int(np.floor(np.log10(step))))
    places = np.arange(np.ceil(low / step), np.floor(high / step) + 1.0) * step
    return [(float(at), typeset(float(at) + 0.0, f".{digits}f")) for at in places]


def _y(value: float, low: float, high: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)


def _lines(case: Case, places: dict[str, float], low: float, high: float) -> tuple[str, ...]:
    """Return the points of a line for each seed that has several runs."""
    # a line says that one goes on into the next: what has no rate is none of them
    joined = [name for name in case.conditions if name in case.doses] or list(case.conditions)
    rows = case.ends[case.ends["condition"].isin(joined)].dropna(subset=["chosen", "seed"])
    made = []
    for _, part in rows.groupby("seed", sort=True):
        of = dict(zip(part["condition"], part["chosen"], strict=True))
        points = [(places[name], _y(float(of[name]), low, high)) for name in joined if name in of]
        if len(points) > 1:
            made.append(_points(points))
    return tuple(made)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
