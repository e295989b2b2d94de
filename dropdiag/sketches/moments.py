"""Moments and mean absolute value, accumulated in float64."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from dropdiag.sketches import native

EPS: Final = torch.finfo(torch.float64).eps
SMALLEST: Final = 1e-290
"""A fourth power below this has lost digits."""
NUMBERS: Final = ("mean", "sd", "excess_kurtosis", "abs_mean", "minimum", "maximum")
"""What `Moments` tells of values."""


class AbsMean:
    """Mean of absolute values, as a sum and a count.

    Error: that of a float64 sum, about 1e-15 relative for a million values; nothing is sampled. The order of
    the sum, and so its last digit, depends on the device and on whether the compiled loops are there. Memory:
    two numbers. Not finite as soon as one value is not.
    """

    __slots__ = ("n", "total")

    def __init__(self) -> None:
        self.n = 0
        self.total: float | Tensor = 0.0

    def update(self, values: Tensor) -> None:
        """Take in a batch of values (floats, any shape, any device)."""
        self.n += values.numel()
        self.total = self.total + abs_sum(values)

    def merge(self, other: AbsMean) -> None:
        """Take in what another has seen."""
        self.n += other.n
        self.total = self.total + other.total  # not in place: merged sketches share the tensor

    def mean(self) -> float | Tensor:
        """Return the mean of |x|.

        Returns
        -------
        float, or Tensor of float64, shape ()
            A tensor where the values are on an accelerator; NaN if there were none.
        """
        return self.total / self.n if self.n else math.nan


def abs_sum(values: Tensor) -> float | Tensor:
    """Sum absolute values in float64.

    Parameters
    ----------
    values : Tensor of floats, any shape, any device

    Returns
    -------
    float, or Tensor of float64, shape ()
        A tensor where the values are on an accelerator: the host need not wait for it.
    """
    if native.loops is not None:
        # One call that checks and sums: this runs in every hook. It gives None for what it cannot read as it is.
        total: float | None = native.loops.abs_sum_tensor(values)
        if total is not None:
            return total
        span = native.memory_span(values)
        if span is not None:
            return float(native.loops.abs_sum(*span[:3]))
    on_device = values.detach().abs().sum(dtype=torch.float64)
    return on_device.item() if on_device.is_cpu else on_device


class Moments:
    """Number, mean, central moments to the fourth, mean |x|, minimum and maximum.

    Error: two passes over each batch in float64 (centred before powers are taken, so a large offset does no
    harm), then the pairwise formulas of Pébay (2008); about 1e-12 relative for well-scaled data. Memory:
    eight numbers. The last digits depend on the device and on whether the compiled loops are there, as the order of
    sums does. With them it costs about as much as a histogram; without, several times that.

    Attributes
    ----------
    n : int
        Number of values.
    state : Tensor of float64, shape (7,)
        mean, M2, M3, M4, mean |x|, minimum, maximum, where Mk = sum (x - mean)**k.

    References
    ----------
    P. Pébay, Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
    statistical moments, Sandia report SAND2008-6212 (2008).
    """

    __slots__ = ("n", "state")

    def __init__(self) -> None:
        self.n = 0
        self.state: Tensor | None = None

    def update(self, values: Tensor) -> None:
        """Take in a batch of values (floats, any shape, any device)."""
        if values.numel() == 0:
            return
        self._add(values.numel(), _state(values.detach()))

    def merge(self, other: Moments) -> None:
        """Take in what another has seen."""
        if other.state is not None:
            self._add(other.n, other.state)

    def _add(self, n: int, state: Tensor) -> None:
        self.state = state if self.state is None else combine(self.n, self.state, n, state)
        self.n += n

    def numbers(self) -> dict[str, float | Tensor]:
        """Return all that is told of the values, by the names of the properties.

        Returns
        -------
        dict of float, or of Tensor of float64, shape ()
            Tensors where the values are on an accelerator.
        """
        if self.state is None:
            return dict.fromkeys(NUMBERS, math.nan)
        if not self.state.is_cpu:
            return {name: getattr(self, name) for name in NUMBERS}
        # the arithmetic of the properties, in floats: ten times faster than in tensors of one element
        mean, m2, _, m4, abs_mean, low, high = self.state.tolist()
        constant, n, square, rounding = low == high, self.n, m2 * m2, 4.0 * EPS * abs_mean
        known = not constant and m2 > rounding * rounding * n and square > SMALLEST
        sd, kurtosis = 0.0 if constant else math.sqrt(m2 / n), n * m4 / square - 3.0 if known else math.nan
        return dict(zip(NUMBERS, (mean, sd, kurtosis, abs_mean, low, high), strict=True))

    @property
    def mean(self) -> Tensor:
        """Mean; NaN if there were no values."""
        return self._get(0)

    @property
    def abs_mean(self) -> Tensor:
        """Mean of |x|; NaN if there were no values."""
        return self._get(4)

    @property
    def minimum(self) -> Tensor:
        """Least value; NaN if there were none."""
        return self._get(5)

    @property
    def maximum(self) -> Tensor:
        """Greatest value; NaN if there were none."""
        return self._get(6)

    @property
    def sd(self) -> Tensor:
        """Standard deviation, divided by n (not n - 1); exactly 0 for a constant."""
        sd = (self._get(1) / max(self.n, 1)).sqrt()
        return torch.where(self._is_constant, 0.0, sd)

    @property
    def excess_kurtosis(self) -> Tensor:
        """Return ``n M4 / M2**2 - 3``: 0 for a normal, -1.2 for a uniform distribution; NaN for a constant.

        NaN also where float64 cannot hold the powers: of values that differ by less than 1e-15 of themselves, or by
        less than 1e-72.
        """
        m2, m4 = self._get(1), self._get(3)
        # what the mean is rounded by stands in every deviation from it
        rounding = (4.0 * EPS * self._get(4)).square() * self.n
        known = ~self._is_constant & (m2 > rounding) & (m2.square() > SMALLEST)
        return torch.where(known, self.n * m4 / m2.square() - 3.0, torch.nan)

    @property
    def _is_constant(self) -> Tensor:
        return self._get(5) == self._get(6)

    def _get(self, k: int) -> Tensor:
        return torch.tensor(torch.nan, dtype=torch.float64) if self.state is None else self.state[k]


def _state(values: Tensor) -> Tensor:
    """Return the state of some values, as in `Moments`."""
    span = native.memory_span(values)
    if span is not None and native.loops is not None:
        # The loop is of float32, to which bfloat16 converts exactly.
        x = span[3] if span[2] == native.WIDTHS[torch.float32] else span[3].to(torch.float32)
        return torch.tensor(native.loops.moments(x.data_ptr(), span[1]), dtype=torch.float64)
    x = values.to(torch.float64).flatten()
    mean = x.mean()
    d = x - mean
    d2 = d * d
    low, high = torch.aminmax(x)
    return torch.stack([mean, d2.sum(), (d2 * d).sum(), (d2 * d2).sum(), x.abs().mean(), low, high])


def combine(n_a: int, a: Tensor, n_b: int, b: Tensor) -> Tensor:
    """Combine the states of two disjoint sets of values (Pébay 2008, equations 2.1 and 3.1 to order four).

    Parameters
    ----------
    n_a, n_b : int
        Numbers of values, both positive.
    a, b : Tensor of float64, shape (7,)
        States as in `Moments`.

    Returns
    -------
    Tensor of float64, shape (7,)
    """
    n = n_a + n_b
    d = b[0] - a[0]
    mean = a[0] + d * (n_b / n)
    m2 = a[1] + b[1] + d**2 * (n_a * n_b / n)
    m3 = a[2] + b[2] + d**3 * (n_a * n_b * (n_a - n_b) / n**2) + 3 * d * (n_a * b[1] - n_b * a[1]) / n
    m4 = (
        a[3]
        + b[3]
        + d**4 * (n_a * n_b * (n_a**2 - n_a * n_b + n_b**2) / n**3)
        + 6 * d**2 * (n_a**2 * b[1] + n_b**2 * a[1]) / n**2
        + 4 * d * (n_a * b[2] - n_b * a[2]) / n
    )
    abs_mean = a[4] + (b[4] - a[4]) * (n_b / n)
    return torch.stack([mean, m2, m3, m4, abs_mean, torch.minimum(a[5], b[5]), torch.maximum(a[6], b[6])])
