"""Causal co-adaptation: what nodes do to the loss together, beyond what each does alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from dropdiag.errors import ArgumentError
from dropdiag.measure.ablating.ablated_passes import MOST_NODES, AblatedPasses, NodeMeans, Outcome
from dropdiag.measure.ablating.partners import Nodes, Pair, ablated_sets, by_association, interaction, partners
from dropdiag.measure.ablating.result import Ablation, LayerAblation
from dropdiag.measure.passes.arguments import check_count
from dropdiag.measure.passes.loss import LossFunction
from dropdiag.measure.passes.passes import NO_ACTIVATIONS, Passes
from dropdiag.measure.passes.state.random_states import derived
from dropdiag.model.sites import LayerPatterns, select

SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

_NOT_REACHED: Final = "the activation was not called, or gave no floating-point tensor"
_ONE_NODE: Final = "one node has no partner"
_TOO_MANY: Final = f"partners are found among {MOST_NODES:,} nodes at most"
_NO_EFFECT: Final = "no group of nodes alone changes the loss by more than rounding"
_NOT_FINITE: Final = "the loss is not finite"


@dataclass(frozen=True)
class _Plan:
    """What is done at each layer."""

    groups: int
    permutations: int
    shares: tuple[float, ...]
    orders: int
    seed: int


def ablation(
    model: Any,
    batch: Any,
    loss_fn: LossFunction | None = None,
    targets: Any = None,
    *,
    groups: int = 16,
    permutations: int = 20,
    shares: Sequence[float] = SHARES,
    orders: int = 8,
    output: Callable[[Any], Any] | None = None,
    seed: int = 0,
    include: LayerPatterns = None,
    exclude: LayerPatterns = None,
) -> Ablation:
    """Set groups of a layer's nodes to their mean, and see what that does to the loss.

    In evaluation mode, at each call of each activation module. A node is a channel of a convolution (all positions
    together) or a feature of a Linear or of tokens; its mean is that over the batch's samples and positions. ``d_A`` is
    by how much the loss rises when the nodes A are set to their means.

    *Interaction*: ``I = sum(d_AB - d_A - d_B) / sum(|d_A| + |d_B|)`` over pairs of partners (A, B). It is 0 where
    effects add up; above 0 where partners stand in for each other, so that only losing both hurts (redundancy); below
    0 where each is of use only together with the other (-1/2 where losing either is as bad as losing both). Partners
    are groups that vary together: the nodes, in the order of a clustering by the absolute r, are cut into ``groups /
    2`` blocks, and each block's nodes dealt to A and B in turn.

    *Null*: the same of as many groups of the same sizes, made of nodes that are drawn by lot: its mean and standard
    deviation over random regroupings. It is what any nodes of the layer do to each other, as the loss is no sum of
    effects: only an interaction beyond it is one of specific nodes. Partners are made from node values alone, so under
    the hypothesis that it does not matter which nodes are partners, the observed grouping is one of the random ones,
    and `LayerAblation.p` is an exact probability.

    *Curve*: loss and accuracy when a share of the nodes is ablated, a mean over random orders with its standard error.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    batch : Tensor, sequence or mapping
        What the model is called with; where the loss takes targets and none are given, the pair (inputs, targets).
    loss_fn : callable, optional
        ``loss_fn(output)`` or ``loss_fn(output, targets)``; by default cross entropy, where the targets are class
        numbers.
    targets : Tensor, optional
        Class numbers give an accuracy.
    groups : int
        Even; a layer of fewer nodes has fewer.
    permutations : int
        Random regroupings, at least 2.
    shares : sequence of float
        Of the nodes, in [0, 1], rising; none for no curve.
    orders : int
        Random orders in which nodes are ablated, at least 2.
    output : callable, optional
        Takes the logits out of what the model gives, for the accuracy.
    seed : int
        Of regroupings and orders; each layer's are its own, so that they do not depend on which layers are chosen.
    include, exclude : pattern or patterns, optional
        Which activations are measured.

    Returns
    -------
    Ablation
        A layer that has no interaction says why.

    Raises
    ------
    ArgumentError
        Before anything runs, for arguments out of range, and as `Passes`; for a model without activations.

    Notes
    -----
    Cost: 1 forward pass, and for each call of a layer ``1.5 groups (1 + permutations)`` and ``orders`` for each share
    that is neither 0 nor 1, which takes one: 577 by default. No backward pass. Memory: m^2 numbers for m nodes.

    I has no upper bound: where no group alone matters, it is large. It grows with the size of the groups (compare it at
    the same `groups`), and rises towards 1 and more for a network that is robust to the loss of any group, as one that
    was trained with dropout may be: it says how nodes depend on each other, not whether that is good.
    A node at its mean is not at a value that the layers above never see, but combinations of such nodes may be.

    Examples
    --------
    >>> found = dd.measure.ablation(model, x, F.cross_entropy, y, groups=4, permutations=2)
    >>> [layer.layer for layer in found.layers]
    ['act1', 'act2']
    """
    plan = _checked(_Plan(groups, permutations, _numbers(shares), orders, seed))
    passes = Passes(model, batch, loss_fn, targets, needs_loss=True)
    passes.find_calls(evaluation=True)
    if not passes.activations:
        raise ArgumentError(NO_ACTIVATIONS)
    sites = [site for site in select(passes.activations, include, exclude) if site.skipped is None]
    with passes.ready(seed, evaluation=True):
        runs = AblatedPasses(passes, output)
        clean, seen = runs.clean(sites)
        layers = [_layer(runs, clean, layer, plan) for layer in seen.values()]
    reached = {name for name, _ in seen}
    layers += [LayerAblation(site.layer, why=_NOT_REACHED) for site in sites if site.layer not in reached]
    return Ablation(
        passes.count, seed, tuple(layers), plan.shares, orders, permutations, groups, runs.no_accuracy or None
    )


def _numbers(shares: object) -> tuple[float, ...]:
    kinds = (int, float)
    if isinstance(shares, str) or not isinstance(shares, Sequence) or not all(isinstance(x, kinds) for x in shares):
        raise ArgumentError(f"shares must be a sequence of numbers that rise from 0 to 1 at most, got {shares!r}")
    return tuple(map(float, shares))


def _checked(plan: _Plan) -> _Plan:
    check_count("groups", plan.groups, least=2)
    check_count("permutations", plan.permutations, least=2)
    check_count("orders", plan.orders, least=2)
    if plan.groups % 2:
        raise ArgumentError(f"groups must be an even number, as groups are paired; got {plan.groups}")
    if any(not 0 <= share <= 1 for share in plan.shares) or list(plan.shares) != sorted(set(plan.shares)):
        raise ArgumentError(f"shares must rise from 0 to 1 at most, got {plan.shares}")
    return plan


@dataclass
class _Rises:
    """By how much the loss rises without some nodes of a layer; a group that was ablated before is not again."""

    runs: AblatedPasses
    layer: NodeMeans
    clean: Outcome
    known: dict[bytes, float] = field(default_factory=dict)

    def __call__(self, nodes: Nodes) -> float:
        key = np.sort(nodes).tobytes()
        if key not in self.known:
            self.known[key] = self.runs.without(self.layer, nodes).loss - self.clean.loss
        return self.known[key]


def _layer(runs: AblatedPasses, clean: Outcome, layer: NodeMeans, plan: _Plan) -> LayerAblation:
    found = LayerAblation(layer.site.layer, layer.call, layer.nodes)
    if not math.isfinite(clean.loss):
        return replace(found, why=_NOT_FINITE)
    generator = np.random.default_rng(derived(plan.seed, found.layer, found.call))
    found = replace(found, **_interactions(runs, clean, layer, plan, generator))
    return replace(found, **_curves(runs, clean, layer, plan, generator))


def _interactions(
    runs: AblatedPasses, clean: Outcome, layer: NodeMeans, plan: _Plan, generator: np.random.Generator
) -> dict[str, Any]:
    if layer.nodes < 2 or layer.correlation is None:
        return {"why": _ONE_NODE if layer.nodes < 2 else _TOO_MANY}
    rises = _Rises(runs, layer, clean)

    def value(pairs: list[Pair]) -> float | None:
        return interaction(rises, pairs, least=8 * len(pairs) * runs.epsilon * abs(clean.loss))

    observed = value(partners(by_association(layer.correlation), plan.groups))
    null = [value(partners(generator.permutation(layer.nodes), plan.groups)) for _ in range(plan.permutations)]
    known = [one for one in null if one is not None]
    if observed is None or len(known) < len(null):
        return {"why": _NO_EFFECT}
    if not all(map(math.isfinite, (observed, *known))):
        return {"why": _NOT_FINITE}
    p = (1 + sum(one >= observed for one in known)) / (1 + len(known))
    return {"interaction": observed, "null": float(np.mean(known)), "null_sd": float(np.std(known, ddof=1)), "p": p}


def _curves(
    runs: AblatedPasses, clean: Outcome, layer: NodeMeans, plan: _Plan, generator: np.random.Generator
) -> dict[str, Any]:
    known = {0: clean}  # whichever nodes come first: none of them, or all
    table: list[list[Outcome]] = []
    for _ in range(plan.orders):
        table.append([])
        for nodes in ablated_sets(layer.nodes, plan.shares, generator):
            outcome = known.get(len(nodes)) or runs.without(layer, nodes)
            if len(nodes) == layer.nodes:
                known[len(nodes)] = outcome
            table[-1].append(outcome)
    losses = np.array([[one.loss for one in row] for row in table])
    return {**_curve("loss", losses), **_curve("accuracy", _accuracies(table))}


def _accuracies(table: list[list[Outcome]]) -> Any:
    return np.array([[np.nan if one.accuracy is None else one.accuracy for one in row] for row in table])


def _curve(name: str, values: Any) -> dict[str, tuple[float, ...]]:
    if not values.size or np.isnan(values).all():
        return {}
    # of equal values exactly 0, not what rounding leaves
    error = np.where(np.ptp(values, 0) == 0, 0.0, values.std(0, ddof=1)) / math.sqrt(len(values))
    return {name: tuple(values.mean(0).tolist()), f"{name}_se": tuple(error.tolist())}
