"""Fit the height and the width of GAAF's shape function to a dropout rate.

Dropout raises the expected derivative at a net value with mean m and net variance v from phi'(m) to
``E phi'(m + noise)``; GAAF raises it to ``phi'(m) + s(m)``. The fit makes the two gains equal, over the net values
in the saturation area, in their mean and in their mean weighted by abs(m). ``docs/gaaf.md`` derives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.gaaf.activation import GAAF
from dropdiag.gaaf.shapes import Function
from dropdiag.measure.net_variance import Measured, measure
from dropdiag.model.activations import Activation

if TYPE_CHECKING:
    import pandas as pd

WIDTHS: Final = (1 / 16, 16.0)
"""Between which factors the width is looked for."""
LEAST: Final = 10
"""So many net values in the saturation area are needed."""
NO_GAIN: Final = 1e-9
"""A mean gain of derivative that is no more than this is rounding."""


@dataclass(frozen=True)
class LayerFit:
    """The shape of one layer's GAAF, and what it does beside dropout.

    Attributes
    ----------
    layer : str
    height, width : float
        ``s(x) = height * shape(x / width)``.
    net_variance : float
        Mean over net values of the variance that dropout gives, net-value units squared.
    saturated : int
        Net values in the saturation area: those of the fit.
    dropout_gain, gaaf_gain : float
        Mean over them of ``E phi'(z) - phi'(m)``, and of s(m). Equal, unless `note` says why not.
    dropout_reach, gaaf_reach : float
        Mean abs(m) of those net values, weighted by the gain: how far out the gradient comes.
    dropout_gain_elsewhere, gaaf_gain_elsewhere : float
        The same means over the net values outside the saturation area, which take no part in the fit. There dropout
        lowers the derivative of most activation functions, and no shape of this family follows it.
    note : str
        Empty, or what kept the equations from being solved.
    """

    layer: str
    height: float
    width: float
    net_variance: float
    saturated: int
    dropout_gain: float
    gaaf_gain: float
    dropout_reach: float
    gaaf_reach: float
    dropout_gain_elsewhere: float
    gaaf_gain_elsewhere: float
    note: str = ""


@dataclass(frozen=True)
class Fit(Sequence[LayerFit]):
    """What `fit` found, a sequence of `LayerFit` in network order.

    Attributes
    ----------
    layers : tuple of LayerFit
    p : float
        The dropout rate.
    masks : int
    """

    layers: tuple[LayerFit, ...]
    p: float
    masks: int

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, place: int) -> LayerFit:  # type: ignore[override]
        return self.layers[place]

    @property
    def table(self) -> pd.DataFrame:
        """One row a layer, with the attributes of `LayerFit` as columns."""
        import pandas as pd  # noqa: PLC0415 - training needs no pandas

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def __repr__(self) -> str:
        return f"GAAF fitted to dropout at rate {self.p:g}, {self.masks} masks\n{self.table.to_string(index=False)}"


def fit(
    model: nn.Module,
    batch: object,
    p: float = 0.5,
    *,
    masks: int = 64,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    seed: int = 0,
    apply: bool = True,
) -> Fit:
    """Give each GAAF of a model the height and width with which it imitates dropout at rate `p`.

    Parameters
    ----------
    model : nn.Module
        With `GAAF` modules (see `dropdiag.gaaf.replace`). Only their heights and widths are changed.
    batch : Tensor, sequence or mapping
        What the model is called with. A few hundred samples give as many net values a node.
    p : float, default 0.5
        Dropout rate in [0, 1). A model with dropout modules takes it in each of them while it is measured, where they
        are in training mode; in one without, a dropout is set on the node values of every activation. 0 gives the
        height 0.
    masks : int, default 64
        At least 2.
    include, exclude : pattern or patterns, optional
        Shell patterns for the GAAF modules' names.
    seed : int, default 0
        Of the masks. The random number generators are left as they are.
    apply : bool, default True
        Whether to set heights and widths, or only to return them.

    Returns
    -------
    Fit

    Raises
    ------
    ArgumentError
        If the model has no GAAF, or as `dropdiag.measure.net_variance`; nothing is changed then.

    Notes
    -----
    With m_i the mean of net value i over masks and e_i = E phi'(z_i) - phi'(m_i), height h and width w solve, over the
    net values in the saturation area of phi, ::

        sum_i h s(m_i/w) = sum_i e_i        and        sum_i |m_i| h s(m_i/w) = sum_i |m_i| e_i

    where s is to be nowhere above sup |phi'|, as the paper's shapes are not. A shape that could follow both
    equations only by being higher (dropout's gain reaches no further than the border of the area) takes that height,
    and its width is solved from the first equation alone; ``note`` says so. E is over the same masks as the mean, so
    that e_i falls short by a share 1/masks (a sample's mean is nearer to it than the true one); it is divided by
    (1 - 1/masks).

    The net variance changes as the weights do: fit again, say, before every epoch. A layer that no mask reaches, or
    without net values in its saturation area, gets the height 0: there dropout makes no gradient that GAAF could
    imitate. What dropout does to the gradient in other ways (it trains a network that fits its data less well, so that
    dL/dh is larger) is not in this equation.
    """
    if not isinstance(model, nn.Module) or not any(isinstance(module, GAAF) for module in model.modules()):
        raise ArgumentError(
            "the model has no GAAF to fit; dropdiag.gaaf.replace(model) puts it in the activations' place"
        )
    chosen: dict[str, list[Measured]] = {}
    for part in measure(model, batch, masks, p=p, include=include, exclude=exclude, seed=seed, everywhere=True):
        if isinstance(part.site.module, GAAF):
            chosen.setdefault(part.site.layer, []).append(part)
    if not chosen:
        raise ArgumentError("none of the chosen layers is a GAAF, or none was called")
    layers = tuple(_fit_layer(layer, parts, masks) for layer, parts in chosen.items())
    if apply:
        for found, parts in zip(layers, chosen.values(), strict=True):
            module = parts[0].site.module
            module.height, module.width = found.height, found.width  # type: ignore[assignment]
    return Fit(layers=layers, p=p, masks=masks)


def _fit_layer(layer: str, parts: Sequence[Measured], masks: int) -> LayerFit:
    """Fit one GAAF to all calls of it."""
    module = parts[0].site.module
    everywhere = torch.cat([part.mean.flatten() for part in parts])
    # (1 - 1/masks): a sample's mean is nearer to its net values than the true one, see `fit`.
    gain = torch.cat([(part.slopes - part.slope(part.mean)).flatten() for part in parts]) / (1 - 1 / masks)
    saturated = torch.cat([part.saturated.flatten() for part in parts])
    means, gains = everywhere[saturated], gain[saturated]
    shape: Function = module.shape  # type: ignore[assignment]
    height, width, note = _solve(shape, means, gains, _cap(shape, parts[0].activation))
    s = shape(means / width)
    return LayerFit(
        layer=layer,
        height=height,
        width=width,
        net_variance=torch.cat([part.variance.flatten() for part in parts]).mean().item(),
        saturated=means.numel(),
        dropout_gain=gains.mean().item(),
        gaaf_gain=height * s.mean().item(),
        dropout_reach=_reach(means, gains),
        gaaf_reach=_reach(means, s),
        dropout_gain_elsewhere=gain[~saturated].mean().item(),
        gaaf_gain_elsewhere=height * shape(everywhere[~saturated] / width).mean().item(),
        note=note,
    )


def _cap(shape: Function, activation: Activation | None) -> float:
    """Return the height at which the shape is nowhere above sup|phi'|, as the paper's are not."""
    line = torch.linspace(-32, 32, 6401, dtype=torch.float64)
    highest = shape(line).abs().max().item()
    return (1.0 if activation is None else activation.sup) / highest if highest > 0 else math.inf


def _solve(shape: Function, means: Tensor, gains: Tensor, cap: float) -> tuple[float, float, str]:
    """Return height and width for the gains at the means, and what kept both equations from holding, if so."""
    if means.numel() < LEAST:
        return 0.0, 1.0, f"{means.numel()} net values in the saturation area, fewer than {LEAST}: height 0"
    gain = gains.mean().item()
    if not shape(means).any() and math.isinf(cap):
        return 0.0, 1.0, "the shape is zero everywhere: height 0"
    if not gain > NO_GAIN:
        return 0.0, 1.0, "dropout makes no more gradient in the saturation area: height 0"

    def of(log_width: float) -> Tensor:
        return shape(means / math.exp(log_width))

    wanted = _reach(means, gains)
    log_width, found = _root(lambda u: _reach(means, of(u)) - wanted)
    height = gain / max(of(log_width).mean().item(), 1e-300)  # a shape of 0 everywhere: too high for any cap
    if height <= cap:
        note = "" if found else "no width reaches as far as dropout's gain: the nearest one"
        return height, math.exp(log_width), note
    log_width, found = _root(lambda u: cap * of(u).mean().item() - gain)
    if found:
        return cap, math.exp(log_width), "reach left open: it would take a shape higher than sup |phi'|"
    return cap, math.exp(log_width), "gain out of reach for a shape no higher than sup |phi'|"


def _root(function: Callable[[float], float]) -> tuple[float, bool]:
    """Return where a function of the width's logarithm is zero, or else nearest to it at an end, and whether it is."""
    low, high = map(math.log, WIDTHS)
    while low < 0 and math.isnan(function(low)):  # so narrow that the shape underflows at every net value
        low += math.log(2) / 4
    ends = function(low), function(high)
    if ends[0] * ends[1] > 0 or math.isnan(ends[0] * ends[1]):
        return (low if abs(ends[0]) < abs(ends[1]) else high), False
    from scipy.optimize import brentq  # noqa: PLC0415 - who only uses GAAF need not wait for scipy

    return brentq(function, low, high, xtol=1e-10), True


def _reach(means: Tensor, gains: Tensor) -> float:
    total = gains.sum()
    return ((means.abs() * gains).sum() / total).item() if total != 0 else math.nan
