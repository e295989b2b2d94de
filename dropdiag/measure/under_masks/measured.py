"""What one activation's net values do under masks: their variance, and the gradient that comes of it."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.histograms.histogram import Histogram
from dropdiag.measure.passes.net_values import CallKey
from dropdiag.measure.under_masks.areas import activation_of, inside, is_beyond, known_at, slope_of
from dropdiag.measure.under_masks.links import MaskedLayer
from dropdiag.measure.under_masks.moments import Moments
from dropdiag.model.sites import Site, effective
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.store.net_variance import Floats, LayerNetVariance


class Measured:
    """The net values of one activation and call under masks, mask by mask, once their moments are known.

    Parameters
    ----------
    key : (str, int)
        Layer and call index.
    site : Site
    moments : Moments
        Of each net value over masks.

    Attributes
    ----------
    mean, variance : Tensor of float64, shape of the net value
        Over masks.
    saturated : Tensor of bool, same shape
        Whether `mean` lies in the saturation area.
    closed_form : Tensor of float64, same shape, or None
        The variance that theory gives, where there is a closed form.
    """

    def __init__(self, key: CallKey, site: Site, moments: Moments) -> None:
        self.key, self.site = key, site
        self.mean, self.passes, self.variance = moments.mean, moments.n, moments.variance
        self.activation = known_at(activation_of(site), moments.mean)
        self.saturated = inside(self.activation, self.mean)
        self.closed_form: Tensor | None = None
        self._slope = slope_of(site)
        self._n, self._some = 0, int(self.saturated.sum())
        # Sums stay on the values' device, so that no pass makes the host wait.
        self._absolute = torch.zeros((), dtype=torch.float64, device=self.mean.device)
        self._leaves = torch.zeros(self._some, dtype=torch.int32, device=self.mean.device)  # in how many passes, each
        self._beyond = torch.zeros((), dtype=torch.bool, device=self.mean.device)
        self._histogram = HistogramSketch()

    def update(self, z: Tensor) -> None:
        """Take in the net values of one pass."""
        self._n += 1
        if not self._some:
            return
        chosen = z[self.saturated]
        self._histogram.update(chosen)
        values = chosen.to(torch.float64)
        self._absolute += self._slope(values).abs().mean()
        self._leaves += ~inside(self.activation, values)
        self._beyond |= is_beyond(self.activation, values)

    def summary(self) -> LayerNetVariance:
        """Return the result as plain arrays."""
        known, means = self.activation, self.mean[self.saturated]
        judged, leaves = self._some and not self._beyond.item(), self._leaves.cpu().numpy()
        return LayerNetVariance(
            layer=self.key[0],
            call=self.key[1],
            masks=self.passes,
            mean=_array(self.mean),
            variance=_array(self.variance),
            closed_form=None if self.closed_form is None else _array(self.closed_form),
            derivative=None if known is None else known.derivative,
            left=() if known is None else known.left,
            right=() if known is None else known.right,
            masked_net_values=Histogram(*self._histogram.drain()),
            gradient_probability=int(leaves.sum(dtype=np.int64)) / (self._n * self._some) if judged else math.nan,
            slope_over_masks=self._absolute.item() / self._n if self._some else math.nan,
            slope_at_mean=float(self._slope(means).abs().mean()) if self._some else math.nan,
            gradient_net_means=Histogram.from_values(_array(means), leaves) if judged else None,
        )


def closed_form(masked: MaskedLayer) -> Tensor:
    """Return ``p/(1-p) sum_i w_i^2 x_i^2`` for every net value of a layer right behind a dropout.

    Parameters
    ----------
    masked : MaskedLayer
        A Linear, or a convolution that pads with zeros.

    Returns
    -------
    Tensor of float64, shape of the layer's output
        For a convolution i runs over the channels and positions that the net value is made of.
    """
    layer, squares = masked.layer, masked.x.to(torch.float64).square()
    weight = cast(Tensor, effective(layer, "weight")).detach().to(torch.float64).square()
    if isinstance(layer, nn.Linear):
        return masked.variance * F.linear(squares, weight)
    convolution = cast(nn.modules.conv._ConvNd, layer)
    name = ("conv_transpose" if convolution.transposed else "conv") + f"{weight.ndim - 2}d"
    options: dict[str, Any] = {name: getattr(convolution, name) for name in ("stride", "padding", "dilation", "groups")}
    if convolution.transposed:
        options["output_padding"] = convolution.output_padding
    result: Tensor = getattr(F, name)(squares, weight, **options)
    return masked.variance * result


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy()
    return array
