"""Runs that were recorded at different steps, brought to common ones, so that a mean over them is of the same step.

A mean over whichever runs happen to have a value at a step jumps from run to run where their steps differ: two runs
that rise alike, one evaluated at steps 10, 30 ... and one at 20, 40 ..., would give a curve of teeth.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BRIDGED: Final = 2.5
"""One missing value among regular ones makes a gap of twice the usual length; two in a row are a gap."""


def mean_steps(steps: NDArray[Any], bins: NDArray[np.int64]) -> Floats:
    """Return the step that stands for each bin: the mean of the different steps that any run has there.

    Parameters
    ----------
    steps : ndarray, shape (n,)
        All steps, each once.
    bins : ndarray of int64, shape (n,)
        The bin of each, from 0, none of them empty.

    Returns
    -------
    ndarray of float64, shape (bins.max() + 1,)
    """
    return np.asarray(np.bincount(bins, steps) / np.bincount(bins), np.float64)


def at_common_steps(
    values: Floats, recorded: NDArray[np.bool_], common: Floats, own: Floats | None = None
) -> Floats:  # fmt: skip
    """Interpolate runs linearly to common steps.

    Parameters
    ----------
    values : ndarray of float64, shape (..., bins)
        Mean of each run in each bin of steps; NaN where it has none. Logarithms, where runs are averaged on the log
        scale: the interpolation is then geometric.
    recorded : ndarray of bool, same shape
        Whether the run was recorded in that bin, with a finite value or without.
    common : ndarray of float64, shape (bins,)
        The step that stands for each bin (`mean_steps`), ascending.
    own : ndarray of float64, same shape as ``values``, optional
        Mean step of each run's records in each bin, anything where it has none; by default the common one.

    Returns
    -------
    ndarray of float64, same shape as ``values``
        Between two neighbouring values of a run, what lies on the line between them. NaN before its first and after its
        last value, for it is never extrapolated, and in a gap in which it was recorded without a finite value, if the
        gap is longer than `BRIDGED` of its usual ones: a stretch without any value is not made up.

    Notes
    -----
    Where the step that stands for a bin lies beyond a run's own step there, and there is no line at that side, the
    run's value stands as it is: half a bin from its place at most, never a value of another bin.
    """
    at = np.broadcast_to(common, values.shape) if own is None else np.where(recorded, own, common)
    valued = ~np.isnan(values)
    if valued.all() and np.array_equal(at, np.broadcast_to(common, at.shape)):
        return values
    place, end = np.arange(common.size), common.size
    before = np.maximum.accumulate(np.where(valued, place, -1), axis=-1)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(valued, place, end), -1), axis=-1), -1)
    # a run that has a value in the bin has one of its two neighbours there, the other in another bin
    left = np.where(valued & (at > common), _shifted(before, 1, -1), before)
    right = np.where(valued & (at < common), _shifted(after, -1, end), after)
    inside = (left >= 0) & (right < end)
    left, right = left.clip(min=0), right.clip(max=end - 1)
    first, last, low, high = (
        np.take_along_axis(array, side, axis=-1) for array in (at, values) for side in (left, right)
    )
    lost = _lost(recorded & ~valued, left, right)
    inside &= ~lost | (last - first <= BRIDGED * _usual(at, valued, np.asarray(lost.any(axis=-1)))[..., np.newaxis])
    width = np.where(last > first, last - first, 1.0)
    with np.errstate(invalid="ignore"):  # infinite values have no line between them
        found = np.where(last > first, low + (common - first) / width * (high - low), low)
    return np.asarray(np.where(inside, found, np.where(valued, values, np.nan)))


def _lost(empty: NDArray[np.bool_], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a run was recorded without a value between two of its bins."""
    times = np.cumsum(empty, axis=-1)
    before, after = (np.take_along_axis(times, side, axis=-1) for side in (left, right))
    return np.asarray(after > before)


def _usual(at: Floats, valued: NDArray[np.bool_], asked: NDArray[np.bool_]) -> Floats:
    """Return the median distance of a run's neighbouring values, of those asked for that have two; else 0."""
    found = np.zeros(asked.shape)
    for run in zip(*np.nonzero(asked & (valued.sum(axis=-1) > 1)), strict=True):
        found[run] = np.median(np.diff(at[run][valued[run]]))
    return found


def _shifted(index: NDArray[np.int64], by: int, fill: int) -> NDArray[np.int64]:
    """Index of the neighbouring bin, ``fill`` where there is none."""
    moved = np.roll(index, by, axis=-1)
    moved[..., 0 if by > 0 else -1] = fill
    return moved
