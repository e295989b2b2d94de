"""Gradient flow with and without masks, under weights that were trained with and without dropout.

That more gradient flows in a network which trains with dropout may be the masks' doing at the step itself, or that of
the weights which training with masks has led to. The same batch through both sets of weights, each with and without the
masks of the dropout condition, tells one from the other: a two-by-two design with two main effects and an interaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.flows.carry import Plan, carried, masks_at, masks_behind_activations, own_masks
from dropdiag.measure.flows.flow import FlowUnderMasks, chosen_activations, flow_under_masks
from dropdiag.measure.flows.four_cells import LayerMasksByWeights, MasksByWeights
from dropdiag.measure.passes.arguments import check_count, check_seed
from dropdiag.measure.passes.dropouts.kinds import may_mask
from dropdiag.measure.passes.loss import LossFunction
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.steady import steady_output
from dropdiag.model.sites import LayerPatterns


def masks_by_weights(
    model: nn.Module | Mapping[str, nn.Module],
    batch: object,
    loss_fn: LossFunction | None = None,
    targets: object = None,
    masks: int = 64,
    *,
    dropout: str | None = None,
    sites: Mapping[str, str] | None = None,
    p: float | None = None,
    like: Mapping[str, float] | None = None,
    include: LayerPatterns = None,
    exclude: LayerPatterns = None,
    seed: int = 0,
) -> FlowUnderMasks | MasksByWeights:
    """Measure gradient flow with masks off and on, under the weights of two models or of one.

    Parameters
    ----------
    model : mapping of str to nn.Module, or nn.Module
        Two models of one architecture by condition, as ``{"No dropout": a, "Dropout": b}``: all four cells. Or one: the
        two cells of its own weights, which a run records.
    batch : Tensor, sequence or mapping
        What each model is called with, or the pair (inputs, targets).
    loss_fn : callable, optional
        ``loss_fn(output)`` or ``loss_fn(output, targets)``; without it the cross entropy of whole-number targets.
    targets : Tensor, optional
    masks : int, default 64
        At least 2. Each takes one forward and one backward pass of each model.
    dropout : str, optional
        Whose masks are drawn, where both models have dropouts. Dropouts are on whatever mode they are in.
    sites : mapping of str to str, optional
        Where a mask has no place of its own name in the other model: dropout of the dropout condition -> module of the
        other model behind which it is put. Names shift in an nn.Sequential that has no dropouts.
    p : float, optional
        For one model without dropouts: a mask at this rate behind each activation.
    like : mapping of str to float, optional
        For one model: dropouts, or modules to put one behind -> rate. Its own dropouts that are not named are off.
    include, exclude : pattern or patterns, optional
        Shell patterns for the activations' names.
    seed : int, default 0
        A mask is that of the seed, its number, the dropout's name and call: where shapes agree, both models have the
        same ones.

    Returns
    -------
    MasksByWeights or FlowUnderMasks

    Raises
    ------
    ArgumentError
        For fewer than two masks, models whose activations do not correspond, dropouts in neither model, or in both and
        not the same ones without ``dropout=``, a mask that has no place in the other model, a dropout that cannot be
        switched, noise that is none, and as `dropdiag.measure.passes.passes.Passes`.

    Notes
    -----
    Only dropouts are switched: batch norms and all else are in the modes that they have. What they update are copies.
    A model's own step has masks on in the dropout condition and off in the other, so that ``weights + masks`` is the
    log ratio of the gradient flow that training has.

    Examples
    --------
    >>> found = dd.measure.masks_by_weights(model, batch, F.cross_entropy, y, masks=8)
    >>> [layer.layer for layer in found.layers]
    ['act1', 'act2']
    """
    check_count("masks", masks, 2)
    check_seed(seed)
    asked = _Asked(masks, seed, include, exclude)
    models = {"": model} if isinstance(model, nn.Module) else model
    if not isinstance(models, Mapping) or len(models) not in (1, 2):
        raise ArgumentError(f"give one model, or two by condition: {{'No dropout': a, 'Dropout': b}}; got {model!r}")
    made = {name: Passes(one, batch, loss_fn, targets, needs_loss=True) for name, one in models.items()}
    for passes in made.values():
        passes.find_calls()
    if len(made) == 1:
        if dropout is not None or sites is not None:
            raise ArgumentError("dropout= and sites= are for two models; for one give p= or like=")
        (passes,) = made.values()
        return asked.flow(passes, _plan_of_one(passes, p, like))
    if p is not None or like is not None:
        raise ArgumentError("p= and like= are for one model; of two the masks are those of the dropout condition")
    return _of_two(made, asked, _dropout_condition(made, dropout), sites or {})


@dataclass(frozen=True)
class _Asked:
    """What is measured of each model."""

    masks: int
    seed: int
    include: LayerPatterns
    exclude: LayerPatterns

    def flow(self, passes: Passes, plan: Plan) -> FlowUnderMasks:
        """Measure the flow of one model under a plan of masks."""
        sites = chosen_activations(passes, self.include, self.exclude)
        with passes.ready(self.seed, gradients=True, norms="given"):
            steady_output(passes)
            return flow_under_masks(passes, self.masks, plan, sites)


def _of_two(made: Mapping[str, Passes], asked: _Asked, source: str, sites: Mapping[str, str]) -> MasksByWeights:
    baseline = next(name for name in made if name != source)
    _check_activations(made[source], made[baseline], (source, baseline))
    plans = {source: own_masks(made[source])}
    plans[baseline] = carried(made[source], made[baseline], sites, (source, baseline))
    ours, theirs = (asked.flow(made[name], plans[name]) for name in (source, baseline))
    if len(ours.layers) != len(theirs.layers):
        raise ArgumentError("the activations of both models are not called equally often in a pass")
    both = zip(theirs.layers, ours.layers, strict=True)
    layers = tuple(LayerMasksByWeights(flow.layer, flow.call, before, flow) for before, flow in both)
    return MasksByWeights(baseline, source, layers, asked.masks, ours.cost + theirs.cost, asked.seed)


def _plan_of_one(passes: Passes, p: float | None, like: Mapping[str, float] | None) -> Plan:
    if p is not None and like is not None:
        raise ArgumentError("give p= or like=, not both")
    if like is not None:
        return masks_at(passes, like, "like")
    if p is not None:
        return masks_behind_activations(passes, p)
    plan = own_masks(passes)
    if not plan.own:
        raise ArgumentError(
            "the model has no dropout with a rate above 0: give p= for a mask behind each activation, or like= with "
            "the rates of the dropouts that it is compared with, by name"
        )
    return plan


def _dropout_condition(made: Mapping[str, Passes], wanted: str | None) -> str:
    """Return the condition whose masks are drawn."""
    held = {name: _described(passes) for name, passes in made.items()}
    having = [name for name, dropouts in held.items() if dropouts]
    if wanted is not None:
        if wanted not in having:
            raise ArgumentError(f"dropout={wanted!r} names no model with dropouts; those that have some: {having}")
        return wanted
    if not having:
        raise ArgumentError("neither model has a dropout with a rate above 0, so that there are no masks to draw")
    if len(having) == 2 and held[having[0]] != held[having[1]]:
        told = "; ".join(f"{name!r} has {', '.join(f'{n} ({r})' for n, r in held[name].items())}" for name in having)
        raise ArgumentError(f"both models have dropouts, and not the same ones ({told}): say whose masks, dropout=NAME")
    return having[-1]


def _described(passes: Passes) -> dict[str, float | None]:
    return {site.name: site.rate for site in passes.dropouts if may_mask(site)}


def _check_activations(ours: Passes, theirs: Passes, conditions: Sequence[str]) -> None:
    mine, others = ([(site.layer, site.activation) for site in one.activations] for one in (ours, theirs))
    if [kind for _, kind in mine] != [kind for _, kind in others]:
        told = " and ".join(
            f"{name!r} has {', '.join(f'{layer} ({kind})' for layer, kind in layers) or 'none'}"
            for name, layers in zip(conditions, (mine, others), strict=True)
        )
        raise ArgumentError(f"the activations of both models do not correspond one to one: {told}")
