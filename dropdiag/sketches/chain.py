"""Mean absolute gradients along the chain of a network's tensors, and which part of each came by the chain."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from dropdiag.sketches.moments import AbsMean

NET, NODE, MASK_INPUT, MASK_OUTPUT, OUTPUT = "net", "node", "mask_input", "mask_output", "output"
"""Tensors of the chain: what enters and leaves an activation or a dropout, and what the network gives."""


class ChainGradient(NamedTuple):
    """The whole gradient of a tensor of the chain, in one backward pass: the mean of its absolute values."""

    kind: str
    mean: AbsMean | None


class Branch(NamedTuple):
    """A tensor between two of the chain that has users off the chain, in one backward pass.

    Attributes
    ----------
    kind : str
        Of the lower tensor of the two.
    place : int
        Of the branching tensor among those between the two; that of the lower tensor itself is 0.
    part, whole : AbsMean
        Of its gradient: what came by the chain, and all of it.
    """

    kind: str
    place: int
    part: AbsMean
    whole: AbsMean


class Unknown(NamedTuple):
    """A tensor of the chain of whose gradient nobody can tell which part came by the chain."""

    kind: str


Told: TypeAlias = ChainGradient | Branch | Unknown
Mean: TypeAlias = float | Tensor | None


class ChainMeans:
    """Means of absolute gradients by the kind of tensor, and of the parts that came by the chain.

    Error: that of float64 sums. Memory: two numbers for each kind of tensor, four for each tensor that branches.

    Parameters
    ----------
    kinds : sequence of str
        Of the tensors whose means are asked for.
    """

    __slots__ = ("_branches", "_passes", "_unknown", "kinds", "means")

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.means: dict[str, AbsMean] = {kind: AbsMean() for kind in kinds}
        self._passes: Counter[str] = Counter()
        self._unknown: set[str] = set()
        self._branches: defaultdict[str, dict[int, tuple[int, AbsMean, AbsMean]]] = defaultdict(dict)

    # Any, as the protocol's argument is a Tensor.
    def update(self, values: Any) -> None:
        """Take in what a backward pass has shown: one of `Told`."""
        told: Told = values
        if type(told) is ChainGradient:
            self._passes[told.kind] += 1
            if told.mean is not None:
                self.means[told.kind].merge(told.mean)
        elif type(told) is Branch:
            self._add(told.kind, told.place, 1, told.part, told.whole)
        else:
            self._unknown.add(told.kind)

    def _add(self, kind: str, place: int, passes: int, part: AbsMean, whole: AbsMean) -> None:
        known = self._branches[kind].get(place)
        if known is None:
            known = 0, AbsMean(), AbsMean()
        known[1].merge(part)
        known[2].merge(whole)
        self._branches[kind][place] = known[0] + passes, known[1], known[2]

    def merge(self, other: ChainMeans) -> None:
        """Take in what another has seen."""
        self._passes.update(other._passes)
        self._unknown |= other._unknown
        for kind, mean in other.means.items():
            self.means.setdefault(kind, AbsMean()).merge(mean)
        for kind, branches in other._branches.items():
            for place, seen in branches.items():
                self._add(kind, place, *seen)

    def mean(self, kind: str) -> tuple[Mean, int]:
        """Return the mean of absolute gradients and how many it is of; None where no gradient came."""
        mean = self.means[kind]
        return (mean.mean() if mean.n else None), mean.n

    def part(self, kind: str) -> tuple[Mean, int] | None:
        """Return the part of a mean that came by the chain, and of how many values; None where nothing branches.

        The part at the lower tensor itself, times part over whole at each tensor on the way to it: (None, 0) where
        that cannot be told for every pass.
        """
        branches = self._branches.get(kind)
        if kind in self._unknown:
            return None, 0
        if not branches:
            return None
        if 0 not in branches or any(passes != self._passes[kind] for passes, _, _ in branches.values()):
            return None, 0
        found: float | Tensor = branches[0][1].mean()
        for place, (_, part, whole) in branches.items():
            if place:
                found = _times(found, _ratio(part.mean(), whole.mean()))
        return found, branches[0][1].n


def _times(one: float | Tensor, other: float | Tensor) -> float | Tensor:
    if isinstance(one, Tensor) and isinstance(other, Tensor):  # of a network whose layers are on several devices
        other = other.to(one.device, non_blocking=True)
    return one * other


def _ratio(part: float | Tensor, whole: float | Tensor) -> float | Tensor:
    # Where nothing comes, as of an output that is multiplied by 0 at first, nothing goes on by the chain.
    if isinstance(part, Tensor) or isinstance(whole, Tensor):
        ratio = torch.as_tensor(part) / torch.as_tensor(whole)
        return torch.where(torch.as_tensor(whole) == 0, torch.zeros_like(ratio), ratio)
    return part / whole if whole else 0.0
