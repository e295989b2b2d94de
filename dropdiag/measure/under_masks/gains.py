"""How much more derivative dropout gives to net values than they have at their mean, for `dropdiag.gaaf.fit`.

Of M masks, the mean of a net value is off by ``sqrt(v/M)`` and nearer to its M values than the true mean is. Both
bias the gain ``E phi'(z) - phi'(m)`` over a saturation area by about a share of one in M or more, upwards or downwards
as phi is kinked or smooth. Two corrections, of which neither knows phi, leave what is of order 1/M^2:

- the values are set apart from their mean by ``sqrt(M/(M-1))``, which makes up for the second exactly if they are
  normal, whatever phi;
- the first spreads the means, so that some of them lie on the wrong side of the area's border. The same is therefore
  measured over each half of the masks, where it is twice as large, and taken off twice the whole (Quenouille 1956).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dropdiag.measure.passes.net_values import CallKey
from dropdiag.measure.under_masks.areas import activation_of, inside, known_at, slope_of
from dropdiag.measure.under_masks.masked_passes import MaskedPasses
from dropdiag.measure.under_masks.moments import Moments, check_masks, in_order, twice
from dropdiag.model.sites import Site


@dataclass(frozen=True)
class Sample:
    """Net values under some of the masks.

    Attributes
    ----------
    weight : float
        With which functionals of it count: 1 for all masks, or 2 and, for halves, less than 0; together 1.
    mean, gain : Tensor of float64, shape of the net value
        Mean over these masks, and ``E phi'(z) - phi'(mean)``.
    saturated : Tensor of bool, same shape
        Whether the mean lies in the saturation area.
    """

    weight: float
    mean: Tensor
    gain: Tensor
    saturated: Tensor


class Gains:
    """The gains of one activation and call under masks, once their moments are known.

    Parameters
    ----------
    key : (str, int)
        Layer and call index; not kept.
    site : Site
    moments : HalvedMoments
        Of each net value over masks.

    Attributes
    ----------
    site : Site
    activation : Activation or None
    variance : Tensor of float64, shape of the net value
        Over masks.
    """

    def __init__(self, _key: CallKey, site: Site, moments: HalvedMoments) -> None:
        self.site, self.variance = site, moments.variance
        self.activation = known_at(activation_of(site), moments.mean)
        slope = slope_of(site)
        self._parts = [(weight, _Slopes(n, mean, slope)) for weight, n, mean in moments.samples()]
        self._first, self._n = moments.first_half, 0

    def update(self, z: Tensor) -> None:
        """Take in the net values of one pass."""
        half = 1 if self._n < self._first else 2
        for i, (_, part) in enumerate(self._parts):
            if i in (0, half):
                part.update(z.to(torch.float64))
        self._n += 1

    def samples(self) -> list[Sample]:
        """Return all masks and, where each holds two masks or more, both halves."""
        return [
            Sample(weight, part.mean, part.gain(), inside(self.activation, part.mean)) for weight, part in self._parts
        ]


class HalvedMoments(Moments):
    """Moments of each net value over masks, and its mean over the first half of them."""

    def __init__(self, masks: int, like: Tensor) -> None:
        super().__init__(like)
        self.first_half = masks // 2
        self._first = self.mean

    def update(self, z: Tensor) -> None:
        """Take in the net values of one pass."""
        super().update(z)
        if self.n == self.first_half:
            self._first = self.mean.clone()

    def samples(self) -> list[tuple[float, int, Tensor]]:
        """Return weight, number of masks and mean of all masks and of both halves, where halves have a variance."""
        # a layer that some passes leave out has seen fewer than there were masks
        first, second = self.first_half, self.n - self.first_half
        if min(first, second) < 2:
            return [(1.0, self.n, self.mean)]
        rest = (self.n * self.mean - first * self._first) / second
        # a bias of b/n: 2 b/n - (first/n) b/first - (second/n) b/second = 0
        return [(2.0, self.n, self.mean), (-first / self.n, first, self._first), (-second / self.n, second, rest)]


class _Slopes:
    """phi' averaged over the n values of each net value, set apart from their mean as those of the true mean are."""

    def __init__(self, n: int, mean: Tensor, slope: Callable[[Tensor], Tensor]) -> None:
        self.mean, self._slope, self._n = mean, slope, n
        self._apart = math.sqrt(n / (n - 1)) if n > 1 else 1.0
        self._sum = torch.zeros_like(mean)

    def update(self, z: Tensor) -> None:
        self._sum += self._slope(self.mean + (z - self.mean) * self._apart)

    def gain(self) -> Tensor:
        return self._sum / self._n - self._slope(self.mean)


def gains(
    model: nn.Module,
    batch: object,
    masks: int,
    *,
    p: float | None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    seed: int = 0,
) -> list[Gains]:
    """Measure the gain of derivative at every net value, one `Gains` an activation and call, in network order.

    Parameters and errors are those of `dropdiag.measure.net_variance`. Memory: as there, and up to five more float64
    arrays the size of all net values.
    """
    check_masks(masks, seed)
    passes = MaskedPasses(model, batch, p, include, exclude)
    with passes.ready(seed):
        found = twice(passes, masks, lambda z: HalvedMoments(masks, z), Gains)
    return in_order(passes, found)
