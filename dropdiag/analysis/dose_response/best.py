"""The doses that cannot be told from the best: those that are left where the worst are taken out one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dropdiag.analysis.dose_response.critical import critical, p_of_greatest
from dropdiag.analysis.seeds import Floats
from dropdiag.errors import ArgumentError

FIRST, LATER = 0.9, 0.75
"""Shares of alpha at which the first dose of three or more, and those after it, are judged: one that follows another is
taken out a little too often where doses do not differ. These make up for it (`benchmarks/dose_response.py`)."""
_EQUAL: Final = 1e-12  # a standard error this small, beside the largest value, is rounding
_NAN: Final = float("nan")


@dataclass(frozen=True)
class BestSet:
    """Which doses cannot be told from the best; all tuples have an item a dose.

    Attributes
    ----------
    inside : tuple of bool
        The true best dose is outside with a probability of alpha at most. Without two whole seeds all are inside.
    best : int
        Place of the best mean; -1 without a whole seed.
    behind : tuple of float
        How far a dose's mean is behind the best mean of the others, in units of the value; negative where it is ahead.
    low, high : tuple of float
        What the true shortfall is at least and at most, each alone at alpha and simultaneous over the doses it was set
        beside; NaN for one seed. A dose is outside where ``low`` is above 0.
    p : tuple of float
        Of being as far behind by chance: at most alpha outside. 1 where there is no test.
    blocks : int
        Seeds with a value at every dose: all numbers rest on these.
    left_out : tuple of int
        Rows that lack a value.
    alpha : float
    note : str
        What limits it.

    Examples
    --------
    >>> accuracy = [[0.70, 0.91, 0.90], [0.71, 0.92, 0.93], [0.69, 0.93, 0.92], [0.70, 0.92, 0.92]]
    >>> found = dd.analysis.dose_response.cannot_be_told_from_best(accuracy, less_is_better=False)
    >>> found.blocks, found.inside
    (4, (False, True, True))
    """

    inside: tuple[bool, ...]
    best: int
    behind: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p: tuple[float, ...]
    blocks: int
    left_out: tuple[int, ...]
    alpha: float
    note: str = ""


def cannot_be_told_from_best(values: ArrayLike, *, less_is_better: bool, alpha: float = 0.05) -> BestSet:
    """Find the doses that cannot be told from the best.

    Parameters
    ----------
    values : array_like of float, shape (blocks, doses)
        A row a seed, a column a dose. A row with a value that is not finite is left out whole.
    less_is_better : bool
        Whether the best dose is the one of the least true mean.
    alpha : float
        Greatest probability that the true best dose is outside.

    Returns
    -------
    BestSet

    Raises
    ------
    ArgumentError
        If values are no table of two columns or more, or alpha is no probability.

    Notes
    -----
    Each dose is set beside every other one by the paired t of the seeds. The dose whose greatest t against it is the
    greatest is judged by the probability that the greatest of so many t is as great by chance, is taken out, and so
    on with the doses that are left (as the model confidence set does: Hansen, Lunde and Nason 2011); its p is no
    smaller than that of any dose that went before. Doses are outside where p is at most alpha. No variance is shared
    between doses, for those of different rates differ in variance: where they did not, pooling would find more.

    It holds for values that are about normal. Skewed ones of few seeds may leave the true best out more often than
    alpha: docs/dose-response.md has what was measured. Seeds that do not differ at all say nothing about chance: such a
    pair is not told apart.

    Examples
    --------
    >>> accuracy = [[0.70, 0.91, 0.90], [0.71, 0.92, 0.93], [0.69, 0.93, 0.92], [0.70, 0.92, 0.92]]
    >>> dd.analysis.dose_response.cannot_be_told_from_best(accuracy, less_is_better=False).inside
    (False, True, True)
    """
    table = _checked(values, alpha)
    whole = np.isfinite(table).all(axis=1)
    y = -table[whole] if less_is_better else table[whole]
    left = tuple(np.flatnonzero(~whole).tolist())
    k = table.shape[1]
    if len(y) < 2:
        return _untested(y, k, left, alpha)
    pairs = _Pairs.of(y)
    p, rivals = _taken_out(pairs)
    inside = tuple(one > alpha for one in p)
    kept = tuple(np.flatnonzero(inside).tolist())
    # what is left is held against what is left; one that is left alone, against all
    beside = [rivals[d] if not inside[d] else kept if len(kept) > 1 else tuple(range(k)) for d in range(k)]
    bounds = [pairs.bounds(d, beside[d], alpha * _share(len(beside[d]), k)) for d in range(k)]
    means = y.mean(axis=0)
    flat = pairs.without_spread.sum() > k  # each dose beside itself is
    note = "two doses or more whose seeds do not differ are not told apart" if flat else ""
    return BestSet(
        inside, int(means.argmax()), _behind(means), tuple(low for low, _ in bounds), tuple(high for _, high in bounds),
        p, len(y), left, alpha, note,
    )  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """How far dose j is ahead of dose d, at [d, j]: with its standard error over seeds, and its t, 0 without spread."""

    ahead: Floats
    error: Floats
    t: Floats
    without_spread: NDArray[np.bool_]
    blocks: int

    @classmethod
    def of(cls, y: Floats) -> _Pairs:
        apart = y[:, None, :] - y[:, :, None]
        ahead, error = apart.mean(axis=0), apart.std(axis=0, ddof=1) / np.sqrt(len(y))
        flat = error <= _EQUAL * np.abs(y).max()
        return cls(ahead, error, np.where(flat, 0.0, ahead / np.where(flat, 1.0, error)), flat, len(y))

    def bounds(self, d: int, beside: tuple[int, ...], alpha: float) -> tuple[float, float]:
        """Return what a dose is behind the best of some others by, at least and at most."""
        others = [j for j in beside if j != d]
        reach = critical(alpha, self.blocks, len(others)) * self.error[d, others]
        reach[self.without_spread[d, others]] = np.inf
        return float((self.ahead[d, others] - reach).max()), float((self.ahead[d, others] + reach).max())


def _taken_out(pairs: _Pairs) -> tuple[tuple[float, ...], dict[int, tuple[int, ...]]]:
    """Take the worst dose out, one after the other; return each one's p and the doses that were then left."""
    left = list(range(len(pairs.ahead)))
    p, rivals, before = dict.fromkeys(left, 1.0), dict[int, tuple[int, ...]](), 0.0
    while len(left) > 1:
        t = pairs.t[np.ix_(left, left)].max(axis=1)
        # of equal ones the one that is further behind goes first
        place = np.lexsort((pairs.ahead[np.ix_(left, left)].max(axis=1), t))[-1]
        worst = left[place]
        chance = p_of_greatest(float(t[place]), pairs.blocks, len(left) - 1)
        before = max(before, min(1.0, chance / _share(len(left), len(p))))
        p[worst], rivals[worst] = before, tuple(left)
        left.remove(worst)
    return tuple(p[d] for d in range(len(p))), rivals


def _share(left: int, doses: int) -> float:
    if doses == 2:  # no dose follows another
        return 1.0
    return FIRST if left == doses else LATER


def _untested(y: Floats, doses: int, left: tuple[int, ...], alpha: float) -> BestSet:
    none = (_NAN,) * doses
    behind = _behind(y[0]) if len(y) else none
    note = "one seed: no dose can be told from another" if len(y) else "no seed has a value at every dose"
    best = int(y[0].argmax()) if len(y) else -1
    return BestSet((True,) * doses, best, behind, none, none, (1.0,) * doses, len(y), left, alpha, note)


def _behind(means: Floats) -> tuple[float, ...]:
    return tuple(float(np.delete(means, d).max() - mean) for d, mean in enumerate(means))


def _checked(values: ArrayLike, alpha: float) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ArgumentError(f"a row a seed and a column a dose are needed, of two doses or more; got {table.shape}")
    # written as "not right" so that NaN, which compares as false, is refused too
    if not 0.0 < alpha < 1.0:
        raise ArgumentError(f"alpha must lie between 0 and 1, got {alpha!r}")
    return table
