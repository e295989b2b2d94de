"""How far the directions of gradients lie apart, of which none need be kept: sums of them are enough.

With ``u_i = g_i / |g_i|`` the K(K-1)/2 pairs have ``sum cos = (|sum u_i|^2 - K) / 2``; a fixed gradient g has
``sum cos = (sum u_i) . g / |g|``. So three vectors as long as the parameters hold all that there is to know of any
number of mini-batches, with no error but that of float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dropdiag.measure.passes.vectors import Vector, dot, norm, wide


class Directions:
    """Sums over gradients.

    Memory: two vectors of float64, whatever their number is; on the CPU, where a device has no such numbers. Error:
    their rounding.

    Attributes
    ----------
    count : int
    undefined : int
        How many were zero or not finite: these have no direction, and nothing is known any more.
    mean : list of Tensor
        Their mean.
    """

    def __init__(self) -> None:
        self.count = self.undefined = 0
        self.mean: list[Tensor] = []
        self._units: list[Tensor] = []
        self._squares = 0.0  # sum |g_i - mean|^2, by Welford's recursion: nothing cancels

    def add(self, gradient: Vector) -> None:
        """Take in the gradient of a mini-batch."""
        parts = [wide(part.detach()) for part in gradient]
        if not self.mean:
            self.mean, self._units = ([torch.zeros_like(part) for part in parts] for _ in range(2))
        size = norm(parts)
        self.undefined += not (math.isfinite(size) and size > 0)
        self.count += 1
        apart = [part - mean for part, mean in zip(parts, self.mean, strict=True)]
        for mean, unit, part, off in zip(self.mean, self._units, parts, apart, strict=True):
            mean.add_(off, alpha=1 / self.count)
            unit.add_(part, alpha=1 / size if size else 0.0)
        self._squares += dot(apart, apart) * (self.count - 1) / self.count

    @property
    def variance(self) -> float | None:
        """Mean of ``(1 - cos) / 2`` over pairs."""
        k = self.count
        if self.undefined or k < 2:
            return None
        return (1 - (dot(self._units, self._units) - k) / (k * (k - 1))) / 2

    def error(self, truth: Vector) -> float | None:
        """Return the mean of ``(1 - cos) / 2`` between the gradients and another one."""
        size = norm(truth)
        if self.undefined or not (math.isfinite(size) and size > 0):
            return None
        return (1 - dot(self._units, truth) / (self.count * size)) / 2

    def noise(self) -> tuple[float, float]:
        """Return unbiased estimates of the trace of the covariance of a gradient, and of the square of its mean."""
        trace = self._squares / (self.count - 1)
        return trace, dot(self.mean, self.mean) - trace / self.count
