"""The variance that dropout gives to net values at fixed input, and the gradient that comes of it.

Dropout makes the net value z of a node random: ``Var(sum_i w_i d_i x_i) > 0``. Where the mean of z lies in the
saturation area, that variance lets z wander to where phi' is not small (Hahn and Choi, arXiv:1806.09783, Figure 4).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dropdiag.deprecation import renamed
from dropdiag.measure.under_masks.masked_passes import MaskedPasses
from dropdiag.measure.under_masks.measured import Measured, closed_form
from dropdiag.measure.under_masks.moments import Moments, check_masks, in_order, twice
from dropdiag.store.net_variance import NetVariance

_AREAS = "dropdiag.measure.under_masks.areas"
__getattr__ = renamed(__name__, {name: f"{_AREAS}:{name}" for name in ("inside", "known_at", "slope_of")})


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

    Examples
    --------
    >>> found = dd.measure.net_variance(model, batch, masks=16)
    >>> [layer.layer for layer in found]
    ['act1', 'act2']
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
