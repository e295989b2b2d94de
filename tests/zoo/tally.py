"""What the slow reader keeps of a pass through an activation, and the share of it that is saturated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from dropdiag.histograms.grid import BINS, bin_numbers

Phi: TypeAlias = Callable[[Tensor], Tensor]


class Tally:
    """Number of values, sum of their sizes, their counts on the bin grid, and the tensors themselves."""

    def __init__(self) -> None:
        self.n, self.total, self.counts = 0, 0.0, np.zeros(BINS, dtype=np.int64)
        self.arrays: list[np.ndarray] = []

    def add(self, tensor: Tensor) -> None:
        """Count the values of a tensor."""
        self.arrays.append(tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32)).numpy().copy())
        values = self.arrays[-1].ravel()
        self.n += values.size
        self.total += float(np.abs(values.astype(np.float64)).sum())
        self.counts += np.bincount(bin_numbers(values), minlength=BINS)

    def merge(self, other: Tally) -> None:
        """Take in the values of another tally."""
        self.n, self.total, self.counts = self.n + other.n, self.total + other.total, self.counts + other.counts
        self.arrays += other.arrays

    @property
    def mean(self) -> float:
        """Mean size; NaN without values."""
        return self.total / self.n if self.n else float("nan")

    def key(self) -> tuple[int, bytes]:
        """Return the number of values and their bins and counts."""
        (bins,) = np.nonzero(self.counts)
        return self.n, bins.tobytes() + self.counts[bins].tobytes()


@dataclass
class Pass:
    """One pass through one activation, or the output of a layer that has no net value (z and dz without values).

    Attributes
    ----------
    operation : str
    phi : callable or None
        The elementwise function, with its settings; None where its derivative is learned or there is none.
    z, h, dz : Tally
    net_values : list of ndarray of float64
        What z tallies.
    without_gradients : bool
        Whether gradients were switched off in it.
    """

    operation: str
    phi: Phi | None = None
    z: Tally = field(default_factory=Tally)
    h: Tally = field(default_factory=Tally)
    dz: Tally = field(default_factory=Tally)
    net_values: list[np.ndarray] = field(default_factory=list)
    without_gradients: bool = False

    def merge(self, other: Pass) -> None:
        """Take in the same pass of another forward pass of the same step."""
        assert self.operation == other.operation, "the forward passes of one step are not alike"
        for mine, its in ((self.z, other.z), (self.h, other.h), (self.dz, other.dz)):
            mine.merge(its)
        self.net_values += other.net_values

    def saturation(self) -> float:
        """Return the share of net values where |phi'| is at most a tenth of its supremum."""
        if self.phi is None or not self.z.n:
            return float("nan")
        sup = _supremum(self.phi)
        return float(np.mean(_slope(self.phi, np.concatenate(self.net_values)) <= 0.1 * sup))


def _supremum(phi: Phi) -> float:
    """Return sup |phi'|, refined about the best of many points (hardswish has it at a jump, ELU at zero)."""
    points = np.geomspace(1e-9, 1e2, 50_001)
    points = np.concatenate([-points, points, np.linspace(-10, 10, 50_001)])
    for width in (1e-2, 1e-5, 1e-8, 0.0):
        slopes = _slope(phi, points)
        best = points[slopes.argmax()]
        points = np.linspace(best - width, best + width, 20_001)
    return float(slopes.max())


def _slope(phi: Phi, points: np.ndarray) -> np.ndarray:
    with torch.enable_grad():
        z = torch.from_numpy(points).requires_grad_()
        (gradient,) = torch.autograd.grad(phi(z).sum(), z)
    return gradient.abs().numpy()
