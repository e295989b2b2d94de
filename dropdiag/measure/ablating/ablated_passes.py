"""Passes of a model in which nodes of one layer are set to their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.measure.ablating.partners import Nodes
from dropdiag.measure.passes.classes import AMBIGUOUS, IGNORED, check_classes, logits_of, share_right
from dropdiag.measure.passes.net_values import CallKey
from dropdiag.measure.passes.passes import Passes
from dropdiag.model.sites import Site
from dropdiag.sketches.covariance import Covariance

MOST_NODES: Final = 8192
"""Of so many nodes at most all pairs are correlated."""


@dataclass(frozen=True, eq=False)
class NodeMeans:
    """What was seen of one call of an activation while nothing was ablated.

    Attributes
    ----------
    site : Site
    call : int
    mean : Tensor
        Of each node over samples and positions; of the node values' shape, but for 1 where a dimension counts samples.
    correlation : ndarray of float64, shape (nodes, nodes), or None
        None of more than `MOST_NODES`.
    """

    site: Site
    call: int
    mean: Tensor
    correlation: NDArray[np.float64] | None

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return self.mean.numel()


@dataclass(frozen=True)
class Outcome:
    """Loss and accuracy of a pass; no accuracy where there are no classes."""

    loss: float
    accuracy: float | None


class AblatedPasses:
    """Passes in evaluation mode, all with the same random numbers, if any are drawn.

    Parameters
    ----------
    passes : Passes
        Ready.
    pick : callable, optional
        Takes the logits out of what the model gives.
    """

    def __init__(self, passes: Passes, pick: Callable[[Any], Any] | None) -> None:
        self._passes, self._pick = passes, pick
        self.epsilon = 0.0
        """Relative rounding of the loss."""
        self.no_accuracy: str | None = None
        """Why there is no accuracy."""

    def clean(self, sites: list[Site]) -> tuple[Outcome, dict[CallKey, NodeMeans]]:
        """Make one pass with nothing ablated; return its outcome, and the means of the node values of sites."""
        by_name = {site.layer: site for site in sites}
        seen: dict[CallKey, NodeMeans] = {}

        def see(key: CallKey, h: Tensor) -> None:
            if h.is_floating_point() and h.ndim and h.numel():
                seen[key] = _means(by_name[key[0]], key[1], h)

        with self._passes.on_activations(on_node=see, sites=sites):
            outcome = self._outcome()
        return outcome, seen

    def without(self, layer: NodeMeans, nodes: Nodes) -> Outcome:
        """Make one pass in which some nodes of a layer are set to their mean."""
        with self._ablated(layer, nodes):
            return self._outcome()

    @contextmanager
    def _ablated(self, layer: NodeMeans, nodes: Nodes) -> Iterator[None]:
        chosen = torch.zeros(layer.nodes, dtype=torch.bool, device="cpu")
        chosen[torch.from_numpy(nodes)] = True
        mask = chosen.reshape(layer.mean.shape).to(layer.mean.device)
        in_place = not layer.site.functional and bool(getattr(layer.site.module, "inplace", False))

        def ablate(key: CallKey, h: Tensor) -> Tensor | None:
            if key != (layer.site.layer, layer.call):
                return None
            ablated = torch.where(mask, layer.mean, h)
            # What an activation changed in place may be read under another name than that of its output.
            return h.copy_(ablated) if in_place else ablated

        with self._passes.on_activations(on_node=ablate, sites=[layer.site]):
            yield

    def _outcome(self) -> Outcome:
        self._passes.seed(0)
        output = self._passes.forward()
        loss = self._passes.loss_of(output)
        self.epsilon = torch.finfo(loss.dtype).eps
        return Outcome(float(loss), self._accuracy(output))

    def _accuracy(self, output: Any) -> float | None:
        targets = self._passes.classes
        if self.no_accuracy is None:
            self.no_accuracy = why_no_accuracy(output, targets, self._pick)
        if self.no_accuracy:
            return None
        return share_right(logits_of(output, self._pick), targets)


def why_no_accuracy(output: Any, targets: Any, pick: Callable[[Any], Any] | None) -> str:
    """Return why there is no accuracy; an empty text where there is one."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex() or not targets.ndim:
        return "targets are no class numbers"
    try:
        check_classes(logits_of(output, pick), targets)
    except ArgumentError as error:
        if pick is not None:
            raise
        return str(error)
    if logits_of(output, pick).ndim > 2 and targets.shape == logits_of(output, pick).shape[:-1]:
        return AMBIGUOUS
    return "" if bool((targets != IGNORED).any()) else "no target is a class"


def _means(site: Site, call: int, h: Tensor) -> NodeMeans:
    axis = site.node_axis(h.ndim)
    kept = {d % h.ndim for d in (axis if isinstance(axis, tuple) else (axis,))}
    over = [d for d in range(h.ndim) if d not in kept]
    wide = h if h.device.type == "mps" else h.to(torch.float64)
    mean = (wide.mean(over, keepdim=True) if over else wide).to(h.dtype)
    if mean.numel() > MOST_NODES:
        return NodeMeans(site, call, mean, None)
    seen = Covariance(lambda _: axis, max_nodes=MOST_NODES)
    seen.update(h)
    return NodeMeans(site, call, mean, seen.correlation().cpu().numpy())
