"""Gradient flow of one batch under the same weights, with masks off and with masks on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.measure.flows.carry import Plan
from dropdiag.measure.passes.net_values import CallKey
from dropdiag.measure.passes.passes import NO_ACTIVATIONS, Passes
from dropdiag.measure.result import Result, Value
from dropdiag.model.sites import LayerPatterns, Site, select

Floats = NDArray[np.float64]
NO_GRADIENT: Final = (
    "no gradient came to its net values: nothing trainable lies below it, or the loss does not depend on it"
)


NOT_EACH: Final = "with some masks, or without any, no gradient came to its net values: it is left out at times"
NOT_FINITE: Final = "the gradient of its net values is not finite"


@dataclass(frozen=True)
class LayerFlow:
    """Gradient flow of one activation and call.

    Attributes
    ----------
    layer : str
    call : int
    masks_off : float or None
        Mean of |dL/dz| over net values with all dropouts off; None where no gradient came, or none that is finite.
    masks_on : float or None
        The same, averaged over masks.
    by_mask : ndarray of float64, shape (masks,)
        Mask by mask; NaN where none came.
    net_values : int
        How many the means are of.
    why : str
        Why a mean is missing, where one is.

    Examples
    --------
    >>> found = dd.measure.masks_by_weights(model, batch, F.cross_entropy, y, masks=8)
    >>> found.layers[0].by_mask.shape
    (8,)
    """

    layer: str
    call: int
    masks_off: float | None
    masks_on: float | None
    by_mask: Floats = field(repr=False)
    net_values: int
    why: str = NO_GRADIENT

    @property
    def masks_on_se(self) -> float | None:
        """Standard error of `masks_on` over masks.

        Examples
        --------
        >>> found = dd.measure.masks_by_weights(model, batch, F.cross_entropy, y, masks=8)
        >>> found.layers[0].masks_on_se > 0
        True
        """
        if self.masks_on is None:
            return None
        return float(self.by_mask.std(ddof=1) / np.sqrt(self.by_mask.size))


@dataclass(frozen=True)
class FlowUnderMasks(Result):
    """Gradient flow of a model's own weights, with masks off and on.

    Attributes
    ----------
    layers : tuple of LayerFlow
        In network order.
    masks : int
    dropouts : tuple of str
        Those that drew.

    Examples
    --------
    >>> found = dd.measure.masks_by_weights(model, batch, F.cross_entropy, y, masks=8)
    >>> found.masks, found.dropouts
    (8, ('dropout1', 'dropout2'))
    """

    name: ClassVar[str] = "masks_by_weights"
    layers: tuple[LayerFlow, ...]
    masks: int
    dropouts: tuple[str, ...]

    def values(self) -> Iterator[Value]:
        """Give both flows of each layer."""
        for flow in self.layers:
            for quantity, value in (("flow_masks_off", flow.masks_off), ("flow_masks_on", flow.masks_on)):
                why = flow.why if value is None else None
                yield Value(quantity, value, flow.layer, flow.call, float(flow.net_values), why)


def chosen_activations(passes: Passes, include: LayerPatterns, exclude: LayerPatterns) -> list[Site]:
    """Return the activations that patterns choose; raise `ArgumentError` where there are none."""
    if not passes.activations:
        raise ArgumentError(NO_ACTIVATIONS)
    return [site for site in select(passes.activations, include, exclude) if site.skipped is None]


def flow_under_masks(passes: Passes, masks: int, plan: Plan, sites: Sequence[Site]) -> FlowUnderMasks:
    """Measure gradient flow with masks off and on.

    Parameters
    ----------
    passes : Passes
        Ready, with gradients; known to be steady without its dropouts.
    masks : int
    plan : Plan
        What draws when masks are on.
    sites : sequence of Site
        The activations that are watched.

    Raises
    ------
    ArgumentError
        Where none of the dropouts was called.
    """
    reader = _Reader(passes, sites)
    with passes.switched(False):
        off = reader.read(0)
    with plan.drawing(passes) as drawn:
        by_mask = [reader.read(k) for k in range(1, masks + 1)]
    if not drawn():
        raise ArgumentError("no dropout was called in a pass, so that there are no masks to set beside none")
    order = {site.layer: i for i, site in enumerate(sites)}
    keys = sorted(reader.net_values, key=lambda key: (order[key[0]], key[1]))
    layers = tuple(_layer(key, off, by_mask, reader.net_values[key]) for key in keys)
    return FlowUnderMasks(passes.count, passes.seed_given, layers, masks, tuple(sorted(drawn())))


class _Reader:
    """Reads the gradient flow of each activation and call in one pass after another."""

    def __init__(self, passes: Passes, sites: Sequence[Site]) -> None:
        self._passes, self._sites = passes, sites
        self.net_values: dict[CallKey, int] = {}
        self._found: dict[CallKey, Tensor] = {}

    def read(self, k: int) -> dict[CallKey, float]:
        """Make pass k; return the mean of |dL/dz| of each activation and call that a gradient came to."""
        self._found = {}
        self._passes.seed(k)
        with self._passes.on_activations(self._net, None, self._gradient, sites=self._sites):
            self._passes.backward(self._passes.loss())
        return {key: float(mean) for key, mean in self._found.items()}

    def _net(self, key: CallKey, z: Tensor) -> None:
        self.net_values.setdefault(key, z.numel())

    def _gradient(self, key: CallKey, gradient: Tensor) -> None:
        # Of half precision, a sum of many absolute values would overflow.
        self._found[key] = gradient.abs().mean(dtype=torch.float64 if gradient.device.type != "mps" else torch.float32)


def _layer(key: CallKey, off: dict[CallKey, float], by_mask: list[dict[CallKey, float]], size: int) -> LayerFlow:
    values = np.array([one.get(key, math.nan) for one in by_mask])
    without, under = (x if math.isfinite(x) else None for x in (off.get(key, math.nan), float(values.mean())))
    came = [key in one for one in (off, *by_mask)]
    why = NOT_FINITE if all(came) else NOT_EACH if any(came) else NO_GRADIENT
    return LayerFlow(*key, without, under, values, size, why)
