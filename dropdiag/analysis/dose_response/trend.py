"""Does a response rise or fall with the dose: Page's test with seeds as blocks, and the seeds' own slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dropdiag.analysis.seeds import Estimate, Floats
from dropdiag.errors import ArgumentError

PAGE: Final = "Page"
STUDENT: Final = "paired t"
NO_TEST: Final = "none"
_NAN: Final = float("nan")
_EQUAL: Final = 1e-12  # values this close, beside the largest of their table, differ by rounding alone


@dataclass(frozen=True)
class Trend:
    """How a response changes with the dose.

    Attributes
    ----------
    slope, low, high : float
        Mean over seeds of each seed's least-squares slope, a unit of the dose, and its Student's t interval; NaN
        without a seed (slope), or with one (interval).
    p : float
        Two-sided, of no trend; NaN without a test.
    test : {"Page", "paired t", "none"}
        Two doses have Student's paired test in place of Page's, which takes three.
    blocks : int
        Seeds with a value at every dose: all numbers rest on these.
    left_out : tuple of int
        Rows that lack a value.
    bend, bend_p : float
        Mean over seeds of the least-squares coefficient of the dose squared, and Student's p that it is 0; NaN for
        fewer than three doses (both), or two seeds (p).
    monotone : bool
        Whether the means over seeds never turn: where they do, a slope misses what happens in between.
    lowest, highest : int
        Columns of the least and of the greatest mean; -1 without a block.
    note : str
        Why something is missing, or what limits it.

    Examples
    --------
    >>> found = dd.analysis.dose_response.trend([[0.1, 0.2], [0.1, 0.3], [0.2, 0.4]], [0.0, 0.5])
    >>> found.low < found.slope < found.high
    True
    """

    slope: float
    low: float
    high: float
    p: float
    test: str
    blocks: int
    left_out: tuple[int, ...] = ()
    bend: float = _NAN
    bend_p: float = _NAN
    monotone: bool = True
    lowest: int = -1
    highest: int = -1
    note: str = ""


def trend(values: ArrayLike, doses: ArrayLike | None = None, *, alpha: float = 0.05) -> Trend:
    """Test whether a response goes with the dose, and take its slope.

    Parameters
    ----------
    values : array_like of float, shape (blocks, doses)
        A row a seed, a column a dose, doses ascending. A row with a value that is not finite is left out whole.
    doses : array_like of float, optional
        Of the columns; by default 0, 1, 2 ...
    alpha : float
        The interval covers 1 - alpha.

    Returns
    -------
    Trend

    Raises
    ------
    ArgumentError
        If values are no table of two columns or more, or the doses do not ascend.

    Notes
    -----
    Page's L (Page 1963; `scipy.stats.page_trend_test`) ranks the doses within each seed, so that nothing but the order
    of the doses counts, and no seed's level. It is one-sided: p is twice the smaller one of both directions. Where
    ranks are tied p is somewhat too great. A response that goes up and down again has no trend: ``bend`` and
    ``monotone`` tell that.

    Examples
    --------
    >>> values = [[0.1, 0.2, 0.4], [0.1, 0.3, 0.5], [0.2, 0.3, 0.4]]  # a row a seed, a column a dose
    >>> found = dd.analysis.dose_response.trend(values, [0.0, 0.1, 0.2])
    >>> round(found.slope, 3), found.test, found.blocks
    (1.5, 'Page', 3)
    """
    table, x = _checked(values, doses)
    whole = np.isfinite(table).all(axis=1)
    y, left = table[whole], tuple(np.flatnonzero(~whole).tolist())
    if not len(y):
        return Trend(_NAN, _NAN, _NAN, _NAN, NO_TEST, 0, left, note="no seed has a value at every dose")
    found = _coefficient(x, y, 1)
    p, test, why = _p(y, found)
    low, high = found.interval(1.0 - alpha)
    bend = _coefficient(x, y, 2) if len(x) > 2 else Estimate(_NAN)
    means = y.mean(axis=0)
    steps = np.sign(np.diff(means))
    return Trend(
        found.effect, low, high, p, test, len(y), left, bend.effect, bend.p(),
        monotone=bool((steps >= 0).all() or (steps <= 0).all()), lowest=int(means.argmin()),
        highest=int(means.argmax()), note=why,
    )  # fmt: skip


def page(values: Floats) -> float:
    """Return the two-sided p of Page's test, of a table without gaps: 2 rows or more, 3 columns or more."""
    both = (values, values[:, ::-1])
    return min(1.0, 2.0 * min(float(stats.page_trend_test(one).pvalue) for one in both))


def _coefficient(x: Floats, y: Floats, degree: int) -> Estimate:
    """Return the mean of the seeds' coefficients, without an error where they are the same but for rounding."""
    found = Estimate.of_means([coefficients(x, y, degree)])
    flat = found.error * (x[-1] - x[0]) ** degree <= _EQUAL * np.abs(y).max()
    return Estimate(found.effect) if flat else found


def _p(y: Floats, slope: Estimate) -> tuple[float, str, str]:
    if len(y) < 2:
        return _NAN, NO_TEST, "one seed: no interval, no p"
    alike = "the seeds do not differ: no interval" if np.isnan(slope.error) else ""
    if y.shape[1] > 2:
        return page(y), PAGE, alike
    if alike:
        return _NAN, NO_TEST, f"{alike}, no p"
    return slope.p(), STUDENT, "two doses: Student's paired t"


def coefficients(x: Floats, y: Floats, degree: int) -> Floats:
    """Return each row's least-squares coefficient of the highest power of the dose: of degree 1, the slope.

    Parameters
    ----------
    x : ndarray of float64, shape (doses,)
    y : ndarray of float64, shape (blocks, doses)
        Without gaps.
    degree : int
    """
    scale = float(x[-1] - x[0])
    powers = np.vander((x - x.mean()) / scale, degree + 1)
    # about each row's mean: a level far from 0 would round what lies on it
    return np.asarray(np.linalg.lstsq(powers, (y - y.mean(axis=1, keepdims=True)).T, rcond=None)[0][0] / scale**degree)


def _checked(values: ArrayLike, doses: ArrayLike | None) -> tuple[Floats, Floats]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ArgumentError(f"a row a seed and a column a dose are needed, of two doses or more; got {table.shape}")
    x = np.arange(table.shape[1]) if doses is None else np.asarray(doses)
    if x.shape != table.shape[1:] or not (np.diff(x) > 0.0).all():
        raise ArgumentError(f"doses must ascend, one a column of {table.shape[1]}, got {doses!r}")
    return table, x.astype(np.float64)
