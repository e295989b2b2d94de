"""An effect with its interval over seeds and its exact p. Plain arrays in, one record out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from dropdiag.analysis.compare.resampling import Design, Floats, Statistic, Weights
from dropdiag.errors import ArgumentError

BCA_FROM: Final = 100
"""Runs on each side (or pairs) from which on the interval is BCa; below it undercovers, and t is taken."""

_NAN: Final = float("nan")
_EQUAL: Final = 1e-10  # two statistics this close (relative) are the same number, rounded differently


@dataclass(frozen=True)
class Effect:
    """What two conditions differ by.

    Attributes
    ----------
    effect, low, high : float
        The statistic and its interval over seeds; NaN where there is none.
    interval : {"t", "bca", "none"}
    p, p_attainable : float
        Two-sided p of the relabelled seeds, and the smallest that so many can give; NaN without a test.
    test : {"sign flip", "permutation", "none"}
    n, n_baseline : int
        Runs with a value.
    paired : bool
    """

    effect: float
    low: float
    high: float
    interval: str
    p: float
    p_attainable: float
    test: str
    n: int
    n_baseline: int
    paired: bool

    @property
    def without_spread(self) -> bool:
        """Whether the interval has no width: the seeds do not differ, so they say nothing about chance."""
        return bool(self.high - self.low <= _EQUAL * max(abs(self.high), abs(self.low)))


def mean_difference(
    condition: ArrayLike,
    baseline: ArrayLike,
    *,
    paired: bool,
    confidence: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Effect:
    """Difference of the means of two conditions, one value a run. For a log ratio, give logarithms.

    Parameters
    ----------
    condition, baseline : array_like of float, shapes (n,) and (m,)
        One finite value a run.
    paired : bool
        Whether value i of both comes from the same seed.
    confidence : float
        Of the interval, in (0, 1).
    n_boot : int
        Bootstrap draws, where the interval is BCa.
    seed : int
        Of what is drawn.

    Returns
    -------
    Effect
        With fewer than two runs on a side the effect alone.

    Raises
    ------
    ArgumentError
        If the values are not finite vectors, or paired ones are not of one length.

    Notes
    -----
    Interval: Student's t of the paired differences, or Welch's, below `BCA_FROM` runs a side; from there on
    BCa (Efron 1987). p: all sign flips of the paired differences, or all permutations of the labels, of
    |difference|; drawn where there are more than 5,000, and then (b + 1) / (m + 1) (Phipson and Smyth 2010).
    """
    mine, theirs = (_vector(values) for values in (condition, baseline))
    if paired and mine.size != theirs.size:
        raise ArgumentError(f"paired values must be of one length, got {mine.size} and {theirs.size}")
    values = np.concatenate([mine, theirs])

    def statistic(weights: Weights) -> Floats:
        return np.asarray(_mean(weights.condition, values) - _mean(weights.baseline, values))

    design = Design(mine.size, theirs.size, paired)
    return assess(statistic, design, confidence=confidence, n_boot=n_boot, seed=seed)


def assess(
    statistic: Statistic,
    design: Design,
    *,
    floor: float | None = None,
    confidence: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Effect:
    """Take a statistic of two conditions, its interval, and the p of its relabelled seeds.

    Parameters
    ----------
    statistic : callable
        `Weights` of k cases -> ndarray of k numbers.
    design : Design
    floor : float, optional
        Least value of the statistic (0 for a distance): the interval does not reach below it.
    confidence, n_boot, seed
        As in `mean_difference`.

    Returns
    -------
    Effect

    Notes
    -----
    The t interval is that of the jackknife's pseudo-values (Tukey 1958), one a seed: for a mean it is
    Student's own, for a distance it is the same with the distance in first order.
    """
    effect = float(statistic(design.observed())[0])
    sizes = design.n, design.n_baseline, design.paired
    if not design.replicated or not np.isfinite(effect):
        return Effect(effect, _NAN, _NAN, "none", _NAN, _NAN, "none", *sizes)
    low, high, kind = _interval(statistic, design, effect, confidence, n_boot=n_boot, seed=seed)
    low = low if floor is None else max(low, floor)
    p = _relabelled_p(statistic, design, effect, seed)
    test = "sign flip" if design.paired else "permutation"
    return Effect(effect, low, high, kind, p, design.attainable, test, *sizes)


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down adjustment of several p.

    Parameters
    ----------
    p : array_like of float, shape (k,)
        NaN is no test, stays NaN and does not count.

    Returns
    -------
    ndarray of float64, shape (k,)
    """
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(order.size, 0, -1)
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def t_interval(statistic: Statistic, design: Design, effect: float, confidence: float) -> tuple[float, float]:
    """Student's t interval of the jackknife's pseudo-values, about the effect; Welch's degrees of freedom."""
    left_out = statistic(design.without_one())
    parts = [left_out] if design.paired else np.split(left_out, [design.n])
    squares = np.array([np.var(part) * (part.size - 1) for part in parts])  # of the pseudo-values' mean
    free = np.array([part.size - 1 for part in parts])
    total = float(squares.sum())
    if total == 0.0:
        return effect, effect
    degrees = total**2 / float((squares**2 / free).sum())
    half = float(stdtrit(degrees, 0.5 + confidence / 2.0)) * total**0.5
    return effect - half, effect + half


def bca_interval(
    statistic: Statistic, design: Design, effect: float, confidence: float, *, n_boot: int, seed: int
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987)."""
    drawn = statistic(design.drawn_again(n_boot, seed))
    share = (np.count_nonzero(drawn < effect) + 0.5 * np.count_nonzero(drawn == effect)) / drawn.size
    below = min(max(float(share), 0.5 / drawn.size), 1.0 - 0.5 / drawn.size)  # all draws may be on one side
    bias, skew = float(ndtri(below)), _acceleration(statistic(design.without_one()), design)
    z = bias + ndtri(np.array([0.5 - confidence / 2.0, 0.5 + confidence / 2.0]))
    low, high = np.quantile(drawn, ndtr(bias + z / (1.0 - skew * z)))
    return float(low), float(high)


def _interval(
    statistic: Statistic, design: Design, effect: float, confidence: float, *, n_boot: int, seed: int
) -> tuple[float, float, str]:
    if min(design.n, design.n_baseline) >= BCA_FROM:
        return *bca_interval(statistic, design, effect, confidence, n_boot=n_boot, seed=seed), "bca"
    return *t_interval(statistic, design, effect, confidence), "t"


def _acceleration(left_out: Floats, design: Design) -> float:
    """Skewness of the statistic, from its jackknife; several samples as in Efron and Tibshirani (1993, 14.15)."""
    parts = [left_out] if design.paired else np.split(left_out, [design.n])
    influence = [(part.size - 1) * (part.mean() - part) for part in parts]
    above = sum(float((u**3).sum()) / u.size**3 for u in influence)
    below = 6.0 * sum(float((u**2).sum()) / u.size**2 for u in influence) ** 1.5
    return above / below if below > 0.0 else 0.0


def _relabelled_p(statistic: Statistic, design: Design, effect: float, seed: int) -> float:
    """Share of the labellings that are as far from no effect as the one there was."""
    null = np.abs(statistic(design.relabelled(seed)))
    far = int(np.count_nonzero(null >= abs(effect) * (1.0 - _EQUAL)))
    return far / null.size if design.exact else (far + 1.0) / (null.size + 1.0)


def _mean(weights: Floats, values: Floats) -> Floats:
    return np.asarray(weights @ values / weights.sum(axis=1))


def _vector(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ArgumentError(f"one finite value a run is needed, as a vector, got {values!r}")
    return x
