"""An effect with its interval over seeds and its exact p. Plain arrays in, one record out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dropdiag.analysis.compare.resampling import Design, Floats, Statistic, Sums
from dropdiag.analysis.seeds import Estimate, difference
from dropdiag.errors import ArgumentError

_NAN: Final = float("nan")
_EQUAL: Final = 1e-10  # two statistics this close (relative) are the same number, rounded differently


@dataclass(frozen=True)
class Effect:
    """What two conditions differ by.

    Attributes
    ----------
    effect, low, high : float
        The statistic and its interval over seeds; NaN where there is none.
    interval : {"t", "none"}
    p, p_attainable : float
        Two-sided p of the relabelled seeds, and the smallest that so many can give; NaN without a test.
    p_t : float
        Student's p (unpaired: Welch's); NaN without a test, or where the seeds do not differ.
    test : {"sign flip", "permutation", "none"}
    n, n_baseline : int
        Runs with a value.
    paired : bool
    error, degrees : float
        Standard error and degrees of freedom, from which intervals of other levels follow (`estimate`).
    """

    effect: float
    low: float
    high: float
    interval: str
    p: float
    p_attainable: float
    p_t: float
    test: str
    n: int
    n_baseline: int
    paired: bool
    error: float = _NAN
    degrees: float = _NAN

    @classmethod
    def untested(cls, effect: float, design: Design) -> Effect:
        """Return an effect without interval and p, as one seed has it; NaN where there is no effect either."""
        return cls(effect, _NAN, _NAN, "none", _NAN, _NAN, _NAN, "none", design.n, design.n_baseline, design.paired)

    @property
    def estimate(self) -> Estimate:
        """The effect with its standard error."""
        return Estimate(self.effect, self.error, self.degrees)

    @property
    def without_spread(self) -> bool:
        """Whether the interval has no width: the seeds do not differ, so they say nothing about chance."""
        return bool(self.high - self.low <= _EQUAL * max(abs(self.high), abs(self.low)))


def mean_difference(
    condition: ArrayLike, baseline: ArrayLike, *, paired: bool, confidence: float = 0.95, seed: int = 0
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
    seed : int
        Of the labellings, where they are drawn.

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
    Interval: Student's t of the paired differences, or Welch's (`dropdiag.analysis.seeds.difference`). p: all sign
    flips of the paired differences, of their |mean|; or all permutations of the labels, of |Welch's t|, which keeps
    its level better than |difference| where sizes and variances differ (Janssen 1997; Chung and Romano 2013), and is
    the same test where the sizes are equal. Drawn where there are more than 5,000, and then
    (b + 1) / (m + 1) (Phipson and Smyth 2010).

    A permutation is exact where the two sides are alike but for their means. Under unequal numbers and variances it is
    not: docs/claims.md has the measured rates.
    """
    mine, theirs = (_vector(values) for values in (condition, baseline))
    if paired and mine.size != theirs.size:
        raise ArgumentError(f"paired values must be of one length, got {mine.size} and {theirs.size}")
    design = Design(mine.size, theirs.size, paired)
    found = difference(mine, theirs, paired=paired)
    if not design.replicated:
        return Effect.untested(found.effect, design)
    x = np.concatenate([mine, theirs])
    x = x - x.mean()
    if paired:
        return _tested(
            partial(_mean_difference, design=design), x[:, None], design, found, confidence=confidence, seed=seed
        )
    # each value as what it differs from its side's mean by, and the side it comes from: the squares of values that lie
    # far from zero, but close together, would cancel
    own = np.concatenate([mine - mine.mean(), theirs - theirs.mean()])
    came = np.concatenate([np.ones(mine.size), np.zeros(theirs.size)])
    welch = partial(_welch, design=design, apart=found.effect, scale=float(x @ x))
    rows = np.column_stack([own, came, own * came, own * own])
    return _tested(welch, rows, design, found, confidence=confidence, seed=seed)


def _mean_difference(sums: Sums, design: Design, column: int = 0) -> Floats:
    return np.asarray(sums.condition[:, column] / design.n - sums.baseline[:, column] / design.n_baseline)


def _welch(sums: Sums, design: Design, apart: float, scale: float) -> Floats:
    """Welch's t of each case; infinite where nothing varies.

    Values are own + apart * came: sums are of own, came, own * came and own^2.
    """
    means = _mean_difference(sums, design) + apart * _mean_difference(sums, design, 1)
    squares = np.zeros(len(means))
    for side, n in zip(sums, (design.n, design.n_baseline), strict=True):
        own, came, both, square = side.T
        within = square - own**2 / n + 2.0 * apart * (both - own * came / n) + apart**2 * came * (n - came) / n
        # what is left of a side whose values are equal is rounding
        squares += np.where(within > _EQUAL * scale, within, 0.0) / (n * (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # x / 0 is infinite as it should be; 0 / 0 is no difference
        return np.nan_to_num(means / np.sqrt(squares), nan=0.0, posinf=np.inf, neginf=-np.inf)


def assess(
    statistic: Statistic,
    rows: Floats,
    design: Design,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    floor: float = -np.inf,
) -> Effect:
    """Take a statistic of two conditions, its interval, and the p of its relabelled seeds.

    Parameters
    ----------
    statistic : callable
        `Sums` in several cases -> ndarray of a number a case.
    rows : ndarray of float64, shape (runs, k)
        What the sums are of: the condition's runs, then its baseline's.
    design : Design
    confidence, seed
        As in `mean_difference`.
    floor : float, optional
        Least value of the statistic (0 for a distance): the interval does not reach below it.

    Returns
    -------
    Effect

    Notes
    -----
    The t interval is that of the jackknife's pseudo-values (Tukey 1958), one a seed: for a mean it is
    Student's own, for a distance it is the same with the distance in first order.
    """
    effect = float(statistic(design.observed(rows))[0])
    if not design.replicated or not np.isfinite(effect):
        return Effect.untested(effect, design)
    found = jackknife(statistic(design.without_one(rows)), design, effect)
    tested = _tested(statistic, rows, design, found, confidence=confidence, seed=seed)
    return replace(tested, low=max(tested.low, floor))


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


def jackknife(left_out: Floats, design: Design, effect: float) -> Estimate:
    """Take the standard error of a statistic from the jackknife's pseudo-values; Welch's degrees of freedom.

    Parameters
    ----------
    left_out : ndarray of float64
        The statistic with one run (paired: one pair) left out, the condition's runs first.
    design : Design
    effect : float
    """
    parts = [left_out] if design.paired else np.split(left_out, [design.n])
    # the variance of the pseudo-values' mean, without making them: theirs is (n - 1)^2 times that of the left-out
    squares = [float(np.var(part)) * (part.size - 1) for part in parts]
    return Estimate.of(effect, squares, [part.size for part in parts])


def _tested(
    statistic: Statistic, rows: Floats, design: Design, found: Estimate, *, confidence: float, seed: int
) -> Effect:
    low, high = found.interval(confidence)
    p, least = _relabelled_p(statistic, rows, design, seed), design.attainable(seed)
    test = "sign flip" if design.paired else "permutation"
    effect = Effect(
        found.effect, low, high, "t", p, least, found.p(), test, design.n, design.n_baseline, design.paired,
        found.error, found.degrees,
    )  # fmt: skip
    # equal values differ by rounding alone, and Student's t would be as certain of them as can be
    return replace(effect, p_t=_NAN) if effect.without_spread else effect


def _relabelled_p(statistic: Statistic, rows: Floats, design: Design, seed: int) -> float:
    """Share of the labellings that are as far from no effect as the one there was."""
    observed = abs(float(statistic(design.observed(rows))[0]))
    # a labelling as far as the observed one counts, also where rounding has it a little nearer
    null = np.concatenate([np.abs(statistic(sums)) for sums in design.relabelled(rows, seed)])
    far = int(np.count_nonzero(null >= observed * (1.0 - _EQUAL)))
    # of drawn labellings the observed one is counted as one more: p is never 0, and the test keeps its level
    return far / null.size if design.exact else (far + 1.0) / (null.size + 1.0)


def _vector(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ArgumentError(f"one finite value a run is needed, as a vector, got {values!r}")
    return x
