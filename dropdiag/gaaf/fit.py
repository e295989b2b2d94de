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
from dropdiag.gaaf.calls import FunctionCalls, calls_of
from dropdiag.gaaf.shapes import Function
from dropdiag.measure.under_masks.gains import Gains, Sample, gains
from dropdiag.model.activations import Activation
from dropdiag.model.sites import Site

if TYPE_CHECKING:
    import pandas as pd

WIDTHS: Final = (1 / 16, 16.0)
"""Between which factors the width is looked for."""
LEAST: Final = 10
"""So many net values in the saturation area are needed."""
ENOUGH: Final = 500
"""With fewer net values in the saturation area, halves of the masks would add more scatter than they take off bias."""
MOVED: Final = 0.25
"""If half of the masks put by this share more net values (or fewer) into the saturation area, there is no telling how
many belong there: their number is then not corrected for."""
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
        Net values whose mean over all masks lies in the saturation area: those of the fit.
    dropout_gain, gaaf_gain : float
        Mean over them of ``E phi'(z) - phi'(m)``, and of s(m). Equal, unless `note` says why not.
    dropout_reach, gaaf_reach : float
        Mean abs(m) of those net values, weighted by the gain: how far out the gradient comes.
    dropout_gain_elsewhere, gaaf_gain_elsewhere : float
        The same means over the net values outside the saturation area, which take no part in the fit. There dropout
        lowers the derivative of most activation functions, and no shape of this family follows it.
    note : str
        Empty, or what kept the equations from being solved, or the gain from being corrected for the number of masks.

    Examples
    --------
    >>> done = dd.gaaf.replace(model)
    >>> layer = dd.gaaf.fit(model, batch, masks=8)[0]
    >>> layer.layer, layer.net_variance > 0
    ('act1', False)
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

    Examples
    --------
    >>> done = dd.gaaf.replace(model)
    >>> fitted = dd.gaaf.fit(model, batch, p=0.5, masks=8)
    >>> len(fitted), fitted.p, fitted.masks
    (2, 0.5, 8)
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
        """One row a layer, with the attributes of `LayerFit` as columns.

        Examples
        --------
        >>> done = dd.gaaf.replace(model)
        >>> dd.gaaf.fit(model, batch, masks=8).table["layer"].unique().tolist()
        ['act1', 'act2']
        """
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
        With GAAF in the place of modules or functions (see `dropdiag.gaaf.replace`). Only heights and widths are
        changed.
    batch : Tensor, sequence or mapping
        What the model is called with. A few hundred samples give as many net values a node.
    p : float, default 0.5
        Dropout rate in [0, 1). A model with dropout modules takes it in each of them while it is measured, where they
        are in training mode; in one without, a dropout is set on the node values of every activation. 0 gives the
        height 0.
    masks : int, default 64
        At least 2.
    include, exclude : pattern or patterns, optional
        Shell patterns for the names of GAAF modules, and of the sites of functions.
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
        If the model has no GAAF, one has a surrogate, or as `dropdiag.measure.net_variance`; nothing is changed then.

    Notes
    -----
    With m_i the mean of net value i over masks and e_i = E phi'(z_i) - phi'(m_i), height h and width w solve, over the
    net values in the saturation area of phi, ::

        sum_i h s(m_i/w) = sum_i e_i        and        sum_i |m_i| h s(m_i/w) = sum_i |m_i| e_i

    where s is to be nowhere above sup |phi'|, as the paper's shapes are not. A shape that could follow both
    equations only by being higher (dropout's gain reaches no further than the border of the area) takes that height,
    and its width is solved from the first equation alone; ``note`` says so.

    Means over net values are those of very many masks, as far as `masks` tell: what a few masks bias is taken off to
    first order in 1/masks (see `dropdiag.measure.under_masks.gains`). The mean gain is then within about 2 % of its
    value under very many masks from 16 masks on, beside a scatter from one seed to the next that more net values make
    smaller; ``docs/gaaf.md`` has the table. Where the correction would be too large to be trusted, since half as many
    masks would put a quarter more net values into the saturation area or fewer, values are only set apart from their
    means and ``note`` says so: take more masks. So it is, without a note, for fewer than 500 net values in the area,
    whose scatter is larger, and with two or three masks, of which there are no halves to compare.

    The net variance changes as the weights do: fit again, say, before every epoch. A layer that no mask reaches, or
    without net values in its saturation area, gets the height 0: there dropout makes no gradient that GAAF could
    imitate. What dropout does to the gradient in other ways (it trains a network that fits its data less well, so that
    dL/dh is larger) is not in this equation.

    Examples
    --------
    >>> done = dd.gaaf.replace(model)
    >>> fitted = dd.gaaf.fit(model, batch, p=0.5, masks=8)
    >>> [layer.layer for layer in fitted]
    ['act1', 'act2']
    """
    calls = calls_of(model) if isinstance(model, nn.Module) else None
    if not isinstance(model, nn.Module) or not (calls or any(isinstance(module, GAAF) for module in model.modules())):
        raise ArgumentError(
            "the model has no GAAF to fit; dropdiag.gaaf.replace(model) puts it in the activations' place"
        )
    chosen: dict[str, list[Gains]] = {}
    found_at: dict[str, GAAF] = {}
    for part in gains(model, batch, masks, p=p, include=include, exclude=exclude, seed=seed):
        if (gaaf := _gaaf_at(part.site, calls)) is not None:
            found_at[part.site.layer] = gaaf
            chosen.setdefault(part.site.layer, []).append(part)
    if not chosen:
        raise ArgumentError("none of the chosen layers is a GAAF, or none was called")
    layers = tuple(_fit_layer(layer, found_at[layer], parts) for layer, parts in chosen.items())
    for found in layers if apply else ():
        found_at[found.layer].height, found_at[found.layer].width = found.height, found.width
    return Fit(layers=layers, p=p, masks=masks)


@dataclass(frozen=True)
class _NetValues:
    """Means of net values over masks, their gains and the weights with which they count; one-dimensional.

    Those of all masks count more than once and those of halves of the masks less than none, see
    `dropdiag.measure.under_masks.gains`.
    """

    means: Tensor
    gains: Tensor
    weights: Tensor

    def where(self, chosen: Tensor) -> _NetValues:
        return _NetValues(self.means[chosen], self.gains[chosen], self.weights[chosen])

    def mean(self, values: Tensor) -> float:
        """Mean of a value for each; NaN where none counts."""
        return (self.weights @ values / self.weights.sum()).item()

    def reach(self, gains: Tensor) -> float:
        """Mean distance from 0, weighted by a gain for each; NaN where there is none."""
        total = self.weights @ gains
        return (self.weights @ (self.means.abs() * gains) / total).item() if total > 0 else math.nan


def _gaaf_at(site: Site, calls: FunctionCalls | None) -> GAAF | None:
    """Return the GAAF that stands at a site, None where none does."""
    gaaf = site.module if not site.functional and isinstance(site.module, GAAF) else None
    if site.functional and site.phi is not None and calls is not None:
        name = str(site.activation).partition("(")[0]
        gaaf = (
            calls.gaafs.made(site.layer, str(site.activation), name, site.phi) if name in calls.gaafs.wanted else None
        )
    if gaaf is not None and gaaf.surrogate is not None:
        raise ArgumentError(f"the GAAF of {site.layer} has a surrogate, and no shape to fit: leave it out by exclude=")
    return gaaf


def _fit_layer(layer: str, gaaf: GAAF, parts: Sequence[Gains]) -> LayerFit:
    """Fit one GAAF to all calls of it."""
    variance = torch.cat([part.variance.flatten() for part in parts])
    every, saturated, number, few = _together(parts)
    inside, outside = every.where(saturated), every.where(~saturated)
    shape: Function = gaaf.shape
    height, width, note = _solve(shape, inside, number, _cap(shape, parts[0].activation))
    s = shape(inside.means / width)
    return LayerFit(
        layer=layer,
        height=height,
        width=width,
        net_variance=variance.mean().item(),
        saturated=number,
        dropout_gain=inside.mean(inside.gains),
        gaaf_gain=height * inside.mean(s),
        dropout_reach=inside.reach(inside.gains),
        gaaf_reach=inside.reach(s),
        dropout_gain_elsewhere=outside.mean(outside.gains),
        gaaf_gain_elsewhere=height * outside.mean(shape(outside.means / width)),
        note="; ".join(filter(None, (note, few if height else ""))),
    )


def _together(parts: Sequence[Gains]) -> tuple[_NetValues, Tensor, int, str]:
    """Return the net values of all calls, which are saturated, how many under all masks, and why no halves count."""
    samples = [sample for part in parts for sample in part.samples()]
    whole = [sample for sample in samples if sample.weight > 0]
    number = sum(int(sample.saturated.sum()) for sample in whole)
    by_halves = sum(-sample.weight * int(sample.saturated.sum()) for sample in samples if sample.weight < 0)
    few = ""
    if len(samples) > len(whole) and abs(by_halves - number) > MOVED * number:
        few = f"too few masks to correct for their number: half of them put {by_halves:.0f} net values into the area"
    if few or number < ENOUGH:
        samples = whole

    def joined(values: Callable[[Sample], Tensor]) -> Tensor:
        return torch.cat([values(sample).flatten() for sample in samples])

    weights = joined(lambda sample: torch.full_like(sample.mean, sample.weight))
    every = _NetValues(joined(lambda sample: sample.mean), joined(lambda sample: sample.gain), weights)
    return every, joined(lambda sample: sample.saturated), number, few


def _cap(shape: Function, activation: Activation | None) -> float:
    """Return the height at which the shape is nowhere above sup|phi'|, as the paper's are not."""
    line = torch.linspace(-32, 32, 6401, dtype=torch.float64)
    highest = shape(line).abs().max().item()
    return (1.0 if activation is None else activation.sup) / highest if highest > 0 else math.inf


def _solve(shape: Function, inside: _NetValues, number: int, cap: float) -> tuple[float, float, str]:
    """Return height and width for the gains in the area, and what kept both equations from holding, if so."""
    if number < LEAST:
        return 0.0, 1.0, f"{number} net values in the saturation area, fewer than {LEAST}: height 0"
    means, gain = inside.means, inside.mean(inside.gains)
    if not shape(means).any() and math.isinf(cap):
        return 0.0, 1.0, "the shape is zero everywhere: height 0"
    if not gain > NO_GAIN:
        return 0.0, 1.0, "dropout makes no more gradient in the saturation area: height 0"

    def of(log_width: float) -> Tensor:
        return shape(means / math.exp(log_width))

    wanted = inside.reach(inside.gains)
    log_width, found = _root(lambda u: inside.reach(of(u)) - wanted)
    height = gain / max(inside.mean(of(log_width)), 1e-300)  # a shape of 0 everywhere: too high for any cap
    if height <= cap:
        note = "" if found else "no width reaches as far as dropout's gain: the nearest one"
        return height, math.exp(log_width), note
    log_width, found = _root(lambda u: cap * inside.mean(of(u)) - gain)
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
