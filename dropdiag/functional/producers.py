"""Which layer made a tensor of the current forward pass, and which of its dimensions count that layer's nodes.

What is known of a tensor is its *trail*. Each function of the forward pass that is known (see `rules`)
makes the trail of its result from those of its arguments; trails are kept beside the tensors and end with the pass.
Nothing here computes with tensors: shapes, strides and identities are all that is looked at.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dropdiag.functional.dimensions import Dims
from dropdiag.functional.layers import Layer, Layers
from dropdiag.sketches.native import PLAIN

_TupleIterator: Final = type(iter(()))


class Trail(NamedTuple):
    """What is known of where a tensor comes from.

    Attributes
    ----------
    layer : Layer or None
        The one whose output it is; None where several meet.
    dims : tuple of int or None
        The dimensions that count nodes, from the end.
    of_weight : bool
        Whether it was made of a weight alone.
    """

    layer: Layer | None
    dims: Dims
    of_weight: bool = False


class Done(NamedTuple):
    """A call of a function, with one of the tensors that it gave."""

    args: Sequence[Any]
    keywords: Mapping[str, Any]
    result: Tensor

    def argument(self, at: int, *names: str, default: Any = None) -> Any:
        """Return an argument, by position or by one of its names."""
        if len(self.args) > at:
            return self.args[at]
        return next((self.keywords[name] for name in names if name in self.keywords), default)


class Producers:
    """The trails of the tensors of one forward pass.

    Parameters
    ----------
    layers : Layers
        Who owns which weight.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._trails: dict[int, tuple[weakref.ref[Tensor], Trail]] = {}

    def clear(self) -> None:
        """Forget all tensors: a forward pass is over."""
        self._trails.clear()

    def trail(self, tensor: object) -> Trail | None:
        """Return what is known of a tensor; None for the network's inputs and what unknown functions made."""
        known = self._trails.get(id(tensor))
        # A number may be used again once its tensor is gone.
        return known[1] if known is not None and known[0]() is tensor else None

    def carry(self, source: Tensor, result: Tensor) -> None:
        """Follow an elementwise operation that no function shows, as that of an activation of a user's own."""
        trail = self.trail(source)
        if trail is not None and self.trail(result) is None and result.shape == source.shape:
            self._keep(result, trail)

    def follow(self, rule: Rule, args: Sequence[Any], keywords: Mapping[str, Any], result: object) -> None:
        """Make the trail of what a function gave."""
        if isinstance(result, Tensor) and type(result) in PLAIN and result.layout is torch.strided:
            trail = rule(self, Done(args, keywords, result))
            if trail is not None:
                self._keep(result, trail)
        elif isinstance(result, _TupleIterator):  # of ``for row in tensor``: what it goes through, without going
            self.follow(rule, args, keywords, result.__reduce__()[1][0])
        elif isinstance(result, (tuple, list)):
            for part in result:
                self.follow(rule, args, keywords, part)

    def _keep(self, tensor: Tensor, trail: Trail) -> None:
        self._trails[id(tensor)] = weakref.ref(tensor), trail

    def known(self, values: Iterable[Any]) -> Iterator[tuple[Tensor, Trail]]:
        """Give the tensors among some arguments that have a trail, or are weights."""
        for value in values:
            if isinstance(value, Tensor):
                trail = self.trail(value)
                if trail is None and (layer := self.layers.owner(value)) is not None:
                    trail = Trail(layer, None, of_weight=True)
                if trail is not None:
                    yield value, trail
            elif isinstance(value, (tuple, list)) and value and isinstance(value[0], Tensor):
                yield from self.known(value)


Rule = Callable[[Producers, Done], Trail | None]
"""Makes the trail of a function's result."""
