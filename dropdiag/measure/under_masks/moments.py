"""Moments of net values over masks, and passes that are made twice: what the moments decide is known only then."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.net_values import CallKey
from dropdiag.measure.under_masks.masked_passes import MaskedPasses
from dropdiag.measure.under_masks.rates import DroppedShares
from dropdiag.model.sites import Site


class _Sink(Protocol):
    """Takes in the net values of one pass after another."""

    def update(self, z: Tensor) -> None: ...


M = TypeVar("M", bound="Moments")
S = TypeVar("S", bound=_Sink)
T = TypeVar("T")


class Moments:
    """Mean and centred sum of squares of each net value over masks, in float64 (Welford)."""

    def __init__(self, like: Tensor) -> None:
        self.n = 0
        self.mean = torch.zeros_like(like, dtype=torch.float64)
        self.m2 = torch.zeros_like(self.mean)

    @property
    def variance(self) -> Tensor:
        """Variance over masks (divisor n - 1); NaN after one pass."""
        return self.m2 / (self.n - 1) if self.n > 1 else torch.full_like(self.m2, math.nan)

    def update(self, z: Tensor) -> None:
        """Take in the net values of one pass."""
        self.n += 1  # one pass at a time: all of them together would take masks times the memory of the net values
        delta = z.to(torch.float64) - self.mean
        self.mean += delta / self.n
        self.m2 += delta * (z - self.mean)


def check_masks(masks: int, seed: int) -> None:
    """Refuse a number of masks, or a seed of theirs, that is none."""
    if not isinstance(masks, int) or masks < 2:
        raise ArgumentError(f"masks must be at least 2 (a whole number), so that there is a variance; got {masks!r}")
    if not isinstance(seed, int):
        raise ArgumentError(f"seed must be a whole number, got {seed!r}")


def twice(
    passes: MaskedPasses, masks: int, first: Callable[[Tensor], M], second: Callable[[CallKey, Site, M], S]
) -> dict[CallKey, S]:
    """Make the passes two times under the same masks: what their means decide is known only after the first time.

    Parameters
    ----------
    passes : MaskedPasses
        Ready.
    masks : int
    first : callable
        A net value -> moments, empty.
    second : callable
        Layer and call, site, moments of all passes -> what takes in the passes of the second time.
    """
    moments = _moments(passes, masks, first)
    sites = {site.layer: site for site in passes.sites}
    found = {key: second(key, sites[key[0]], m) for key, m in moments.items()}
    passes.run(lambda key, z: found[key].update(z) if key in found else None, masks)
    return found


def in_order(passes: MaskedPasses, found: Mapping[CallKey, T]) -> list[T]:
    """Return what was found of each layer and call, in network order."""
    order = {site.layer: i for i, site in enumerate(passes.sites)}
    return [found[key] for key in sorted(found, key=lambda key: (order[key[0]], key[1]))]


def _moments(passes: MaskedPasses, masks: int, empty: Callable[[Tensor], M]) -> dict[CallKey, M]:
    """Make the first passes; refuse where they give no variance, or a rate that does not reach all dropouts."""
    moments: dict[CallKey, M] = {}
    shares = DroppedShares(passes.rates, passes.p) if passes.p else None
    if passes.p is not None:
        passes.check_that_rate_reaches(masks)
    passes.run(lambda key, z: moments.setdefault(key, empty(z)).update(z), masks, *([shares.watch] if shares else ()))
    if not any(m.mean.numel() for m in moments.values()):
        raise ArgumentError("the batch gave no net value: it is empty, or no chosen activation was called")
    if shares is not None:
        while shares.is_open:
            passes.go_on(lambda _key, _z: None, 1, shares.watch)
        shares.check()
    if passes.p != 0 and not any(m.m2.any() for m in moments.values()):
        raise ArgumentError(_why_no_variance(passes))
    return moments


def _why_no_variance(passes: MaskedPasses) -> str:
    if not passes.in_training:
        return (
            "the model is in evaluation mode and draws no masks: call model.train() before (and then eval() on the "
            "parts of it that you keep in that mode while training), so that it is measured as it trains"
        )
    reason = "no dropout mask reaches a net value that is measured, so that there is no variance"
    return reason + ("; pass p= to measure at a rate" if passes.p is None else "")
