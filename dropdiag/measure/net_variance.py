"""The variance that dropout gives to net values at fixed input, and the gradient that comes of it.

Dropout makes the net value z of a node random: ``Var(sum_i w_i d_i x_i) > 0``. Where the mean of z lies in the
saturation area, that variance lets z wander to where phi' is not small (Hahn and Choi, arXiv:1806.09783, Figure 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.measure.masked_passes import CallKey, MaskedLayer, MaskedPasses
from dropdiag.measure.rates import DroppedShares
from dropdiag.model.activations import EVERYWHERE, Activation, describe, phi_of, slope_at
from dropdiag.model.sites import Site, effective
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.store.net_variance import Floats, LayerNetVariance, NetVariance


class _Sink(Protocol):
    """Takes in the net values of one pass after another."""

    def update(self, z: Tensor) -> None: ...


M = TypeVar("M", bound="Moments")
S = TypeVar("S", bound=_Sink)
T = TypeVar("T")


def net_variance(
    model: nn.Module,
    batch: object,
    masks: int = 64,
    *,
    p: float | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    seed: int = 0,
) -> NetVariance:
    """Measure, for every net value, its variance over dropout masks at fixed input.

    Parameters
    ----------
    model : nn.Module
        Any model with activation modules, in the modes in which it trains: a part in evaluation mode draws no masks, so
        call it after ``model.train()`` (and ``eval()`` of the parts that stay in that mode). Run `masks` times twice
        without gradients, each pass from the same state under fresh masks; batch norms are in evaluation mode.
        Afterwards it is what it was, see Notes. A Recorder on it sees nothing of this.
    batch : Tensor, sequence or mapping
        What the model is called with: one argument, several, or named ones.
    masks : int, default 64
        At least 2. The standard error of a variance is about ``sqrt(2/masks)`` of it (18 % for 64); means over many
        net values are far more precise.
    p : float, optional
        Measure at this dropout rate instead of the model's own, in every dropout module and in attention and recurrent
        layers that have a rate. In a model without any, a dropout is set for the while on the node values of every
        activation that is in training mode (of every one, if the model itself is not). Whether the rate reaches all
        masks is judged by what happens, see Raises.
    include, exclude : pattern or patterns, optional
        Shell patterns for the activations' names.
    seed : int, default 0
        Of the masks.

    Returns
    -------
    NetVariance
        One `LayerNetVariance` an activation and call, in network order; ``.table`` is a frame of their means. A layer
        that no mask reaches has variance 0.

    Raises
    ------
    ArgumentError
        For fewer than two masks, a rate outside [0, 1), a model without activation modules or with lazy ones, one that
        is in evaluation mode and draws no masks, one in which no mask reaches a net value, one that holds what can be
        neither copied nor put back (an open file, a thread), or whose parameters are spread over processes; and for a
        rate that does not reach: if at rate 0 a dropout gives other values than it takes, or net values change from
        pass to pass (``F.dropout``, ``DropPath``, other noise), or if at rate `p` the share of units that a dropout
        sets to 0, among those that were not 0 already, is not binomial(p) (two-sided, at a level of 1e-9 a dropout;
        units that are dropped together count as one).

    Notes
    -----
    For inverted dropout at rate p right before a layer, at inputs x, the variance is ``p/(1-p) sum_i w_i^2 x_i^2``
    (the mask d/(1-p) has variance p/(1-p), independent in i). That is ``closed_form``, and the measured variance agrees
    with it where no mask is drawn further up; where one is, x varies as well and the measured variance comes to more.

    The gradient probability is the share of masks, over the net values whose *mean over masks* lies in the saturation
    area, in which phi'(z) leaves it. The saturation area is that of the base function for GAAF. As a function of the
    mean it is in `LayerNetVariance.gradient_net_means` beside ``saturated_net_means``. A mean over few masks is nearer
    to its values than the true mean, so that the probability falls short: for ReLU on net values with as much variance
    over masks as over samples by 16 % at 4 masks, 4 % at 16 and 1 % at 64.

    While it is measured, the modules work on copies of what they hold: parameters, buffers, Python attributes and all
    that these lead to, closures of hooks, variables of the user's classes and Python modules that their methods name.
    The originals are put back untouched, so a graph that is alive keeps its gradients; no other thread may use the
    model meanwhile. Random numbers of torch (all devices), numpy and Python are seeded by `seed` and put back;
    generators that the model holds go on from where they are and are put back too. What a forward pass changes outside
    of all these (a file, a variable of a library) is not undone. A mask that was drawn before and is kept is measured
    as what it is: one mask, no variance. Memory: the model a second time without its gradients, and three float64
    arrays the size of all net values.
    """
    measured = measure(model, batch, masks, p=p, include=include, exclude=exclude, seed=seed)
    return NetVariance(layers=tuple(m.summary() for m in measured), masks=masks, p=p)


def measure(
    model: nn.Module,
    batch: object,
    masks: int,
    *,
    p: float | None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    seed: int = 0,
) -> list[Measured]:
    """Make the passes of `net_variance`; see there."""
    check_masks(masks, seed)
    passes = MaskedPasses(model, batch, p, include, exclude)
    with passes.ready(seed):
        found = twice(passes, masks, Moments, Measured)
        for key, masked in passes.masked_layers().items():
            if key in found:
                found[key].closed_form = closed_form(masked)
    return in_order(passes, found)


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
        self.activation = known_at(describe(site.module), moments.mean)
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
        self._beyond |= _is_beyond(self.activation, values)

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


def slope_of(site: Site) -> Callable[[Tensor], Tensor]:
    """Return phi' of a site's activation, of a float64 tensor on any device; 0 where it has no meaning."""
    phi = phi_of(site.module)
    if phi is None:
        return torch.zeros_like
    on_host = bool([*site.module.parameters(), *site.module.buffers()])  # phi holds copies of them

    return lambda z: slope_at(phi, z.cpu() if on_host else z).to(z.device)


def inside(activation: Activation | None, z: Tensor) -> Tensor:
    """Whether net values lie in the saturation area; nowhere where that has no meaning."""
    inside = torch.zeros(z.shape, dtype=torch.bool, device=z.device)
    for low, high in () if activation is None else (*activation.left, *activation.right):
        inside |= (z >= low) & (z <= high)
    return inside


def known_at(activation: Activation | None, means: Tensor) -> Activation | None:
    """Return an activation whose saturation area is known at all these net values, else None: one that oscillates."""
    return None if bool(_is_beyond(activation, means)) else activation


def _is_beyond(activation: Activation | None, z: Tensor) -> Tensor:
    """Whether a net value lies where the saturation area is not known; a tensor of bool, shape ()."""
    low, high = EVERYWHERE if activation is None else activation.known
    return ((z < low) | (z > high)).any()


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy()
    return array
