"""Where to evaluate density curves, so that straight lines between the points follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

AREA_OFF: Final = 0.005
"""Equal steps will do where the area between line and curve is less than this ..."""
PEAK_OFF: Final = 0.005
"""... and the peak of the line less lower than the curve's than this part of it."""


def points_between(low: float, high: float, count: int, curves: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Points at which straight lines follow several curves.

    Parameters
    ----------
    low, high : float
        First and last point.
    count : int
        At least 2.
    curves : sequence of (ndarray, ndarray)
        x, ascending, and density there, not negative, on points so dense that lines between them are the curve. A
        density is taken to be 0 beyond its x.

    Returns
    -------
    ndarray of float64, shape (count,)
        Ascending. Equal steps, where these do: a curve of heavy tails has its peak between two of them. Else a third of
        the points in equal steps, a third by how much of the values lies there, a third by how the curves bend (the
        points of equal error of a straight line are as dense as the root of the second derivative); and each peak.
    """
    steps = np.linspace(low, high, count)
    if all(_follows(steps, *curve) for curve in curves):
        return steps
    # the curves' own points are far too many to be sorted into one another, but each knows its density of points
    edges = np.unique(np.concatenate([steps, *(_thinned(low, high, 16 * count, *curve) for curve in curves)]))
    dense = np.diff(edges) / (high - low)
    for x, density in curves:
        value = np.interp(edges, x, density, left=0.0, right=0.0)
        for part in (_area(edges, value), _bends(edges, value)):
            if part.sum() > 0.0:
                dense = dense + part / part.sum() / len(curves)
    made = _where(dense, edges, count)
    peaks = [float(np.clip(x[np.argmax(density)], low, high)) for x, density in curves if density.size]
    return _holding(made, peaks)


def _follows(at: Floats, x: Floats, density: Floats) -> bool:
    """Whether lines between these points follow a curve, in area and at its peak."""
    inside = (x >= at[0]) & (x <= at[-1])
    if inside.sum() < 2:
        return True
    x, density = x[inside], density[inside]
    line = np.interp(x, at, np.interp(at, x, density, left=0.0, right=0.0))
    off = np.abs(line - density)
    apart = 0.5 * np.sum((off[1:] + off[:-1]) * np.diff(x))  # numpy 1 has no trapezoid()
    return bool(apart <= AREA_OFF and density.max() - line.max() <= PEAK_OFF * density.max())


def _thinned(low: float, high: float, most: int, x: Floats, density: Floats) -> Floats:
    """Return points of a curve between the limits: half of them by its area, half by how it bends."""
    x_inside = x[(x > low) & (x < high)]
    if x_inside.size <= most:
        return x_inside
    edges = np.concatenate([[low], x_inside, [high]])
    value = np.interp(edges, x, density, left=0.0, right=0.0)
    parts = [part / part.sum() for part in (_area(edges, value), _bends(edges, value)) if part.sum() > 0.0]
    return _where(np.sum(parts, axis=0) + 1e-9, edges, most) if parts else x_inside[:: x_inside.size // most]


def _area(x: Floats, density: Floats) -> Floats:
    """Area below each piece of a line."""
    return np.asarray(0.5 * (density[1:] + density[:-1]) * np.diff(x))


def _bends(x: Floats, density: Floats) -> Floats:
    """Root of the change of slope about each piece of a line, times the root of its length."""
    if x.size < 3:
        return np.zeros(x.size - 1)
    step = np.diff(x)
    turns = np.abs(np.diff(np.diff(density) / step))
    about = np.concatenate([[0.0], turns]) + np.concatenate([turns, [0.0]])
    return np.asarray(np.sqrt(about * step))


def _where(dense: Floats, edges: Floats, count: int) -> Floats:
    """Return as many points, spread as densely as each piece between the edges asks for."""
    reached = np.concatenate([[0.0], np.cumsum(dense)])
    return np.asarray(np.interp(np.linspace(0.0, reached[-1], count), reached, edges))


def _holding(points: Floats, values: Sequence[float]) -> Floats:
    """Move the nearest points, but for the two ends, to values that they are to hold."""
    for value in values if points.size > 2 else ():
        points[1 + int(np.argmin(np.abs(points[1:-1] - value)))] = value
    return np.sort(points)
